"""Measure an exported model through its signatures, strings in and strings out: what is served is what is measured."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from tfmi.config import EvaluationConfig
from tfmi.core.errors import DataError, ExportError
from tfmi.data.dataset import FIRST_INDEX, EvaluationSet, Feature, Sequences, UserProfiles, Vocabulary
from tfmi.data.splitting.slicing import whole_rows
from tfmi.evaluation.full_catalogue import RecommendedItems, excluded_items
from tfmi.export.exported_model import ExportedModel
from tfmi.export.profile_inputs import profile_values
from tfmi.export.timestamp_inputs import TIMESTAMPS

log = logging.getLogger(__name__)


def usable_cutoffs(model: ExportedModel, cutoffs: Sequence[int], *, required: bool) -> list[int]:
    """The cutoffs that the model's answers are long enough for.

    Args:
        model: Answers with ``num_results`` items.
        cutoffs: The Ns of metrics @N.
        required: Whether longer ones are an error; otherwise they are left out, and the log says so.

    Raises:
        ExportError: A required cutoff, or every cutoff, is longer than the answers.
    """
    if min(cutoffs) < 1:
        raise ExportError(f"metrics @{min(cutoffs)}: expected numbers of results of at least 1")
    longest = int(model.metadata["widths"]["num_results"])
    usable = sorted(cutoff for cutoff in set(cutoffs) if cutoff <= longest)
    too_long = sorted(set(cutoffs) - set(usable))
    if too_long and (required or not usable):
        raise ExportError(
            f"metrics @{too_long} cannot be measured on this model, which answers with {longest} items; ask for at most {longest}, or "
            f"export with --set export.num_results={max(too_long)}"
        )
    if too_long:
        log.info("Metrics @%s are left out: this model answers with %s items.", too_long, longest)
    return usable


class ServedRanker:
    """Asks an exported model for every user of an evaluation set.

    Args:
        model: The exported model.
        vocabulary: The evaluation data's items. The model knows its own; an id that only one of them knows is unknown to the other.
        profiles: The evaluation data's users, for a model that reads a profile.
        config: Batch size and whether histories are excluded.

    Raises:
        DataError: The profiles lack a feature, or the histories the times, that the model reads.
    """

    def __init__(self, model: ExportedModel, vocabulary: Vocabulary, profiles: UserProfiles | None, config: EvaluationConfig) -> None:
        self._model, self._vocabulary, self._config = model, vocabulary, config
        self._ids = np.array(["", "", *vocabulary.ids], dtype=object)
        self._features = _profile_features(model, profiles)
        self._reads_timestamps = TIMESTAMPS in model.metadata["signatures"]["serving_default"]["inputs"]
        widths = model.metadata["widths"]
        self._history_length, self._num_results = int(widths["history_length"]), int(widths["num_results"])
        if model.metadata["exclude_history"] and not config.leaves_out_history:
            log.info("This model leaves out a user's own history; the configuration's protocol does not, so metrics may differ from it.")

    def rank(self, examples: EvaluationSet) -> RecommendedItems:
        """The model's answers, as indices into the evaluation data's vocabulary (1 for an item it lacks). Shows a progress bar."""
        answers: list[RecommendedItems] = []
        with tqdm(total=len(examples), unit=" users", desc="asking") as progress:
            for start in range(0, len(examples), self._config.batch_size):
                rows = np.arange(start, min(start + self._config.batch_size, len(examples)))
                answers.append(self._ask(whole_rows(examples.histories, rows)))
                progress.update(len(rows))
        if not answers:
            return RecommendedItems(np.zeros([0, self._num_results], np.int32), np.zeros([0, self._num_results], np.float32))
        return RecommendedItems(*(np.concatenate(parts) for parts in zip(*answers, strict=True)))

    def _ask(self, histories: Sequences) -> RecommendedItems:
        request = {"history": self._ids[histories.padded(self._history_length)], **self._timestamps(histories)}
        signature = "serving_default"
        if self._features or self._config.leaves_out_history or histories.negatives is not None:
            signature = "recommend"
            request |= profile_values(self._features, histories.users)
            # The protocol excludes whole histories, of which the model sees only the newest items.
            request["exclude"] = self._ids[excluded_items(histories, self._config.leaves_out_history)]
            request["diversity"] = np.zeros(len(histories), np.float32)
        answer = self._model.predict(signature, request)
        found = [self._vocabulary.index(identifier.decode("utf-8")) for identifier in answer["item_ids"].ravel()]
        return RecommendedItems(np.array(found, dtype=np.int32).reshape(answer["item_ids"].shape), answer["scores"])

    def _timestamps(self, histories: Sequences) -> dict[str, np.ndarray]:
        if not self._reads_timestamps:
            return {}
        times = histories.padded_timestamps(self._history_length)
        if times is None:
            raise DataError("this model reads the time of each event, which the data lacks; name its time column in data.log.columns.time")
        return {TIMESTAMPS: times}


def share_known(items: np.ndarray) -> float:
    """The share of recommended items [U, n] that the evaluation data knows: 0 where a model knows another catalogue."""
    return float((items >= FIRST_INDEX).sum() / max((items > 0).sum(), 1))


def _profile_features(model: ExportedModel, profiles: UserProfiles | None) -> dict[str, Feature]:
    names = [each["feature"] for each in model.metadata["profile_inputs"]]
    known = {} if profiles is None else profiles.features
    missing = sorted(set(names) - set(known))
    if missing:
        raise DataError(f"this model reads the profile features {missing}, which the data lacks; it has {sorted(known)}")
    return {name: known[name] for name in names}

"""``tfmi.Recommender``: models that find items for users in the whole catalogue."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from tfmi.api.answers import check_count, id_list, per_user_ids, ranked_frame
from tfmi.api.estimator import Estimator
from tfmi.api.users import AskedUsers, asked_users, require_known, warn_of_unknown_items
from tfmi.bulk.recommendations import EXCLUDE, HISTORY, RetrieverFields
from tfmi.core.errors import ConfigError, DataError, nearest
from tfmi.data.dataset import FIRST_INDEX
from tfmi.export.retrieval.export_retriever import retrieval_in_memory
from tfmi.export.retrieval.retrieval_signatures import MOST_EXCLUSIONS
from tfmi.export.saving import Answering, InMemory
from tfmi.kinds.base import ModelKind
from tfmi.models.recommender import VectorRecommender

# A signature answers with a fixed number of items; for fewer the rest is left out.
FEWEST_RESULTS = 50


class ItemAnswers(Estimator):
    """What models that answer with items have in common: they are asked about users with histories."""

    def _fields(self, answering: Answering) -> RetrieverFields:
        return RetrieverFields(answering.metadata)

    def _asked(self, users: Any, histories: Any, profiles: Any, timestamps: Any, *, kinds: Mapping[str, str], method: str) -> AskedUsers:
        known = None if self.dataset is None else functools.partial(self.dataset.histories, config=self._config)
        asked = asked_users(users, histories, profiles, timestamps, known=known, kinds=kinds, method=method)
        if histories is not None:
            warn_of_unknown_items(asked.columns[HISTORY], self._known_items, method)
        return asked

    @functools.cached_property
    def _item_ids(self) -> list[str]:
        if self._exported is not None:
            return self._exported.item_ids()
        return list(self.kind.vocabulary(self._data()).ids)

    @functools.cached_property
    def _known_items(self) -> dict[str, int]:
        return {item: place for place, item in enumerate(self._item_ids)}

    def _take(self, *arguments: Any) -> None:
        super()._take(*arguments)
        for name in ("_item_ids", "_known_items"):
            self.__dict__.pop(name, None)

    def _require_items(self, items: list[str], argument: str) -> None:
        require_known(items, self._known_items, argument, lambda item: nearest(item, self._item_ids[:100_000]))


class Recommender(ItemAnswers):
    """Finds items for users: multi-interest and sequential retrievers, and heuristics that count.

    Args:
        system: A system's name (see ``tfmi.SYSTEMS``), the path of a YAML configuration, or a recipe as a mapping.
        **settings: By short name: ``dimension``, ``interests``, ``history_length``, ``temperature``, ``epochs``, ``steps``,
            ``batch_size``, ``learning_rate``, ``seed``, ``monitor``, ``patience``, ``cutoffs``; or by dotted key of the configuration,
            ``**{"model.readout.name": "max_sim"}``.

    Example:
        >>> import tfmi
        >>> recommender = tfmi.Recommender("mind", dimension=16, interests=2, **{"training.max_epochs": 1})
        >>> recommender.config.model.extractor["num_interests"], recommender.config.training.max_epochs
        (2, 1)
        >>> recommender
        <tfmi.Recommender mind, not fitted>
    """

    shortcuts: ClassVar[Mapping[str, str]] = {
        "dimension": "model.dimension",
        "interests": "model.extractor.num_interests",
        "history_length": "data.history_length",
        "temperature": "model.temperature",
        "normalize": "model.normalize",
    }
    a_model = "models that retrieve"

    @classmethod
    def accepts(cls, kind: ModelKind[Any, Any, Any]) -> bool:
        """See ``Estimator.accepts``."""
        return kind.is_retriever

    def recommend(
        self,
        users: Any = None,
        *,
        n: int = 10,
        histories: Any = None,
        profiles: Any = None,
        timestamps: Any = None,
        exclude: Any = None,
        diversity: float = 0.0,
    ) -> pd.DataFrame:
        """The best items of users.

        Args:
            users: Ids of users of the data; what they did in all of it is their history.
            n: Items per user.
            histories: Instead of users: a list of item ids for each, oldest first. Unknown items are left out, which is logged.
            profiles: Beside or instead of histories: a mapping from field to value for each user, or a table.
            timestamps: For models that read times: seconds for each item of each history.
            exclude: Items never to answer with: one list for all users, or a list for each.
            diversity: How much repeating an item's category costs, 0 or more; needs a catalogue with categories.

        Returns:
            A row for each answer, best first: ``user`` (the id, or the place in ``histories``), ``rank`` from 1, ``item``, ``score``, and
            ``interest``, the interest that found it (-1: a user of whom nothing is known gets what is popular).

        Raises:
            ConfigError: It is not fitted, or neither or both of users and histories are given.
            DataError: An unknown user, or values of a wrong type.
        """
        self._require("recommend")
        n = check_count(n)
        if isinstance(diversity, bool) or not isinstance(diversity, int | float | np.number) or not diversity >= 0:
            raise DataError(f"diversity: expected a number of at least 0, got {diversity!r}")
        probe = self._answers(n, 0)
        fields = self._fields(probe)
        kinds = {name: kind for name, kind in fields.kinds.items() if kind in ("categorical", "number", "multi_valued")}
        asked = self._asked(users, histories, profiles, timestamps, kinds=kinds, method="recommend")
        excluded = per_user_ids(exclude, "exclude", len(asked))
        columns = {**asked.columns, EXCLUDE: excluded, "diversity": np.full(len(asked), diversity)}
        if diversity > 0 and not probe.metadata["diversity"]:
            raise ConfigError("diversity: the catalogue has no categories to be diverse in; give items= with a column of categories")
        widest = max(map(len, excluded), default=0)
        if widest > MOST_EXCLUSIONS:
            raise DataError(f"exclude: expected at most {MOST_EXCLUSIONS} items for a user, got {widest}")
        answering = self._answers(n, widest)
        request = fields.request(columns, len(asked))
        width = int(answering.metadata["widths"]["exclusion_width"])
        request[EXCLUDE] = _padded(request[EXCLUDE], max(width, request[EXCLUDE].shape[1]))
        answer = _in_batches(answering, "recommend", request, len(asked), self._config.evaluation.batch_size)
        found = (answer["item_ids"] != b"") & (np.cumsum(answer["item_ids"] != b"", axis=1) <= n)
        columns_of_answer = {"item": answer["item_ids"], "score": answer["scores"], "interest": answer["interests"]}
        return ranked_frame(asked.names, found, "user", columns_of_answer)

    def similar_items(self, items: Any, n: int = 10) -> pd.DataFrame:
        """The items that are most like others.

        Args:
            items: Ids, one or several.
            n: Neighbours of each.

        Returns:
            A row for each neighbour, best first: ``item``, ``rank``, ``similar`` and ``score``.

        Raises:
            ConfigError: It is not fitted.
            DataError: An unknown item.
        """
        self._require("similar_items")
        n = check_count(n)
        asked = id_list(items, "items")
        self._require_items(asked, "items")
        request = {"item_ids": np.array(asked, dtype=object)}
        answer = _in_batches(self._answers(n, 0), "similar_items", request, len(asked), self._config.evaluation.batch_size)
        found = (answer["item_ids"] != b"") & (np.arange(answer["item_ids"].shape[1]) < n)
        return ranked_frame(asked, found, "item", {"similar": answer["item_ids"], "score": answer["scores"]})

    def user_interests(self, users: Any = None, *, histories: Any = None, profiles: Any = None, timestamps: Any = None) -> list[np.ndarray]:
        """The interests of users as vectors.

        Args:
            users, histories, profiles, timestamps: As in ``recommend``.

        Returns:
            For each user float32 [K, d], a row per active interest; no rows for a user of whom nothing is known.

        Raises:
            ConfigError: It is not fitted, or its system counts and has no vectors.
            DataError: As ``recommend``.
        """
        self._require("user_interests")
        answering = self._answers(1, 0)
        if "user_interests" not in answering.signature_names:
            raise ConfigError(f"user_interests: {self._config.system!r} counts; it has no vectors")
        fields = self._fields(answering)
        kinds = {name: kind for name, kind in fields.kinds.items() if kind in ("categorical", "number", "multi_valued")}
        asked = self._asked(users, histories, profiles, timestamps, kinds=kinds, method="user_interests")
        request = fields.request(asked.columns, len(asked))
        inputs = answering.metadata["signatures"]["user_interests"]["inputs"]
        request = {name: request[name] for name in inputs}
        answer = _in_batches(answering, "user_interests", request, len(asked), self._config.evaluation.batch_size)
        active = np.abs(answer["interests"]).sum(axis=2) > 0
        return [vectors[rows] for vectors, rows in zip(answer["interests"], active, strict=True)]

    def item_vectors(self) -> pd.DataFrame:
        """The vectors of all items, a row for each, by item id: an inner product with an interest is a score.

        Raises:
            ConfigError: It is not fitted, or its system counts and has no vectors.
        """
        self._require("item_vectors")
        if self._exported is not None:
            if "user_interests" not in self._exported.signature_names:
                raise ConfigError(f"item_vectors: {self._config.system!r} counts; it has no vectors")
            vectors = self._exported.item_vectors()
        elif isinstance(self._model, VectorRecommender):
            vectors = self._model.item_vectors().numpy()
        else:
            raise ConfigError(f"item_vectors: {self._config.system!r} counts; it has no vectors")
        return pd.DataFrame(vectors[FIRST_INDEX:], index=pd.Index(self._item_ids, name="item"))

    def _answers(self, n: int, exclusions: int) -> Answering:
        """What answers with ``n`` items or more and takes so many exclusions."""
        if self._exported is not None:
            answered = int(self._exported.metadata["widths"]["num_results"])
            if n > answered:
                raise ConfigError(f"n: this exported model answers with {answered} items; export with export.num_results={n} to get {n}")
            return self._exported
        allotted = self._config.index.allotment() is not None
        num_results = n if allotted else max(n, FEWEST_RESULTS)  # places are allotted among exactly those that are asked for
        width = max(FEWEST_RESULTS, exclusions)
        key = (num_results, width, self._version())
        if key not in self._answering:
            data, config = self._data(), self._config
            widths = {"num_results": num_results, "exclusion_width": width, "filterable": None, "most_results": None}
            export = config.export.model_copy(update=widths)
            index = config.index.model_copy(update={"kind": "exact"})
            made = retrieval_in_memory(self._model, data.catalogue, export=export, index=index, profiles=data.profiles)
            self._answering = {key: InMemory(made)}
        return self._answering[key]


def _padded(ids: np.ndarray, width: int) -> np.ndarray:
    return np.pad(ids, ((0, 0), (0, width - ids.shape[1])), constant_values="") if ids.shape[1] < width else ids


def _in_batches(answering: Answering, signature: str, request: Mapping[str, np.ndarray], rows: int, size: int) -> dict[str, np.ndarray]:
    """The answers to a request of any number of rows, so many at a time."""
    parts = [
        answering.predict(signature, {name: values[start : start + size] for name, values in request.items()})
        for start in range(0, max(rows, 1), size)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

"""How well a ranker predicts clicks on impressions, by part and slice, and what users truly like where that is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfmi.data.impressions.impression_batches import impression_batches
from tfmi.data.impressions.impression_dataset import ImpressionRows, RankingDataset
from tfmi.evaluation.binary_metrics import auc, auc_of_each, click_metrics
from tfmi.evaluation.bootstrap import auc_interval, ratio_intervals
from tfmi.models.ranking.ranker import InterestRanker

# An item of fewer impressions in training is rare.
RARE_IMPRESSIONS = 10


@dataclass(frozen=True)
class Predictions:
    """Logits of n rows: float32 [n] of the prediction, and [n, 1 + C] of the fine and each coarse head."""

    logits: np.ndarray
    heads: np.ndarray


class ImpressionEvaluator:
    """Predicts and measures.

    Args:
        model: The ranker.
        dataset: Where rows come from.
        batch_size: Rows predicted at a time.
    """

    def __init__(self, model: InterestRanker, dataset: RankingDataset, batch_size: int) -> None:
        self._model, self._dataset, self._batch_size = model, dataset, batch_size
        # Once, so that validations share one traced graph.
        self._predict = tf.function(self._all_logits, autograph=False, reduce_retracing=True)

    def predict(self, rows: ImpressionRows) -> Predictions:
        """The logits of rows, in their order."""
        batches = impression_batches(
            rows,
            self._dataset.clicks,
            history_length=self._model.history_length,
            batch_size=self._batch_size,
            seed=0,
            profiles=self._dataset.profiles,
        )
        parts = [self._predict(batch["history"], batch.get("profile"), batch["item"]) for batch in batches.in_order()]
        return Predictions(*(np.concatenate([part[place].numpy() for part in parts]) for place in (0, 1)))

    def _all_logits(self, history: tf.Tensor, profile: dict[str, tf.Tensor] | None, items: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits, heads = self._model.all_logits(history, profile, items[:, None], training=False)
        return logits[:, 0], heads[:, 0]


def impression_metrics(rows: ImpressionRows, logits: np.ndarray) -> dict[str, float]:
    """``click_metrics`` of rows by their labels; what has no value, as an AUC of one outcome alone, is left out."""
    return _known(click_metrics(rows.labels, logits, rows.users))


def impression_intervals(rows: ImpressionRows, logits: np.ndarray, resamples: int = 200) -> dict[str, list[float]]:
    """95 % intervals of ``auc``, ``gauc`` and ``log_loss``: a bootstrap over the users, each with all of their rows."""
    if not len(rows):
        return {}
    _, user = np.unique(rows.users, return_inverse=True)
    logits = np.asarray(logits, np.float64)
    losses = np.logaddexp(0.0, logits) - rows.labels * logits
    intervals = ratio_intervals({"log_loss": (np.bincount(user, weights=losses), np.bincount(user).astype(np.float64))})
    values, counts = auc_of_each(rows.users, rows.labels, logits)
    intervals |= ratio_intervals({"gauc": (values * counts, counts.astype(np.float64))})
    of_auc = auc_interval(rows.users, rows.labels, logits, resamples=resamples)
    return intervals if of_auc is None else {"auc": of_auc, **intervals}


def impression_slices(rows: ImpressionRows, logits: np.ndarray, dataset: RankingDataset) -> dict[str, dict[str, float]]:
    """The metrics of slices of the rows: by how often the item, and whether the user, was seen in training."""
    rare = dataset.catalogue.counts[rows.items] < RARE_IMPRESSIONS
    known = np.isin(rows.users, dataset.train.users)
    slices = {"items:rare": rare, "items:frequent": ~rare, "users:known": known, "users:new": ~known}
    return {
        name: {"rows": float(chosen.sum()), **impression_metrics(rows.take(chosen), logits[chosen])}
        for name, chosen in slices.items()
        if chosen.any()
    }


def truth_metrics(rows: ImpressionRows, logits: np.ndarray, dataset: RankingDataset) -> dict[str, float]:
    """The metrics against what users truly like instead of what they clicked, and agreement with how likely they like it.

    Returns:
        The metrics of ``impression_metrics`` with the true likes as labels; ``preference_correlation``, the rank correlation (Spearman) of
        prediction and true preference; and ``best_auc``, the AUC of the true preference itself, beyond which nothing can be learned.
    """
    liked = dataset.truth["liked"][rows.row_ids]
    preference = dataset.truth["preference"][rows.row_ids]
    return _known(
        {
            **click_metrics(liked.astype(np.float32), logits, rows.users),
            "preference_correlation": rank_correlation(logits, preference),
            "best_auc": auc(liked, preference),
        }
    )


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two arrays [n], equal values sharing their mean rank; NaN if one of them is constant."""
    ranks = [_ranks(values) for values in (first, second)]
    deviations = [values - values.mean() for values in ranks]
    norm = float(np.sqrt(np.square(deviations[0]).sum() * np.square(deviations[1]).sum()))
    return float((deviations[0] * deviations[1]).sum() / norm) if norm else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: np.ndarray = (ends - (counts - 1) / 2)[inverse]
    return ranks


def _known(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if np.isfinite(value)}

"""Metrics of groups of users: the same ranking, measured on some of its rows at a time.

A slicing is a function from an evaluation set to rows by label; another one is one more function in ``SLICINGS``. Slices look at whole
histories, not at the newest ``history_length`` items that a model sees: the same users stand in a slice whatever the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from tfmi.data.dataset import FIRST_INDEX, Catalogue, EvaluationSet, Sequences
from tfmi.data.splitting.slicing import whole_rows
from tfmi.evaluation.metrics import NdcgIdeal, is_in_row, ranking_metrics

Rows = dict[str, np.ndarray]
Slicing = Callable[[EvaluationSet, Catalogue], Rows]

# A bin goes from its bound to just below the next; the last has no end.
HISTORY_LENGTHS = (0, 1, 5, 10, 20)
CATEGORY_COUNTS = (0, 1, 2, 3)


def by_history_length(examples: EvaluationSet, catalogue: Catalogue) -> Rows:
    """Users by the number of known items in their history, repeats counted: "0", "1-4", "5-9", "10-19", "20+"."""
    del catalogue
    histories = examples.histories
    return _bins(_sums(histories, histories.items >= FIRST_INDEX), HISTORY_LENGTHS)


def by_history_categories(examples: EvaluationSet, catalogue: Catalogue) -> Rows:
    """Users by the number of distinct categories of their history's items: "0", "1", "2", "3+".

    Each item of unknown category is a category of its own. Nothing for a catalogue without categories.
    """
    categories = catalogue.category_indices()
    if categories is None:
        return {}
    histories = examples.histories
    items = histories.items.astype(np.int64)
    # Distinct negative numbers for what shares a category with nothing.
    kinds = np.where(categories[items] > 0, categories[items], -items)
    users = np.repeat(np.arange(len(histories)), histories.lengths())
    known = items >= FIRST_INDEX
    distinct = np.unique(np.stack([users[known], kinds[known]]), axis=1)  # [2, distinct pairs]
    return _bins(np.bincount(distinct[0], minlength=len(histories)), CATEGORY_COUNTS)


def by_target_repetition(examples: EvaluationSet, catalogue: Catalogue) -> Rows:
    """Examples by whether their target stands in their own history: "repeat", "new". An unknown target (1) is new.

    Nothing where an example has several targets, of which some may be repeats and others new.
    """
    del catalogue
    targets, histories = examples.targets, examples.histories
    lengths = targets.lengths()
    if lengths.max(initial=0) > 1:
        return {}
    with_target = np.flatnonzero(lengths)
    target = targets.items[:, None]  # [examples with a target, 1]
    repeats = (is_in_row(target, whole_rows(histories, with_target)) & (target >= FIRST_INDEX))[:, 0]
    return {"repeat": with_target[repeats], "new": with_target[~repeats]}


# A slice is called "<name of its slicing>:<label>".
SLICINGS: Mapping[str, Slicing] = {"history": by_history_length, "categories": by_history_categories, "target": by_target_repetition}


def sliced_metrics(
    recommended: np.ndarray, examples: EvaluationSet, catalogue: Catalogue, *, cutoffs: Sequence[int], ndcg_ideal: NdcgIdeal = "targets"
) -> dict[str, dict[str, float]]:
    """The metrics of every slice of the users.

    Args:
        recommended: int32 [U, W] as for ``ranking_metrics``: everybody's list, ranked once.
        examples: The U users.
        catalogue: The items, with their categories if there are any.
        cutoffs, ndcg_ideal: As for ``ranking_metrics``.

    Returns:
        By slice ("history:5-9"): ``users``, how many of them have a target, and the ``ranking_metrics`` of these. Slices without
        such a user are left out. Coverage is still a share of the whole catalogue, which a small slice cannot fill.
    """
    measured: dict[str, dict[str, float]] = {}
    has_target = examples.targets.lengths() > 0
    for name, slicing in SLICINGS.items():
        for label, members in slicing(examples, catalogue).items():
            rows = members[has_target[members]]
            if not len(rows):
                continue
            metrics = ranking_metrics(
                recommended[rows],
                whole_rows(examples.targets, rows),
                cutoffs=cutoffs,
                num_rows=catalogue.num_rows,
                categories=catalogue.category_indices(),
                ndcg_ideal=ndcg_ideal,
            )
            measured[f"{name}:{label}"] = {"users": len(rows), **metrics}
    return measured


def _sums(sequences: Sequences, values: np.ndarray) -> np.ndarray:
    """int64 [rows]: the sum of ``values`` [events] over each row, 0 for an empty one."""
    running = np.concatenate([[0], np.cumsum(values)])
    return running[sequences.offsets[1:]] - running[sequences.offsets[:-1]]


def _bins(values: np.ndarray, bounds: tuple[int, ...]) -> Rows:
    """The rows whose value lies in each bin of integers."""
    place = np.searchsorted(bounds, values, side="right") - 1
    labels = [f"{low}-{high - 1}" if high - low > 1 else str(low) for low, high in pairwise(bounds)]
    return {label: np.flatnonzero(place == bin_) for bin_, label in enumerate([*labels, f"{bounds[-1]}+"])}

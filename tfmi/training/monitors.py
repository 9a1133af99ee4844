"""Which validation metric decides when training ends and which weights are kept, where it can tell one model from another.

Recall at 50 of a catalogue of 24 items is 1 whatever the model: training would end at once, with the first weights. So the metric is chosen
for the catalogue and the validation users (``training.monitor: auto``), and one that was asked for but cannot move is replaced.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from tfmi.config import EvaluationConfig
from tfmi.data.dataset import FIRST_INDEX, EvaluationSet
from tfmi.evaluation.metrics import is_in_row

log = logging.getLogger(__name__)

AUTO = "auto"
# What recall is watched at if it can move there.
USUAL_CUTOFF = 50
# With fewer targets a recall has so few values that two models often share one; ranks tell them apart.
FEW_TARGETS = 100


@dataclass(frozen=True)
class Monitor:
    """What training watches.

    Attributes:
        name: A validation metric.
        others: What to turn to, in this order, if the metric has not moved between the first two validations.
        why: Why it is not the usual one; empty if it is.
    """

    name: str
    others: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Rankable:
    """What validation can tell.

    Attributes:
        items: The items that compete for the places of a list, for the user with the most of them.
        targets: Targets that a list can hold.
    """

    items: int
    targets: int


def rankable(examples: EvaluationSet, num_items: int, exclude_history: bool) -> Rankable:
    """Count what lists for ``examples`` are made of, of a catalogue with ``num_items`` items."""
    histories, targets = examples.histories, examples.targets
    known = targets.items >= FIRST_INDEX
    if not exclude_history:
        return Rankable(num_items, int(known.sum()))
    rows = np.repeat(np.arange(len(targets)), targets.lengths())
    own = _in_own_history(examples)
    pairs = np.unique(np.repeat(np.arange(len(histories)), histories.lengths()) * (num_items + FIRST_INDEX) + histories.items)
    pairs = pairs[pairs % (num_items + FIRST_INDEX) >= FIRST_INDEX]
    excluded = np.bincount(pairs // (num_items + FIRST_INDEX), minlength=len(histories))
    tested = np.unique(rows)
    fewest = int(excluded[tested].min()) if len(tested) else 0
    return Rankable(num_items - fewest, int((known & ~own).sum()))


def _in_own_history(examples: EvaluationSet) -> np.ndarray:
    """bool [targets]: whether each target's item is in the history of its own row."""
    lengths = examples.targets.lengths()
    width = int(lengths.max(initial=0))
    padded = examples.targets.padded(width)  # [rows, width], a shorter row's targets first
    inside = np.arange(width) < lengths[:, None]
    return is_in_row(padded, examples.histories)[inside]


def can_move(metric: str, rankable_items: int) -> bool:
    """Whether a metric such as "recall@50" can differ from model to model where so many items compete."""
    name, _, cutoff = metric.partition("@")
    return rankable_items > (1 if name in ("ndcg", "mrr") else int(cutoff))


def retrieval_monitor(requested: str, evaluation: EvaluationConfig, examples: EvaluationSet, num_items: int) -> Monitor:
    """Choose what a retriever's training watches.

    Args:
        requested: ``training.monitor``: a metric, or "auto".
        evaluation: The cutoffs, and whether histories are excluded.
        examples: The validation users.
        num_items: Items of the catalogue.

    Returns:
        The metric that was asked for, if it can move. Else, and for "auto", recall at 50, or at the largest cutoff at which no more than
        half of the items fit into a list; NDCG there if there are few targets; NDCG at the smallest cutoff if every list is that long.
    """
    there = rankable(examples, num_items, evaluation.leaves_out_history)
    if requested != AUTO and can_move(requested, there.items):
        return Monitor(requested)
    cutoffs = evaluation.cutoffs
    short = [cutoff for cutoff in cutoffs if 2 * cutoff <= there.items]
    cutoff = USUAL_CUTOFF if USUAL_CUTOFF in short else max(short, default=min(cutoffs))
    few = there.targets < FEW_TARGETS
    name = f"ndcg@{cutoff}" if few or not short else f"recall@{cutoff}"
    reasons = []
    if cutoff < min(USUAL_CUTOFF, max(cutoffs)) or not short:
        reasons.append(f"{there.items:,} items compete for the places of a list")
    if few:
        reasons.append(f"there are {there.targets:,} validation targets")
    others = (f"ndcg@{cutoff}", f"mrr@{cutoff}", *(f"recall@{shorter}" for shorter in reversed(short) if shorter < cutoff))
    if requested == AUTO:
        return Monitor(name, tuple(other for other in others if other != name), " and ".join(reasons))
    why = f"training.monitor {requested} is the same for every model where {there.items:,} items compete for the places of a list"
    return Monitor(name, tuple(other for other in others if other != name), why)


def simple_monitor(requested: str, usual: str, *others: str) -> Monitor:
    """What a model watches whose metrics have no lists: as requested; with the usual metric, others to turn to."""
    return Monitor(usual, others) if requested in (AUTO, usual) else Monitor(requested)

"""Whether lists leave out what a user already has: decided from the data where the configuration does not say.

Where users hardly ever come back to an item, their own items are nearly always wrong answers, and often the best scored ones. Where they
do come back, leaving them out would lose the right ones.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tfmi.config import RunConfig
from tfmi.data.dataset import FIRST_INDEX, EvaluationSet, InteractionDataset

# Up to this share of events that repeat an item of their user, own items are left out by default.
RARE_REPEATS = 0.05
# Datasets whose files come with a protocol, by which published figures are measured: own items stay in.
WITH_PROTOCOL = ("comirec", "sessions")


@dataclass(frozen=True)
class OwnItemsRule:
    """What becomes of items that a user already has.

    Attributes:
        excluded: Whether lists leave them out, in evaluation.
        excluded_in_export: The same of the exported model's answers.
        repeat_share: Of the validation users' events after their first, the share that repeats an item; None without such events.
        why: What decided.
    """

    excluded: bool
    excluded_in_export: bool
    repeat_share: float | None
    why: str

    def report(self) -> dict[str, Any]:
        """The same as plain values, for reports."""
        return asdict(self)


def repeat_share(examples: EvaluationSet) -> float | None:
    """Of the events of every row but its first, the share whose item is in the row already; None if there are none."""
    rows, items = [], []
    for part in (examples.histories, examples.targets):
        rows.append(np.repeat(np.arange(len(part)), part.lengths()))
        items.append(part.items)
    row, item = np.concatenate(rows), np.concatenate(items).astype(np.int64)
    row, item = row[item >= FIRST_INDEX], item[item >= FIRST_INDEX]
    later = len(item) - len(np.unique(row))
    if not later:
        return None
    stride = int(item.max()) + 1
    return (len(item) - len(np.unique(row * stride + item))) / later


def decide_own_items(config: RunConfig, dataset: InteractionDataset) -> OwnItemsRule:
    """What ``evaluation.exclude_history`` and ``export.exclude_history`` come to on this data; one that says so decides for the other."""
    evaluation, export = config.evaluation.exclude_history, config.export.exclude_history
    share = repeat_share(dataset.valid)
    if evaluation != "auto" or export != "auto":
        excluded = evaluation if evaluation != "auto" else export is True
        in_export = export if export != "auto" else evaluation is True
        return OwnItemsRule(excluded, in_export, share, "the configuration says so")
    if config.model.repetition is not None:
        return OwnItemsRule(False, False, share, "the model scores own items apart")
    if dataset.name in WITH_PROTOCOL:
        return OwnItemsRule(False, False, share, f"the protocol of {dataset.name} files keeps them in")
    rare = share is not None and share <= RARE_REPEATS
    known = "no user has two events" if share is None else f"{share:.1%} of the events repeat an item of their user"
    return OwnItemsRule(rare, rare, share, f"{known}, {'at most' if rare else 'not at most'} {RARE_REPEATS:.0%}")


def with_own_items_decided(config: RunConfig, dataset: InteractionDataset) -> RunConfig:
    """The configuration with true or false in place of ``exclude_history: auto``."""
    own = decide_own_items(config, dataset)
    evaluation = config.evaluation.model_copy(update={"exclude_history": own.excluded})
    export = config.export.model_copy(update={"exclude_history": own.excluded_in_export})
    return config.model_copy(update={"evaluation": evaluation, "export": export})


def describe_own_items(own: OwnItemsRule) -> str:
    """What is done and why, for people."""
    line = (
        f"Items that a user has already are {'left out of' if own.excluded else 'kept in'} lists ({own.why}; evaluation.exclude_history, "
        "export.exclude_history)"
    )
    if own.excluded != own.excluded_in_export:
        line += f"; the export {'leaves them out' if own.excluded_in_export else 'keeps them'}"
    return line

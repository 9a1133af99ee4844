"""Search further until a stated recall is met: parameters that follow from a catalogue's size fit most vectors, but not all."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from tfmi.index.base import InterestIndex
from tfmi.index.recall import RecallProbe, Searches

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Widening:
    """What came of a target recall.

    Attributes:
        target: The recall asked for; None: nothing was.
        recall: What is found now.
        first: What was found before.
        changed: Parameters that differ now: their values before and now.
    """

    target: float | None
    recall: float
    first: float
    changed: dict[str, tuple[int, int]]

    @property
    def is_met(self) -> bool:
        """Whether at least the target is found, if there is one."""
        return self.target is None or self.recall >= self.target

    def describe(self) -> dict[str, Any]:
        """For the metadata."""
        if self.target is None:
            return {}
        target: dict[str, Any] = {"value": self.target, "met": self.is_met}
        if self.changed:
            target["widened"] = {name: list(values) for name, values in self.changed.items()}
            target["recall_before"] = self.first
        return {"target_recall": target}


def widen_search(index: InterestIndex, probe: RecallProbe, target: float | None, search: Searches | None = None) -> Widening:
    """Widen the search of ``index`` step by step until ``probe`` finds the ``target``, or nothing is left to widen.

    What is measured is ``search``, which asks the index; by default the index itself. Each step takes that one of the index's ways to
    search further which finds most, and all of them where none finds more. A target that is missed is a warning that names the settings.
    """
    search = index if search is None else search
    recall = first = probe.recall(search)
    before = index.parameters()
    while target is not None and recall < target:
        ways = index.wider_searches()
        if not ways:
            break
        current = index.parameters()
        found = []
        for way in ways:
            index.set_search(way)
            found.append(probe.recall(search))
            index.set_search({name: int(current[name]) for name in way})
        gain = max(found) > recall
        # Where no way helps by itself, each may need the other.
        index.set_search(ways[found.index(max(found))] if gain else {name: value for way in ways for name, value in way.items()})
        recall = max(found) if gain else probe.recall(search)
    after = index.parameters()
    changed = {name: (int(before[name]), int(after[name])) for name in after if after[name] != before[name]}
    widening = Widening(target, recall, first, changed)
    if changed:
        steps = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in changed.items())
        log.info("The index found %.4f of the exact answers, so it searches further, and finds %.4f: %s", first, recall, steps)
    if not widening.is_met:
        log.warning("%s", _missed(index, widening, probe))
    return widening


def _missed(index: InterestIndex, widening: Widening, probe: RecallProbe) -> str:
    by_hand = index.settings_by_hand()
    advice = (
        f"raise or leave out {', '.join(f'index.{name}' for name in by_hand)}"
        if by_hand
        else "set index.kind to exact, which misses nothing"
    )
    return (
        f"the index of kind {index.kind} finds {widening.recall:.4f} of the exact best {probe.k}, less than index.target_recall "
        f"({widening.target}): {advice}; or lower index.target_recall"
    )

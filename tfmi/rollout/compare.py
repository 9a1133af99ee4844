"""A shadow comparison: two versions, the same users, and limits on how much may change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfmi.core.errors import ExportError
from tfmi.export.item_details import FEATURE, read_items
from tfmi.rollout.drift import vector_drift
from tfmi.rollout.measures import category_shares, category_shift, latency, overlap, score_shift
from tfmi.rollout.requests import KnownUser
from tfmi.rollout.sides import Answer, FolderSide, Side

BATCH = 64


@dataclass(frozen=True)
class ComparisonLimits:
    """What a new version may change; None: anything.

    Attributes:
        min_overlap: The least mean overlap of the answers' best items.
        max_score_shift: The largest mean size of a change of scores, in standard deviations of the old ones.
        max_category_shift: The largest distance of the two distributions of categories, 0 to 1.
        max_latency_ratio: The largest median latency over the old one's.
        max_empty_share: The largest share of users without an answer.
    """

    min_overlap: float | None = 0.2
    max_score_shift: float | None = None
    max_category_shift: float | None = 0.2
    max_latency_ratio: float | None = 1.5
    max_empty_share: float | None = 0.0


def compare(old: Side, new: Side, users: Sequence[KnownUser], *, cutoffs: Sequence[int], latency_requests: int) -> dict[str, Any]:
    """Ask both versions about all users.

    Args:
        old, new: The versions.
        users: Whom to ask about.
        cutoffs: The n of overlap@n; the first is the one that limits look at.
        latency_requests: How many requests of one user are timed.

    Returns:
        The report, ready for JSON.
    """
    before, after = _answers(old, users), _answers(new, users)
    report: dict[str, Any] = {"old": old.name, "new": new.name, "users": len(users)}
    report["overlap"] = {}
    for cutoff in cutoffs:
        shares = overlap(before, after, cutoff)
        report["overlap"][f"@{cutoff}"] = {"mean": float(shares.mean()), "p5": float(np.percentile(shares, 5))}
    report["score_shift"] = score_shift(before, after)
    report["empty"] = {"old": _empty(before), "new": _empty(after)}
    categories = _categories(old, new)
    if categories:
        first, second = (category_shares(answers, categories, cutoffs[0]) for answers in (before, after))
        largest = sorted({*first, *second}, key=lambda name: -abs(first.get(name, 0.0) - second.get(name, 0.0)))[:10]
        report["categories"] = {
            "shift": category_shift(first, second),
            "changed_most": [{"category": name, "old": first.get(name, 0.0), "new": second.get(name, 0.0)} for name in largest],
        }
    if latency_requests:
        report["latency_ms"] = latency(old, new, users, latency_requests)
    if isinstance(old, FolderSide) and isinstance(new, FolderSide):
        report["vectors"] = _drift(old, new)
    return report


def violations(report: Mapping[str, Any], limits: ComparisonLimits) -> list[str]:
    """What a report says that the limits forbid, in words."""
    (first, found), *_ = report["overlap"].items()
    checks = [
        (f"overlap{first}", found["mean"], limits.min_overlap, "below"),
        ("score shift", report["score_shift"]["size"], limits.max_score_shift, "above"),
        ("category shift", report.get("categories", {}).get("shift"), limits.max_category_shift, "above"),
        ("latency ratio", report.get("latency_ms", {}).get("ratio"), limits.max_latency_ratio, "above"),
        ("share of users without an answer", report["empty"]["new"], limits.max_empty_share, "above"),
    ]
    said = []
    for name, value, limit, direction in checks:
        if value is None or limit is None:
            continue
        # NaN passes no limit: nothing could be compared.
        within = value >= limit if direction == "below" else value <= limit
        if not within:
            said.append(f"{name} {value:.4g} is {direction} the limit of {limit:g}")
    return said


def describe_comparison(report: Mapping[str, Any]) -> str:
    """A report as text for people."""
    lines = [f"old  {report['old']}", f"new  {report['new']}", f"asked about {report['users']} users", ""]
    for name, found in report["overlap"].items():
        lines.append(f"overlap{name:<6} mean {found['mean']:.3f}, 5 % of users below {found['p5']:.3f}")
    shift = report["score_shift"]
    lines.append(
        f"score shift   {shift['mean']:+.3f} standard deviations, size {shift['size']:.3f} ({shift['items']} items in both answers)"
    )
    lines.append(f"no answer     {report['empty']['old']:.1%} of users before, {report['empty']['new']:.1%} after")
    if "categories" in report:
        lines.append(f"categories    shift {report['categories']['shift']:.3f}")
        for each in report["categories"]["changed_most"][:5]:
            lines.append(f"              {each['old']:6.1%} -> {each['new']:6.1%}  {each['category']}")
    if "latency_ms" in report:
        took = report["latency_ms"]
        old, new = took["old"], took["new"]
        lines.append(f"latency       p50 {old['p50']:.2f} -> {new['p50']:.2f} ms, {took['ratio']:.2f} times")
        lines.append(f"              p99 {old['p99']:.2f} -> {new['p99']:.2f} ms")
    if "vectors" in report:
        drift = report["vectors"]
        if "not_compared" in drift:
            lines.append(f"item vectors  not compared: {drift['not_compared']}")
        else:
            lines.append(f"items         {drift['both']} in both, {drift['new']} new, {drift['gone']} gone")
        if "neighbour_overlap" in drift:
            lines.append(f"item vectors  {drift['neighbour_overlap']:.3f} of the {drift['neighbours']} nearest items are the same")
        if "cosine_after_rotation" in drift:
            lines.append(f"              mean cosine {drift['cosine_after_rotation']:.3f} after the best rotation")
    return "\n".join(lines)


def _answers(side: Side, users: Sequence[KnownUser]) -> list[Answer]:
    return [answer for start in range(0, len(users), BATCH) for answer in side.answer(users[start : start + BATCH])]


def _empty(answers: Sequence[Answer]) -> float:
    return sum(not answer.items for answer in answers) / len(answers)


def _categories(*sides: Side) -> dict[str, str]:
    """The category of every item that a version's folder tells; later versions win."""
    categories: dict[str, str] = {}
    for side in sides:
        if side.folder is None:
            continue
        try:
            table = read_items(side.folder)
        except ExportError:
            continue
        if f"{FEATURE}category" in table.column_names:
            categories |= dict(zip(table["item_id"].to_pylist(), table[f"{FEATURE}category"].to_pylist(), strict=True))
    return categories


def _drift(old: FolderSide, new: FolderSide) -> dict[str, Any]:
    try:
        return vector_drift(old.model, new.model)
    except ExportError as error:
        # A heuristic has no vectors.
        return {"not_compared": str(error)}

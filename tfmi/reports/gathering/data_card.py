"""How events spread over items and users."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from tfmi.data.dataset import FIRST_INDEX, Catalogue, InteractionDataset, Sequences
from tfmi.data.impressions.impression_dataset import RankingDataset
from tfmi.data.tags.tag_dataset import TagDataset

CURVE_POINTS = 60
# A bin goes from its bound to just below the next; the last has no end.
LENGTHS = (0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)


def card_of_sequences(data: InteractionDataset) -> dict[str, Any]:
    """The data card of a retriever: popularity of items, lengths of histories, profile and item features."""
    train = data.train
    streamed = not isinstance(train, Sequences)
    lengths = {
        "test histories": _lengths(data.test.histories.lengths()),
        "test targets": _lengths(data.test.targets.lengths()),
    }
    if isinstance(train, Sequences):
        lengths = {"training sequences": _lengths(train.lengths()), **lengths}
    return {
        "popularity": {"training events": popularity_curve(data.catalogue.counts)},
        "lengths": lengths,
        "missing": {"training sequences": "they stream from disk and were not counted one by one"} if streamed else {},
        **_features(data.catalogue, data.profiles.features if data.profiles is not None else {}),
    }


def card_of_impressions(data: RankingDataset) -> dict[str, Any]:
    """The data card of a ranker: popularity by impressions, lengths of click histories, click rates."""
    rates = {name: float(rows.labels.mean()) for name in ("train", "valid", "test") if len(rows := getattr(data, name))}
    clicked = np.bincount(data.train.items, weights=data.train.labels, minlength=data.catalogue.num_rows).astype(np.int64)
    return {
        "popularity": {
            "training impressions": popularity_curve(data.catalogue.counts),
            "training clicks": popularity_curve(clicked),
        },
        "lengths": {"clicks of a user": _lengths(data.clicks.lengths())},
        "click_rates": rates,
        "missing": {},
        **_features(data.catalogue, data.profiles.features if data.profiles is not None else {}),
    }


def card_of_tags(data: TagDataset) -> dict[str, Any]:
    """The data card of a model of tags: popularity of tags for each task, tags that users have, fields."""
    return {
        "popularity": {
            f"training positives, {task}": popularity_curve(data.tag_counts[place]) for place, task in enumerate(data.task_names)
        },
        "lengths": {
            f"tags of a test user before, {task}": _lengths(data.test_tags.own[place].lengths())
            for place, task in enumerate(data.task_names)
        },
        "features": {"fields of users": sorted(data.states.fields)},
        "missing": {},
    }


def popularity_curve(counts: np.ndarray) -> dict[str, Any]:
    """Events by rank of items, most frequent first: at most ``CURVE_POINTS`` ``ranks`` with ``counts`` and the ``share`` of all events up
    to there; how many items have ``none``, and the share of the most frequent ``tenth``."""
    real = np.sort(np.asarray(counts)[FIRST_INDEX:])[::-1].astype(np.float64)
    some = real[real > 0]
    if not len(some):
        return {"ranks": [], "counts": [], "share": [], "none": len(real), "tenth": 0.0}
    share = np.cumsum(some) / some.sum()
    ranks = np.unique(np.geomspace(1, len(some), CURVE_POINTS).round().astype(int))
    return {
        "ranks": ranks.tolist(),
        "counts": some[ranks - 1].astype(int).tolist(),
        "share": share[ranks - 1].tolist(),
        "none": int(len(real) - len(some)),
        "tenth": float(share[max(0, round(len(some) / 10) - 1)]),
    }


def _lengths(lengths: np.ndarray) -> dict[str, Any]:
    """A histogram over ``LENGTHS``, without empty bins at its ends, and a few figures."""
    if not len(lengths):
        return {"names": [], "counts": [], "rows": 0}
    counts = np.bincount(np.searchsorted(LENGTHS, lengths, side="right") - 1, minlength=len(LENGTHS))
    names = [f"{low}–{high - 1}" if high - low > 1 else str(low) for low, high in pairwise(LENGTHS)] + [f"{LENGTHS[-1]}+"]
    there = np.flatnonzero(counts)
    kept = slice(there[0], there[-1] + 1)
    return {
        "names": names[kept],
        "counts": counts[kept].tolist(),
        "rows": len(lengths),
        "median": float(np.median(lengths)),
        "mean": float(lengths.mean()),
        "longest": int(lengths.max()),
    }


def _features(catalogue: Catalogue, of_users: Mapping[str, Any]) -> dict[str, Any]:
    of_items = [*(["title"] if catalogue.titles is not None else []), *sorted(catalogue.features)]
    return {"features": {"of items": of_items, "of users": sorted(of_users)}}

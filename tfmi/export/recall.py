"""How much of the exact answers a search finds, for the metadata."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfmi.index.base import InterestIndex
from tfmi.index.recall import RecallProbe, Searches
from tfmi.index.widening import widen_search

RECALL_QUERIES = 512


def describe_recall(
    search: Searches, index: InterestIndex | None, probe: RecallProbe, of: str, target_recall: float | None
) -> dict[str, Any]:
    """The share of the exact answers that ``search``, which asks ``index``, finds, and what the queries are ``of``.

    An approximate index is widened until it finds ``target_recall``.
    """
    described: dict[str, Any] = {}
    if index is not None and index.is_approximate:
        widening = widen_search(index, probe, target_recall, search)
        value, described = widening.recall, widening.describe()
    else:
        value = probe.recall(search)
    return {"recall": {"at": probe.k, "value": value, "queries": probe.num_queries, "of": of}, **described}


def sample_rows(rows: np.ndarray, most: int = RECALL_QUERIES) -> np.ndarray:
    """At most so many of ``rows`` [M, ...], the same ones every time."""
    if len(rows) <= most:
        return rows
    return rows[np.sort(np.random.default_rng(0).choice(len(rows), size=most, replace=False))]

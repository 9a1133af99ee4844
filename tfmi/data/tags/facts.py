"""Weighted values that become known of something over time, and what is known of it at a moment: always strictly before."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

ALWAYS = -np.inf
NO_VALUE = -1
# Numbers that are held at a time: bounds memory, whatever the length of a history.
CELLS_PER_BLOCK = 2_000_000
# How many facts are looked at for each of the newest distinct values that are wanted.
LOOK_BACK = 4


@dataclass(frozen=True)
class Facts:
    """Row r says that from ``times[r]`` on, the value ``values[r]`` counts ``weights[r]`` more for the key ``keys[r]``.

    Attributes:
        keys: int64 [facts], such as users or items.
        times: float64 [facts]; ``ALWAYS`` for what is known from the start.
        values: int64 [facts] codes of at least 0.
        weights: float64 [facts].
    """

    keys: np.ndarray
    times: np.ndarray
    values: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    def where(self, kept: np.ndarray) -> Facts:
        """The facts at which ``kept`` is True, or at the positions ``kept``."""
        return Facts(self.keys[kept], self.times[kept], self.values[kept], self.weights[kept])

    def with_values(self, values: np.ndarray) -> Facts:
        """The same with other codes."""
        return Facts(self.keys, self.times, values, self.weights)

    def ordered(self) -> Facts:
        """By key, then time; ties as they are."""
        return self.where(np.lexsort((self.times, self.keys)))


class ValueTable(NamedTuple):
    """The best values of each query, best first.

    Attributes:
        values: int64 [queries, width], ``NO_VALUE`` where there are fewer.
        weights: float64 [queries, width], 0 there.
    """

    values: np.ndarray
    weights: np.ndarray


def no_facts() -> Facts:
    """Nothing known of anything."""
    return Facts(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64), np.zeros(0))


def ranges_before(facts: Facts, keys: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the facts of each query's key before each query's time stand in ordered ``facts``: starts and ends, int64 [queries]."""
    is_fact = np.concatenate([np.zeros(len(keys), bool), np.ones(len(facts), bool)])
    # At equal times queries come before facts: strictly before is what counts.
    order = np.lexsort((is_fact, np.concatenate([times, facts.times]), np.concatenate([keys, facts.keys])))
    position = np.empty(len(order), np.int64)
    position[order] = np.cumsum(is_fact[order])
    return np.searchsorted(facts.keys, keys), position[: len(keys)]


def heaviest_before(facts: Facts, keys: np.ndarray, times: np.ndarray, width: int) -> ValueTable:
    """The values of greatest total weight that each query's key had before the query's time; of equals the newest first.

    Args:
        facts: In any order.
        keys: int64 [queries].
        times: float64 [queries].
        width: How many values at most; the table is as wide as the longest answer, and at least 1.
    """
    if np.isneginf(facts.times).all():
        return _heaviest_always(facts, keys, width)
    table = ValueTable(np.full((len(keys), width), NO_VALUE, np.int64), np.zeros((len(keys), width)))
    for rows, values, weights, newest in _totals(facts.ordered(), keys, times):
        order = np.lexsort((-newest, -weights), axis=-1)[:, :width]  # [rows, at most width]
        chosen = np.take_along_axis(weights, order, axis=1)
        real = np.take_along_axis(newest, order, axis=1) >= 0
        table.values[rows, : order.shape[1]] = np.where(real, values[order], NO_VALUE)
        table.weights[rows, : order.shape[1]] = np.where(real, chosen, 0.0)
    return _trimmed(table)


def _heaviest_always(facts: Facts, keys: np.ndarray, width: int) -> ValueTable:
    """``heaviest_before`` where everything is known from the start: for all keys at once."""
    facts = facts.ordered()
    order = np.lexsort((facts.values, facts.keys))
    facts = facts.where(order)
    opens = np.flatnonzero(_changes(facts.keys) | _changes(facts.values))
    pair_keys, pair_values = facts.keys[opens], facts.values[opens]
    weights = np.add.reduceat(facts.weights, opens) if len(opens) else np.zeros(0)
    newest = np.maximum.reduceat(order, opens) if len(opens) else opens
    best = np.lexsort((-newest, -weights, pair_keys))
    pair_keys, pair_values, weights = pair_keys[best], pair_values[best], weights[best]
    starts, ends = np.searchsorted(pair_keys, keys), np.searchsorted(pair_keys, keys, side="right")
    positions = starts[:, None] + np.arange(width)  # [queries, width]
    real = positions < ends[:, None]
    positions = np.where(real, positions, 0)
    if not len(pair_keys):
        return _trimmed(ValueTable(np.full((len(keys), width), NO_VALUE, np.int64), np.zeros((len(keys), width))))
    return _trimmed(ValueTable(np.where(real, pair_values[positions], NO_VALUE), np.where(real, weights[positions], 0.0)))


def _changes(values: np.ndarray) -> np.ndarray:
    """bool [n]: True at the first of each run of equals."""
    return np.concatenate([np.ones(min(len(values), 1), bool), values[1:] != values[:-1]])


def newest_before(facts: Facts, keys: np.ndarray, times: np.ndarray, width: int) -> ValueTable:
    """The newest distinct values before each query's time, newest first, each with the weight of its newest fact.

    Only the newest ``LOOK_BACK * width`` facts are looked at, so that a key with few values and many facts may get less than ``width``.
    """
    facts = facts.ordered()
    starts, ends = ranges_before(facts, keys, times)
    window = width * LOOK_BACK
    table = ValueTable(np.full((len(keys), width), NO_VALUE, np.int64), np.zeros((len(keys), width)))
    rows_per_block = max(1, CELLS_PER_BLOCK // window)
    for first in range(0, len(keys), rows_per_block):
        block = slice(first, first + rows_per_block)
        positions = ends[block, None] - 1 - np.arange(window)  # [rows, window] newest first
        real = positions >= starts[block, None]
        positions = np.where(real, positions, 0)
        values = np.where(real, facts.values[positions] if len(facts) else 0, NO_VALUE)
        kept = real & ~_repeats_earlier(values)
        row, column = np.nonzero(kept)
        place = (np.cumsum(kept, axis=1) - 1)[row, column]
        row, column, place = row[place < width], column[place < width], place[place < width]
        table.values[first + row, place] = values[row, column]
        table.weights[first + row, place] = facts.weights[positions[row, column]]
    return _trimmed(table)


def totals_before(facts: Facts, keys: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All values of each query's key before the query's time, by rising code.

    Returns:
        offsets int64 [queries + 1], values int64, and their total weights float64: query q has those at ``offsets[q]:offsets[q + 1]``.
    """
    found = []
    for rows, values, weights, newest in _totals(facts.ordered(), keys, times):
        row, column = np.nonzero(newest >= 0)
        found.append((rows[row], values[column], weights[row, column]))
    rows, values, weights = (np.concatenate(parts) for parts in zip(*found, strict=True)) if found else (np.zeros(0, np.int64),) * 3
    order = np.lexsort((values, rows))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows.astype(np.int64), minlength=len(keys)))]).astype(np.int64)
    return offsets, values[order].astype(np.int64), weights[order].astype(np.float64)


def _totals(facts: Facts, keys: np.ndarray, times: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Per key, block by block of its queries: query rows [q], distinct values [v], total weights [q, v], and the position of each value's
    newest fact [q, v], -1 where the key does not have the value yet."""
    starts, ends = ranges_before(facts, keys, times)
    with_facts = np.flatnonzero(ends > starts)
    by_key = with_facts[np.lexsort((ends[with_facts], starts[with_facts]))]
    borders = np.flatnonzero(np.diff(starts[by_key], prepend=-1, append=len(facts) + 1))
    for first, last in itertools.pairwise(borders):
        rows = by_key[first:last]
        start, end = starts[rows[0]], ends[rows[-1]]
        values, local = np.unique(facts.values[start:end], return_inverse=True)
        yield from _totals_of_key(rows, ends[rows] - start, values, local, facts.weights[start:end])


def _totals_of_key(
    rows: np.ndarray, ends: np.ndarray, values: np.ndarray, local: np.ndarray, fact_weights: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    total, newest = np.zeros(len(values)), np.full(len(values), -1, np.int64)
    rows_per_block = max(1, CELLS_PER_BLOCK // len(values))
    done = 0
    for first in range(0, len(rows), rows_per_block):
        block_ends = ends[first : first + rows_per_block]
        facts = np.arange(done, block_ends[-1])
        # A fact first counts for the first query that ends behind it.
        query = np.searchsorted(block_ends, facts, side="right")
        weights = np.zeros((len(block_ends), len(values)))
        positions = np.full((len(block_ends), len(values)), -1, np.int64)
        np.add.at(weights, (query, local[facts]), fact_weights[facts])
        np.maximum.at(positions, (query, local[facts]), facts)
        weights[0] += total
        positions[0] = np.maximum(positions[0], newest)
        weights, positions = np.cumsum(weights, axis=0), np.maximum.accumulate(positions, axis=0)
        total, newest, done = weights[-1], positions[-1], block_ends[-1]
        yield rows[first : first + rows_per_block], values, weights, positions


def _repeats_earlier(values: np.ndarray) -> np.ndarray:
    """bool [rows, columns]: whether a value also stands in an earlier column of its row."""
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    repeats = np.zeros(values.shape, bool)
    np.put_along_axis(repeats, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return repeats


def _trimmed(table: ValueTable) -> ValueTable:
    longest = max(1, int((table.values != NO_VALUE).sum(axis=1).max(initial=0)))
    return ValueTable(table.values[:, :longest], table.weights[:, :longest])

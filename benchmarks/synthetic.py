"""Interaction sequences of any size, for benchmarks: long-tailed in items and in lengths, without any taste to learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfmi.core.files import write_atomically
from tfmi.data.dataset import FIRST_INDEX, Sequences

SHORTEST = 5
# Amazon's 5-core data sets have about nine events a user, and popularity falls off more slowly than 1 / rank.
MEAN_LENGTH = 9.0
POPULARITY_EXPONENT = 0.7
# Tmall's training sessions as papers on sessions use them.
SHORTEST_SESSION, LONGEST_SESSION = 2, 40
MEAN_SESSION_LENGTH = 6.38


def synthetic_sequences(users: int, items: int, random: np.random.Generator, *, skewed: bool = True) -> Sequences:
    """Sequences of at least five events; item ``FIRST_INDEX`` is the most popular.

    Args:
        users: Number of rows.
        items: Number of real items, any of which may turn up.
        random: Source of the numbers.
        skewed: Popularity falls with the rank; otherwise all items are equally popular.
    """
    lengths = SHORTEST - 1 + random.geometric(1 / (MEAN_LENGTH - SHORTEST + 1), users)
    return sequences_of_lengths(lengths, items, random, skewed)


def synthetic_sessions(sessions: int, items: int, random: np.random.Generator) -> Sequences:
    """Sessions of 2 to 40 events, as many on average as Tmall's; item ``FIRST_INDEX`` is the most popular. Arguments as above."""
    lengths = SHORTEST_SESSION - 1 + random.geometric(1 / (MEAN_SESSION_LENGTH - SHORTEST_SESSION + 1), sessions)
    return sequences_of_lengths(np.minimum(lengths, LONGEST_SESSION), items, random, skewed=True)


def sequences_of_lengths(lengths: np.ndarray, items: int, random: np.random.Generator, skewed: bool = True) -> Sequences:
    """Sequences of the given ``lengths`` int [users]; other arguments as above."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    if skewed:
        weights = np.arange(1, items + 1) ** -POPULARITY_EXPONENT
        ranks = np.searchsorted(np.cumsum(weights) / weights.sum(), random.random(offsets[-1]))
    else:
        ranks = random.integers(0, items, offsets[-1])
    return Sequences(
        offsets=offsets,
        items=(np.minimum(ranks, items - 1) + FIRST_INDEX).astype(np.int32),
        timestamps=None,
        weights=None,
        users=np.arange(len(lengths), dtype=np.int32),
    )


def write_comirec_files(folder: Path, users: int, items: int, random: np.random.Generator) -> None:
    """Write ComiRec's split files: ``users`` for training and a tenth as many each for validation and test."""
    first_user = 1
    for part, rows in (("train", users), ("valid", max(1, users // 10)), ("test", max(1, users // 10))):
        sequences = synthetic_sequences(rows, items, random)
        lengths = sequences.lengths()
        user_column = first_user + np.repeat(np.arange(rows), lengths)
        positions = np.arange(sequences.num_events) - np.repeat(sequences.offsets[:-1], lengths)
        # The last event of all is the least popular item, so that the catalogue has its full size whatever was drawn.
        item_column = sequences.items - FIRST_INDEX + 1
        item_column[-1] = items
        table = np.stack([user_column, item_column, positions], axis=1)
        write_atomically(folder / f"comirec_{part}.txt", "".join(f"{user},{item},{position}\n" for user, item, position in table.tolist()))
        first_user += rows

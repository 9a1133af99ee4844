"""Cut pieces out of ``Sequences``, all at once: every split is a choice of ranges."""

from __future__ import annotations

import numpy as np

from tfmi.data.dataset import EvaluationSet, Sequences


def sequences_from_ranges(source: Sequences, rows: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Sequences:
    """Copy one range of events per new row.

    Args:
        source: Where the events come from.
        rows: int [new rows]: the row of ``source`` that each new row belongs to; it decides the new row's user.
        starts, ends: int [new rows]: positions in ``source.items``; a new row holds ``[start, end)``.

    Returns:
        As many rows as ranges, in their order; rows may repeat and ranges may overlap. Of what a user has turned down, a new row keeps
        what came before the event at its end.
    """
    starts, ends = np.asarray(starts, dtype=np.int64), np.asarray(ends, dtype=np.int64)
    lengths = ends - starts
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    # The position of each copied event: its range's start plus its place in the range.
    positions = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    negatives = places = None
    if source.negatives is not None and source.negative_places is not None:
        negatives, places = source.negatives[rows], source.negative_places[rows]
        row_starts = source.offsets[rows]
        negatives = np.where(places <= (ends - row_starts)[:, None], negatives, -1)
        places = np.maximum(places - (starts - row_starts)[:, None], 0)
    return Sequences(
        offsets=offsets,
        items=source.items[positions],
        timestamps=None if source.timestamps is None else source.timestamps[positions],
        weights=None if source.weights is None else source.weights[positions],
        users=source.users[rows].astype(np.int32),
        negatives=negatives,
        negative_places=places,
    )


def whole_rows(source: Sequences, rows: np.ndarray) -> Sequences:
    """Copy whole rows, in the order of ``rows``."""
    return sequences_from_ranges(source, rows, source.offsets[rows], source.offsets[rows + 1])


def cut_rows(source: Sequences, rows: np.ndarray, history_ends: np.ndarray, target_ends: np.ndarray) -> EvaluationSet:
    """Cut rows in two: the history is ``[row start, history_end)``, the targets ``[history_end, target_end)``.

    Args:
        source: Where the events come from.
        rows: int [examples] rows of ``source``; a row may stand for several examples.
        history_ends, target_ends: int [examples] positions in ``source.items``.
    """
    return EvaluationSet(
        histories=sequences_from_ranges(source, rows, source.offsets[rows], history_ends),
        targets=sequences_from_ranges(source, rows, history_ends, target_ends),
    )


def every_prefix(source: Sequences, rows: np.ndarray) -> EvaluationSet:
    """Every way to cut each row into a prefix and its next item, longest prefix first (Wang et al., GCE-GNN, SIGIR 2020, datasets)."""
    lengths = source.lengths()[rows]
    examples_per_row = np.maximum(lengths - 1, 0)
    last_example = np.cumsum(examples_per_row)
    repeated = np.repeat(rows, examples_per_row)  # [examples]
    # Counts down n-1, n-2, ..., 1 within each row: the length of the prefix.
    prefix_lengths = np.repeat(last_example, examples_per_row) - np.arange(len(repeated))
    history_ends = source.offsets[repeated] + prefix_lengths
    return cut_rows(source, repeated, history_ends, history_ends + 1)

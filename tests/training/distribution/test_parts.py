"""The parts of a batch that replicas take: together they are the batch."""

from __future__ import annotations

import numpy as np
import pytest

from tfmi.data.dataset import Sequences
from tfmi.data.pipeline import RowBatches, TrainingBatches


def sequences() -> Sequences:
    lengths = np.array([5, 3, 7, 4])
    return Sequences(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.arange(2, 2 + lengths.sum()).astype(np.int32),
        timestamps=None,
        weights=None,
        users=np.arange(4, dtype=np.int32),
    )


@pytest.mark.parametrize("order", ["prefixes", "random_position", "sequences"])
def test_parts_of_a_batch_are_the_batch(order: str) -> None:
    batches = TrainingBatches(sequences(), history_length=3, min_history=1, batch_size=6, seed=3, order=order)  # type: ignore[arg-type]
    parts = [batches.part(index, 3) for index in range(3)]
    for step in (0, 5):
        (whole,) = batches.from_step(step).take(1).as_numpy_iterator()
        taken = [next(part.from_step(step).as_numpy_iterator()) for part in parts]
        for name, values in whole.items():
            assert [len(part[name]) for part in taken] == [2, 2, 2]
            np.testing.assert_array_equal(np.concatenate([part[name] for part in taken]), values)


def test_a_part_of_a_part() -> None:
    batches = TrainingBatches(sequences(), history_length=3, min_history=1, batch_size=4, seed=3)
    whole = next(batches.from_step(2).as_numpy_iterator())["target"]
    last = next(batches.part(1, 2).part(1, 2).from_step(2).as_numpy_iterator())["target"]
    np.testing.assert_array_equal(last, whole[3:])


def test_parts_of_labelled_rows_hold_every_row_of_an_epoch_once() -> None:
    batches = RowBatches(lambda rows: {"row": rows}, 12, batch_size=4, seed=1)
    rows = [batch["row"] for index in range(2) for batch in batches.part(index, 2).from_step(0).take(3).as_numpy_iterator()]
    assert [len(part) for part in rows] == [2] * 6
    assert sorted(np.concatenate(rows).tolist()) == list(range(12))

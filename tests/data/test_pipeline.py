"""Batches: what they hold, that an epoch misses nothing, and that a resumed run sees the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmi.core.errors import DataError
from tfmi.data.dataset import CategoricalFeature, EvaluationSet, MultiValuedFeature, NumericFeature, Sequences, UserProfiles, Vocabulary
from tfmi.data.pipeline import ExampleOrder, RowBatches, TrainingBatches, evaluation_batches, examples_per_epoch, training_batches

ORDERS: tuple[ExampleOrder, ...] = ("prefixes", "random_position", "sequences")


def make_sequences(rows: list[list[int]], **columns: Any) -> Sequences:
    """Sequences of these item indices."""
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    items = np.array([item for row in rows for item in row], dtype=np.int32)
    values = {"timestamps": None, "weights": None, "users": np.arange(len(rows), dtype=np.int32), **columns}
    return Sequences(offsets=offsets, items=items, **values)


def take(sequences: Sequences, count: int, **arguments: Any) -> list[dict[str, Any]]:
    """The first ``count`` batches."""
    defaults: dict[str, Any] = {"history_length": 3, "min_history": 1, "batch_size": 4, "seed": 5}
    return list(training_batches(sequences, **{**defaults, **arguments}).take(count).as_numpy_iterator())


def examples_of(batches: list[dict[str, Any]]) -> list[tuple[tuple[int, ...], int]]:
    """(history, target) of every example."""
    return [
        (tuple(history), int(target))
        for batch in batches
        for history, target in zip(batch["history"].tolist(), batch["target"], strict=True)
    ]


def expected_examples(rows: list[list[int]], length: int, min_history: int) -> list[tuple[tuple[int, ...], int]]:
    """Every example there is, worked out one by one."""
    examples = []
    for row in rows:
        for place in range(min_history, len(row)):
            history = row[max(0, place - length) : place]
            if row[place] >= 2:
                examples.append((tuple(history + [0] * (length - len(history))), row[place]))
    return examples


ROWS = [[2, 3, 4, 5, 6], [7], [8, 9], [10, 11, 12], [2, 2, 3]]


class TestTraining:
    @settings(max_examples=15, deadline=None)
    @given(
        st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=6),
        st.integers(1, 4),
        st.integers(1, 3),
        st.integers(0, 99),
    )
    def test_an_epoch_holds_every_example_once(self, rows: list[list[int]], length: int, min_history: int, seed: int) -> None:
        sequences = make_sequences(rows)
        expected = expected_examples(rows, length, min_history)
        assert examples_per_epoch(sequences, min_history) == len(expected)
        if not expected:
            with pytest.raises(DataError, match="no training example"):
                take(sequences, 1, min_history=min_history)
            return
        settings = {"history_length": length, "min_history": min_history, "seed": seed, "batch_size": len(expected)}
        for batch in take(sequences, 3, **settings):
            assert Counter(examples_of([batch])) == Counter(expected)

    def test_a_batch_of_another_size_runs_on_into_the_next_epoch(self) -> None:
        sequences = make_sequences(ROWS)
        total = examples_per_epoch(sequences, 1)
        assert total == 9
        batches = take(sequences, 9, batch_size=4)
        assert all(batch["history"].shape == (4, 3) for batch in batches)
        examples = examples_of(batches)
        for epoch in range(4):
            assert Counter(examples[epoch * total : (epoch + 1) * total]) == Counter(expected_examples(ROWS, 3, 1))

    def test_a_batch_may_be_larger_than_several_epochs(self) -> None:
        (batch,) = take(make_sequences([[2, 3, 4]]), 1, batch_size=7)
        assert Counter(batch["target"].tolist()) in (Counter({3: 4, 4: 3}), Counter({3: 3, 4: 4}))

    @pytest.mark.parametrize("order", ORDERS)
    def test_a_resumed_run_sees_the_same_batches(self, order: ExampleOrder) -> None:
        sequences = make_sequences(ROWS, timestamps=np.arange(14, dtype=np.float64))
        whole = take(sequences, 12, order=order)
        resumed = take(sequences, 5, order=order, start_step=7)
        for expected, batch in zip(whole[7:], resumed, strict=True):
            for name, values in expected.items():
                np.testing.assert_array_equal(batch[name], values)

    def test_tensors_are_made_once_however_often_a_run_asks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        batches = TrainingBatches(make_sequences(ROWS), history_length=3, min_history=1, batch_size=4, seed=5)
        made: list[int] = []
        constant = tf.constant

        def counted_constant(value: Any, *rest: Any) -> tf.Tensor:
            made.append(np.size(value))
            return constant(value, *rest)

        monkeypatch.setattr("tfmi.data.pipeline.tf.constant", counted_constant)
        for step in (0, 7):
            (batch,) = batches.from_step(step).take(1).as_numpy_iterator()
            assert batch["target"].tolist() == take(make_sequences(ROWS), 1, start_step=step)[0]["target"].tolist()
            made.clear()
            batches.from_step(step)
            # The seed and the like, no column.
            assert max(made, default=1) == 1

    @pytest.mark.parametrize("order", ORDERS)
    def test_seed_and_step_decide_the_order(self, order: ExampleOrder) -> None:
        sequences = make_sequences([list(range(2, 200))])
        first, second = take(sequences, 2, order=order, batch_size=64)
        assert first["target"].tolist() == take(sequences, 1, order=order, batch_size=64)[0]["target"].tolist()
        assert first["target"].tolist() != second["target"].tolist()
        assert first["target"].tolist() != take(sequences, 1, order=order, batch_size=64, seed=6)[0]["target"].tolist()

    def test_epochs_differ_and_are_well_shuffled(self) -> None:
        sequences = make_sequences([list(range(2, 4099))])
        first, second = (batch["target"] for batch in take(sequences, 2, batch_size=4096))
        ranks = np.arange(4096)
        for targets in (first, second):
            assert sorted(targets) == list(range(3, 4099))
            assert abs(np.corrcoef(ranks, targets)[0, 1]) < 0.06
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.06

    def test_random_position_draws_rows_evenly_then_positions_evenly(self) -> None:
        sequences = make_sequences([[2, 3], [4, 5, 6, 7], [8]])
        counts: Counter[int] = Counter()
        for batch in take(sequences, 30, order="random_position", batch_size=200):
            counts.update(batch["target"].tolist())
        total = sum(counts.values())
        assert set(counts) == {3, 5, 6, 7}
        assert counts[3] / total == pytest.approx(1 / 2, abs=0.03)
        for item in (5, 6, 7):
            assert counts[item] / total == pytest.approx(1 / 6, abs=0.03)

    def test_random_position_keeps_to_min_history_and_makes_the_same_examples(self) -> None:
        examples = set(examples_of(take(make_sequences(ROWS), 40, order="random_position", min_history=2)))
        assert examples == set(expected_examples(ROWS, 3, 2))

    @pytest.mark.slow
    @settings(max_examples=25, deadline=None)
    @given(
        st.lists(st.lists(st.integers(1, 9), max_size=9), min_size=1, max_size=5), st.integers(1, 5), st.integers(1, 3), st.integers(0, 99)
    )
    def test_whole_sequences_hold_every_target_once(self, rows: list[list[int]], length: int, min_history: int, seed: int) -> None:
        sequences = make_sequences(rows)
        expected = Counter(target for _, target in expected_examples(rows, length, min_history))
        windows = examples_per_epoch(sequences, min_history, "sequences", length)
        if not expected:
            assert windows == 0
            return
        arguments = {"history_length": length, "min_history": min_history, "order": "sequences", "seed": seed, "batch_size": windows}
        for batch in take(sequences, 2, **arguments):
            assert batch["target"].shape == batch["history"].shape == (windows, length)
            assert Counter(batch["target"][batch["target"] > 0].tolist()) == expected
            assert not batch["target"][batch["history"] == 0].any()
            assert (batch["target"] > 0).any(axis=1).all()

    def test_whole_sequences_are_cut_from_their_newest_event_on(self) -> None:
        rows = [[2, 3, 4, 5, 6, 7, 8], [9, 10, 11], [12]]
        weights = np.arange(11, dtype=np.float32)
        (batch,) = take(make_sequences(rows, weights=weights), 1, order="sequences", batch_size=3, min_history=2)
        found = {
            tuple(row): (target.tolist(), weight.tolist())
            for row, target, weight in zip(batch["history"].tolist(), batch["target"], batch["weight"], strict=True)
        }
        assert found == {
            (5, 6, 7): ([6, 7, 8], [4, 5, 6]),
            (2, 3, 4): ([0, 4, 5], [0, 2, 3]),
            (9, 10, 0): ([0, 11, 0], [0, 9, 0]),
        }

    def test_types_and_extra_columns(self) -> None:
        sequences = make_sequences(
            [[2, 3, 4]], timestamps=np.array([10.0, 20.0, 1.7e9 + 0.5]), weights=np.array([0.1, 0.2, 0.3], dtype=np.float32)
        )
        (batch,) = take(sequences, 1, batch_size=2)
        row = batch["target"].tolist().index(4)
        assert batch["history"][row].tolist() == [2, 3, 0]
        assert batch["timestamps"][row].tolist() == [10.0, 20.0, 0.0]
        assert batch["weight"].tolist()[row] == pytest.approx(0.3)
        dtypes = {name: values.dtype.name for name, values in batch.items()}
        assert dtypes == {"history": "int32", "target": "int32", "timestamps": "float64", "weight": "float32"}

    def test_shapes_are_static(self) -> None:
        shapes: dict[ExampleOrder, tuple[int, ...]] = {"prefixes": (4,), "sequences": (4, 3)}
        for order, shape in shapes.items():
            spec = training_batches(make_sequences(ROWS), history_length=3, min_history=1, batch_size=4, seed=1, order=order).element_spec
            assert spec["history"].shape == (4, 3)
            assert spec["target"].shape == shape

    def test_without_any_example_it_says_what_to_lower(self) -> None:
        with pytest.raises(DataError, match=r"data\.min_history = 5"):
            take(make_sequences(ROWS), 1, min_history=5)


PROFILES = UserProfiles(
    user_ids=["", "a", "b"],
    features={
        "region": CategoricalFeature(Vocabulary(["north", "south"]), np.array([0, 3, 2], dtype=np.int32)),
        "age": NumericFeature(np.array([np.nan, 30.0, 50.0], dtype=np.float32), mean=40.0, deviation=10.0),
        "likes": MultiValuedFeature(
            Vocabulary(["x", "y"]),
            np.array([[0, 0], [2, 3], [3, 0]], dtype=np.int32),
            np.array([[0, 0], [1.0, 0.5], [2.0, 0]], dtype=np.float32),
        ),
    },
)


class TestProfiles:
    def test_every_example_carries_its_users_features(self) -> None:
        sequences = make_sequences([[2, 3], [4, 5], [6, 7]], users=np.array([2, 0, 1], dtype=np.int32))
        for batch in (
            *take(sequences, 2, batch_size=3, profiles=PROFILES),
            *take(sequences, 1, order="random_position", profiles=PROFILES),
        ):
            profile = batch["profile"]
            for row, target in enumerate(batch["target"].tolist()):
                region, age, likes, weights = {
                    3: (2, 1.0, [3, 0], [2.0, 0.0]),
                    5: (0, 0.0, [0, 0], [0.0, 0.0]),
                    7: (3, -1.0, [2, 3], [1.0, 0.5]),
                }[target]
                assert profile["region"][row] == region
                assert profile["age"][row] == pytest.approx(age)
                assert profile["likes"][row].tolist() == likes
                assert profile["likes_weights"][row].tolist() == weights
            assert profile["region"].dtype == np.int32
            assert profile["age"].dtype == np.float32

    def test_without_profiles_there_is_no_such_key(self) -> None:
        assert "profile" not in take(make_sequences(ROWS), 1)[0]


class TestEvaluation:
    def test_every_user_once_in_order_as_padded(self) -> None:
        histories = make_sequences([[2, 3, 4, 5, 6], [], [7], [8, 9, 10], [11, 12]])
        examples = EvaluationSet(histories, make_sequences([[2]] * 5))
        batches = list(evaluation_batches(examples, history_length=3, batch_size=2).as_numpy_iterator())
        assert [len(batch["row"]) for batch in batches] == [2, 2, 1]
        assert np.concatenate([batch["row"] for batch in batches]).tolist() == [0, 1, 2, 3, 4]
        np.testing.assert_array_equal(np.concatenate([batch["history"] for batch in batches]), histories.padded(3))

    def test_times_and_profiles_come_along(self) -> None:
        users = np.array([1, 2], dtype=np.int32)
        histories = make_sequences([[2, 3], [4]], timestamps=np.array([1.0, 2.0, 3.0]), users=users)
        examples = EvaluationSet(histories, make_sequences([[5], [6]]))
        (batch,) = evaluation_batches(examples, history_length=2, batch_size=8, profiles=PROFILES).as_numpy_iterator()
        assert batch["timestamps"].tolist() == [[1.0, 2.0], [3.0, 0.0]]
        assert batch["profile"]["region"].tolist() == [3, 2]

    def test_histories_that_are_all_empty_are_padding(self) -> None:
        examples = EvaluationSet(make_sequences([[], []]), make_sequences([[2], [3]]))
        (batch,) = evaluation_batches(examples, history_length=2, batch_size=8).as_numpy_iterator()
        assert batch["history"].tolist() == [[0, 0], [0, 0]]


def test_row_batches_give_every_row_once_per_epoch_from_any_step() -> None:
    batches = RowBatches(lambda rows: {"row": rows}, 10, batch_size=4, seed=3)
    rows = np.concatenate([batch["row"].numpy() for batch in batches.from_step(0).take(5)])
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert rows[:10].tolist() != rows[10:].tolist()
    later = np.concatenate([batch["row"].numpy() for batch in batches.from_step(3).take(2)])
    np.testing.assert_array_equal(later, rows[12:])


def test_row_batches_pass_once_in_order() -> None:
    batches = RowBatches(lambda rows: rows, 5, batch_size=2, seed=0)
    assert [batch.numpy().tolist() for batch in batches.in_order()] == [[0, 1], [2, 3], [4]]


def test_row_batches_without_rows_are_refused() -> None:
    with pytest.raises(DataError, match="no labelled row"):
        RowBatches(lambda rows: rows, 0, batch_size=2, seed=0)

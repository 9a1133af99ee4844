"""A log by hand: rows, states, vocabularies, targets; and that nothing later says anything of what is earlier."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.data.tags.tag_logs import LOG, TAGS, field_of, make_dataset, names
from tfmi.core.errors import DataError
from tfmi.data.dataset import CategoricalFeature, NumericFeature
from tfmi.data.tables import UserTable
from tfmi.data.tags.tag_dataset import TagDataset, TagRows


def described_rows(dataset: TagDataset, rows: TagRows) -> list[tuple[str, float, list[str]]]:
    return [
        (dataset.users.ids[user], time, names(dataset, tags))
        for user, time, tags in zip(rows.users.tolist(), rows.times.tolist(), rows.tags, strict=True)
    ]


class TestByHand:
    def test_rows_are_split_by_time(self) -> None:
        dataset = make_dataset(LOG)
        assert described_rows(dataset, dataset.train)[:4] == [
            ("u", 0, ["rock", "old"]),
            ("v", 1, ["jazz"]),
            ("u", 2, ["rock"]),
            ("v", 3, ["new", "jazz"]),
        ]
        assert (len(dataset.train), len(dataset.valid)) == (6, 2)
        # Item "e" has no tag that training knows.
        assert described_rows(dataset, dataset.test) == [("x", 9, ["rock"])]
        assert dataset.report["rows_without_known_tag"] == 1

    def test_vocabulary_and_counts_are_of_training_positives(self) -> None:
        dataset = make_dataset(LOG)
        assert dataset.tags.ids == ["jazz", "rock", "new", "old"]
        assert dataset.tag_counts.tolist() == [[0, 0, 4, 2, 1, 1]]
        assert make_dataset(LOG, min_tag_count=2).tags.ids == ["jazz", "rock"]

    def test_states_hold_what_was_before(self) -> None:
        dataset = make_dataset(LOG)
        assert field_of(dataset, "tags", dataset.train.states[0]) == {}
        assert field_of(dataset, "tags", dataset.train.states[2]) == {"rock": 1.0, "old": 0.5}
        assert field_of(dataset, "tags", dataset.train.states[5]) == {"rock": 2.0, "old": 0.5}
        assert field_of(dataset, "items", dataset.train.states[5]) == {"a": 1.0, "b": 1.0}
        assert field_of(dataset, "items", dataset.valid.states[0]) == {"c": 1.0, "d": 1.0}
        newest = dataset.users.states[dataset.users.ids.index("u")]
        assert field_of(dataset, "items", newest) == {"?": 1.0, "a": 1.0, "b": 1.0, "c": 1.0}
        assert field_of(dataset, "tags", newest) == {"rock": 2.0, "jazz": 1.0, "?": 1.0, "old": 0.5}

    def test_tags_to_predict(self) -> None:
        dataset = make_dataset(LOG)
        valid, test = dataset.valid_tags, dataset.test_tags
        users = [dataset.users.ids[user] for user in dataset.states.users[valid.states]]
        assert (users, dataset.states.times[valid.states].tolist()) == (["v", "w"], [6, 6])
        assert [sorted(names(dataset, valid.targets[0].row(row))) for row in (0, 1)] == [["old", "rock"], ["jazz", "new"]]
        assert [names(dataset, valid.new_targets(0).row(row)) for row in (0, 1)] == [["rock", "old"], ["new"]]
        own = valid.own[0]
        assert own.weights is not None
        assert dict(zip(names(dataset, own.row(0)), own.weights[:2].tolist(), strict=True)) == {"jazz": 2.0, "new": 1.0}
        # "u" goes on to an unknown tag, which nobody can name; "x" comes out of nowhere.
        assert [names(dataset, test.targets[0].row(row)) for row in (0, 1)] == [["?"], ["rock"]]
        assert test.has_history().tolist() == [True, False]

    def test_nested_tasks(self) -> None:
        dataset = make_dataset(LOG, tasks={"watched": 0.0, "liked": 4.0})
        assert dataset.task_names == ("watched", "liked")
        assert dataset.train.labels.tolist() == [[1, 1], [1, 0], [1, 0], [1, 1], [1, 0], [1, 1]]
        assert dataset.train.weights.min() == 1
        assert dataset.tag_counts[1].tolist() == [0, 0, 2, 1, 1, 1]
        assert field_of(dataset, "liked_tags", dataset.valid.states[0]) == {"jazz": 1.0, "new": 1.0}
        # "w" only watched; "v" liked.
        assert [len(dataset.valid_tags.targets[1].row(row)) for row in (0, 1)] == [2, 0]

    def test_conditional_labels_count_where_the_action_before_happened(self) -> None:
        events = [(*event[:3], 0.5 if event[2] == 2 else event[3]) for event in LOG]
        dataset = make_dataset(events, tasks={"watched": 1.0, "liked": 4.0}, label_space="conditional")
        assert dataset.train.labels[2].tolist() == [0, 0]
        assert dataset.train.weights[:3].tolist() == [[1, 1], [1, 1], [1, 0]]

    def test_weights_of_values(self) -> None:
        for kind, expected in (("log", np.log2(3.0)), ("count", 2.0), ("one", 1.0)):
            dataset = make_dataset(LOG, value_weights=kind)
            assert field_of(dataset, "tags", dataset.train.states[5])["rock"] == pytest.approx(expected)

    def test_fields_are_bounded(self) -> None:
        dataset = make_dataset(LOG, max_values=2)
        newest = dataset.users.states[dataset.users.ids.index("u")]
        assert field_of(dataset, "items", newest) == {"?": 1.0, "c": 1.0}
        assert list(field_of(dataset, "tags", newest)) == ["rock", "?"]
        assert make_dataset(LOG, max_item_tags=1).train.tags.shape[1] == 1

    def test_profiles_are_those_of_training_users(self) -> None:
        users = UserTable(["u", "v", "w", "x"], {"age": np.array([20, 30, np.nan, 90], np.float32), "city": ["Oslo", "Rome", "", "Lima"]})
        dataset = make_dataset(LOG, users=users)
        age, city = dataset.states.fields["age"], dataset.states.fields["city"]
        assert isinstance(age, NumericFeature)
        assert isinstance(city, CategoricalFeature)
        assert (age.mean, age.deviation) == (25.0, 5.0)
        of_x = dataset.users.states[dataset.users.ids.index("x")]
        assert (age.values[of_x], city.values[of_x], city.vocabulary.ids) == (90.0, 1, ["Oslo", "Rome"])


class TestNegatives:
    def test_sampled_ones_have_no_label_and_were_not_met(self) -> None:
        dataset = make_dataset(LOG, negatives=3, tasks={"watched": 0.0, "liked": 4.0})
        negative = dataset.train.labels[:, 0] == 0
        assert negative.sum() > 5
        assert not dataset.train.labels[negative].any()
        met: dict[str, set[str]] = {}
        known = {tuple(tag for tag, _ in TAGS[item]): item for item in TAGS}
        moments = {time: (user, item) for user, item, time, _ in LOG}
        for user, time, tags in [row for row, no in zip(described_rows(dataset, dataset.train), negative, strict=True) if no]:
            for earlier in [t for t in moments if t <= time]:
                met.setdefault(moments[earlier][0], set()).add(moments[earlier][1])
            candidates = {item for key, item in known.items() if set(key) == set(tags)}
            assert candidates
            assert not candidates & met.get(user, set())

    @pytest.mark.parametrize("sampling", ["uniform", "popular", "tags"])
    def test_the_seed_decides(self, sampling: str) -> None:
        first, again, other = (make_dataset(LOG, negatives=3, negative_sampling=sampling, seed=seed).train.tags for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert first.shape != other.shape or (first != other).any()

    def test_made_up_items_have_as_many_tags_none_of_them_met(self) -> None:
        dataset = make_dataset(LOG, negatives=2, negative_sampling="tags")
        rows = described_rows(dataset, dataset.train)
        assert rows[0][2] == ["rock", "old"]
        for _, _, tags in rows[1:3]:
            assert len(tags) <= 2
            assert not set(tags) & {"rock", "old"}


def changed_after(moment: float) -> list[Any]:
    """The log with everything from a moment on replaced: other items and weights."""
    changed = [(user, "e" if item == "d" else "d", time, 6 - weight) for user, item, time, weight in LOG if time >= moment]
    return [event for event in LOG if event[2] < moment] + changed


class TestNothingLaterIsKnownEarlier:
    @pytest.mark.parametrize("sampling", ["uniform", "popular", "tags"])
    @pytest.mark.parametrize("tasks", [{"clicked": 0.0}, {"watched": 0.0, "liked": 4.0}])
    def test_held_out_events_change_nothing_in_training(self, sampling: str, tasks: dict[str, float]) -> None:
        before, after = (make_dataset(events, negatives=3, negative_sampling=sampling, tasks=tasks) for events in (LOG, changed_after(6.0)))
        assert before.tags.ids == after.tags.ids
        np.testing.assert_array_equal(before.tag_counts, after.tag_counts)
        for name in ("tags", "labels", "weights", "users", "times"):
            np.testing.assert_array_equal(getattr(before.train, name), getattr(after.train, name))
        for name in before.states.fields:
            for mine, other in zip(before.train.states, after.train.states, strict=True):
                assert field_of(before, name, mine) == field_of(after, name, other)
        for row, (mine, other) in enumerate(zip(before.valid_tags.states, after.valid_tags.states, strict=True)):
            assert field_of(before, "tags", mine) == field_of(after, "tags", other)
            np.testing.assert_array_equal(before.valid_tags.own[0].row(row), after.valid_tags.own[0].row(row))

    @pytest.mark.parametrize("sampling", ["uniform", "popular"])
    def test_training_events_change_no_earlier_row(self, sampling: str) -> None:
        before, after = (make_dataset(events, negatives=3, negative_sampling=sampling) for events in (LOG, changed_after(3.0)))
        early = before.train.times < 3
        assert early.sum() > 3
        rows_before, rows_after = described_rows(before, before.train), described_rows(after, after.train)
        named = [(user, time, set(tags)) for user, time, tags in rows_before if time < 3]
        assert named == [(user, time, set(tags)) for user, time, tags in rows_after if time < 3]
        np.testing.assert_array_equal(before.train.labels[early], after.train.labels[: early.sum()])
        for mine, other in zip(before.train.states[early], after.train.states[: early.sum()], strict=True):
            assert field_of(before, "items", mine) == field_of(after, "items", other)

    def test_the_same_moment_is_not_before(self) -> None:
        events = [("u", "a", 0, 1), ("u", "c", 1, 1), ("u", "b", 1, 1), *LOG[3:]]
        dataset = make_dataset(events)
        at_one = dataset.train.states[dataset.train.times == 1]
        assert len(set(at_one.tolist())) == 1
        assert field_of(dataset, "items", at_one[0]) == {"a": 1.0}


class TestRefused:
    def test_without_tags(self) -> None:
        with pytest.raises(DataError, match="min_tag_count"):
            make_dataset(LOG, min_tag_count=50)

    def test_without_time_to_split(self) -> None:
        with pytest.raises(DataError, match="split by time"):
            make_dataset([(user, item, 1.0, 1.0) for user, item, _, _ in LOG])

"""Splits: nothing of a held-out event reaches training, and every method cuts where it says."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tfmi.config import SplitConfig
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.assembly import TagAssignments
from tfmi.data.dataset import CategoricalFeature, InteractionDataset, MultiValuedFeature, NumericFeature, Sequences
from tfmi.data.splitting.filtering import core_mask
from tfmi.data.splitting.ordering import order_events
from tfmi.data.splitting.splits import share_sizes, split_events
from tfmi.data.tables import EventTable, ItemTable, UserTable

METHODS = ("by_user", "leave_one_out", "by_time", "session_prefixes")


def make_table(events: Sequence[tuple[str, str, float]], with_times: bool = True) -> EventTable:
    """A table of (user, item, time) events in this order; an event's weight is its number, so that it can be told from all others."""
    users = sorted({user for user, _, _ in events})
    items = sorted({item for _, item, _ in events})
    return EventTable(
        user_ids=users,
        item_ids=items,
        user_codes=np.array([users.index(user) for user, _, _ in events], dtype=np.int64),
        item_codes=np.array([items.index(item) for _, item, _ in events], dtype=np.int64),
        timestamps=np.array([time for _, _, time in events], dtype=np.float64) if with_times else None,
        weights=np.arange(len(events), dtype=np.float32),
    )


def keep_all(method: str = "auto", **values: object) -> SplitConfig:
    """A split without k-core filtering."""
    return SplitConfig.model_validate({"method": method, "min_user_events": 1, "min_item_events": 1, **values})


def ids(dataset: InteractionDataset, sequences: Sequences) -> list[list[str]]:
    """Item ids, row by row."""
    return [[dataset.catalogue.vocabulary.identifier(i) for i in sequences.row(r)] for r in range(len(sequences))]


def numbers(sequences: Sequences) -> list[list[int]]:
    """Event numbers (see ``make_table``), row by row."""
    assert sequences.weights is not None
    return [sequences.weights[a:b].astype(int).tolist() for a, b in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)]


def one_row_each(lengths: Sequence[int]) -> list[tuple[str, str, float]]:
    """A log in which user r has ``lengths[r]`` events, interleaved over time."""
    events = [(f"u{user}", f"i{(user + step) % 7}", 100.0 * step + user) for user, length in enumerate(lengths) for step in range(length)]
    return sorted(events, key=lambda event: event[2])


logs = st.lists(st.integers(1, 9), min_size=6, max_size=14).map(one_row_each)


class TestBothSides:
    @settings(max_examples=40, deadline=None)
    @given(logs, st.sampled_from(METHODS))
    def test_history_ends_before_its_targets_and_holds_everything_before_them(self, events: list, method: str) -> None:
        table = make_table(events)
        dataset = split_or_discard(table, keep_all(method))
        by_user: dict[int, list[int]] = {}
        for number, user in enumerate(table.user_codes.tolist()):
            by_user.setdefault(user, []).append(number)
        for examples in (dataset.valid, dataset.test):
            for history, targets in zip(numbers(examples.histories), numbers(examples.targets), strict=True):
                assert history
                assert targets
                own = by_user[int(table.user_codes[history[0]])]
                assert own[: len(history) + len(targets)] == history + targets

    @settings(max_examples=40, deadline=None)
    @given(logs, st.sampled_from(METHODS))
    def test_no_target_is_in_training_and_no_test_target_is_a_validation_target(self, events: list, method: str) -> None:
        dataset = split_or_discard(make_table(events), keep_all(method))
        train, valid, test = (
            set(itertools.chain.from_iterable(numbers(s))) for s in (dataset.train.in_memory(), dataset.valid.targets, dataset.test.targets)
        )
        assert not train & valid
        assert not train & test
        assert not valid & test

    @settings(max_examples=20, deadline=None)
    @given(logs, st.sampled_from(METHODS))
    def test_counts_and_order_come_from_training_alone(self, events: list, method: str) -> None:
        dataset = split_or_discard(make_table(events), keep_all(method))
        counts = dataset.catalogue.counts
        assert counts.tolist() == np.bincount(dataset.train.in_memory().items, minlength=dataset.catalogue.num_rows).tolist()
        keys = [(-count, identifier) for count, identifier in zip(counts[2:].tolist(), dataset.catalogue.vocabulary.ids, strict=True)]
        assert keys == sorted(keys)
        assert set(dataset.catalogue.vocabulary.ids) == {item for _, item, _ in events}


def split_or_discard(table: EventTable, config: SplitConfig) -> InteractionDataset:
    """The dataset; a random log that leaves a part empty, which is an error of its own, is no example."""
    try:
        return split_events("test", table, config, "by_user")
    except DataError as error:
        if "part" not in str(error):
            raise
        reject()


class TestByUser:
    def test_a_user_is_on_one_side_and_the_sizes_are_comirecs(self) -> None:
        events = one_row_each([5] * 53)
        dataset = split_events("test", make_table(events), keep_all(), "by_user")
        assert [len(dataset.train), len(dataset.valid), len(dataset.test)] == [42, 5, 6]
        assert dataset.report["split"] == "by_user"

    @pytest.mark.parametrize(("events", "history", "targets"), [(5, 4, 1), (9, 7, 2), (10, 8, 2)])
    def test_the_first_80_percent_rounded_down_are_history(self, events: int, history: int, targets: int) -> None:
        dataset = split_events("test", make_table(one_row_each([events] * 10)), keep_all(), "by_user")
        for examples in (dataset.valid, dataset.test):
            assert {len(row) for row in numbers(examples.histories)} == {history}
            assert {len(row) for row in numbers(examples.targets)} == {targets}

    def test_another_seed_tests_other_users(self) -> None:
        table = make_table(one_row_each([5] * 50))
        first, again, other = (numbers(split_events("test", table, keep_all(seed=s), "by_user").test.targets) for s in (1, 1, 2))
        assert first == again
        assert first != other

    def test_a_user_too_short_for_history_and_target_is_not_tested(self) -> None:
        dataset = split_events("test", make_table(one_row_each([1, 5] * 20)), keep_all(), "by_user")
        assert all(len(history) == 4 for history in numbers(dataset.test.histories) + numbers(dataset.valid.histories))

    @pytest.mark.parametrize(("total", "expected"), [(22_363, (17_890, 2_236)), (25_253, (20_202, 2_525)), (10, (8, 1)), (3, (1, 1))])
    def test_share_sizes(self, total: int, expected: tuple[int, int]) -> None:
        assert share_sizes(total, 0.1, 0.1) == expected

    def test_two_users_are_too_few(self) -> None:
        with pytest.raises(DataError, match="at least 3 users, got 2"):
            split_events("test", make_table(one_row_each([5, 5])), keep_all(), "by_user")


class TestLeaveOneOut:
    def test_last_is_test_second_last_validation_rest_train(self) -> None:
        table = make_table([("u", item, float(time)) for time, item in enumerate("abcde")] + [("v", "a", 1.0), ("v", "b", 2.0)])
        dataset = split_events("test", table, keep_all("leave_one_out"), "by_user")
        assert ids(dataset, dataset.train.in_memory()) == [["a", "b", "c"], ["a", "b"]]  # v is too short to be tested and only trains
        assert ids(dataset, dataset.valid.histories) == [["a", "b", "c"]]
        assert ids(dataset, dataset.valid.targets) == [["d"]]
        assert ids(dataset, dataset.test.histories) == [["a", "b", "c", "d"]]
        assert ids(dataset, dataset.test.targets) == [["e"]]

    def test_an_item_seen_only_in_test_stays_a_candidate_with_count_0(self) -> None:
        table = make_table([("u", item, float(time)) for time, item in enumerate("aabbc")])
        dataset = split_events("test", table, keep_all("leave_one_out"), "by_user")
        assert dataset.catalogue.vocabulary.ids == ["a", "b", "c"]
        assert dataset.catalogue.counts.tolist() == [0, 0, 2, 1, 0]
        assert dataset.report["items_not_in_train"] == 1
        assert dataset.report["test"]["targets_not_in_train"] == 1

    def test_equal_times_keep_the_files_order(self) -> None:
        table = make_table([("u", "d", 5.0), ("u", "a", 1.0), ("u", "c", 5.0), ("u", "b", 5.0), ("v", "a", 0.0), ("v", "b", 0.0)])
        dataset = split_events("test", table, keep_all("leave_one_out"), "by_user")
        assert ids(dataset, dataset.train.in_memory())[0] == ["a", "d"]
        assert ids(dataset, dataset.test.targets) == [["b"]]

    def test_without_times_the_files_order_counts(self) -> None:
        table = make_table([("u", item, 0.0) for item in "dcba"], with_times=False)
        dataset = split_events("test", table, keep_all("leave_one_out"), "by_user")
        assert ids(dataset, dataset.test.histories) == [["d", "c", "b"]]
        assert dataset.train.in_memory().timestamps is None


class TestByTime:
    def test_one_moment_for_everybody(self) -> None:
        events = [(f"u{user}", f"i{(3 * user + time) % 5}", float(time)) for time in range(20) for user in range(5)]
        dataset = split_events("test", make_table(events), keep_all("by_time"), "by_user")
        for sequences, first, last in ((dataset.train.in_memory(), 0, 15), (dataset.valid.targets, 16, 17), (dataset.test.targets, 18, 19)):
            assert sequences.timestamps is not None
            assert [sequences.timestamps.min(), sequences.timestamps.max()] == [first, last]
        assert dataset.test.histories.timestamps is not None
        assert dataset.test.histories.timestamps.max() == 17

    def test_events_of_one_instant_stay_together(self) -> None:
        events = [("u", "a", 1.0), ("u", "b", 2.0), ("v", "a", 1.0), ("v", "b", 2.0)] + [(u, i, 9.0) for u in "uv" for i in "ab"]
        with pytest.raises(DataError, match="validation part is empty"):
            split_events("test", make_table(events), keep_all("by_time"), "by_user")

    def test_needs_times(self) -> None:
        with pytest.raises(DataError, match="by_time needs event times"):
            split_events("test", make_table(one_row_each([5] * 5), with_times=False), keep_all("by_time"), "by_user")


class TestSessionPrefixes:
    def test_every_prefix_longest_first(self) -> None:
        events = [(f"s{session:02}", str(item), session * 100.0 + item) for session in range(10) for item in (1, 2, 3, 4)]
        dataset = split_events("test", make_table(events), keep_all("session_prefixes"), "by_user")
        assert ids(dataset, dataset.test.histories) == [["1", "2", "3"], ["1", "2"], ["1"]]
        assert ids(dataset, dataset.test.targets) == [["4"], ["3"], ["2"]]
        assert len(dataset.train) == 8

    def test_the_last_sessions_by_time_are_tested(self) -> None:
        # The session whose id comes first ends last.
        events = [(f"s{session:02}", str(item), -100.0 * session + item) for session in range(10) for item in (1, 2)]
        dataset = split_events("test", make_table(events), keep_all("session_prefixes"), "by_user")
        assert dataset.test.targets.timestamps is not None
        assert dataset.train.in_memory().timestamps is not None
        assert dataset.test.targets.timestamps.tolist() == [2.0]
        assert dataset.train.in_memory().timestamps.max() < dataset.valid.histories.timestamps.min()  # type: ignore[union-attr]


class TestCore:
    def test_items_first_then_users_once(self) -> None:
        users = np.array([0, 0, 0, 1, 1, 2, 2, 2])
        items = np.array([0, 1, 2, 0, 1, 0, 1, 1])
        # Item 2 goes; user 0 and 1 then have 2 events each.
        assert core_mask(users, items, 3, 2, iterate=False).tolist() == [False] * 5 + [True] * 3
        # Iterated, item 0 is left with one event and goes, then user 2.
        assert not core_mask(users, items, 3, 2, iterate=True).any()

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60), st.integers(1, 4), st.integers(1, 4))
    def test_iterated_core_is_what_remains_of_any_larger_core(self, pairs: list, min_user: int, min_item: int) -> None:
        users, items = (np.array(column) for column in zip(*pairs, strict=True))
        kept = core_mask(users, items, min_user, min_item, iterate=True)
        for codes, minimum in ((users, min_user), (items, min_item)):
            assert all((codes[kept] == code).sum() >= minimum for code in codes[kept])
        assert np.array_equal(kept[kept], core_mask(users[kept], items[kept], min_user, min_item, iterate=False))

    def test_nothing_left_says_what_to_lower(self) -> None:
        with pytest.raises(DataError, match=r"none of its 10 events is left.*lower data\.split\.min_item_events"):
            split_events("test", make_table(one_row_each([5, 5])), SplitConfig(min_user_events=6), "by_user")

    def test_left_out_events_are_counted_and_their_items_are_no_candidates(self) -> None:
        events = [*one_row_each([6] * 20), ("u0", "rare", 1e6)]
        dataset = split_events("test", make_table(events), SplitConfig(), "leave_one_out")
        assert "rare" not in dataset.catalogue.vocabulary.ids
        assert dataset.report["events_left_out_as_rare"] == 1


class TestFeatures:
    TABLE = make_table([(f"u{user}", item, float(time)) for user in range(4) for time, item in enumerate("abcd")])

    def split(self, items: ItemTable | None = None, users: UserTable | None = None, **extra: TagAssignments) -> InteractionDataset:
        return split_events("test", self.TABLE, keep_all("leave_one_out"), "by_user", items=items, users=users, **extra)

    def test_catalogue_columns_follow_the_item_indices(self) -> None:
        items = ItemTable(
            item_ids=["d", "x", "a", "b"],
            titles=["D", "X", "A", "B"],
            categories=["odd", "odd", "even", ""],
            tags=[[("t", 2.0)], [], [("s", 0.5), ("t", 1.0), ("s", 0.25)], []],
            numbers={"price": np.array([3.0, 100.0, 1.0, np.nan], dtype=np.float32)},
        )
        catalogue = self.split(items).catalogue
        assert catalogue.vocabulary.ids == ["a", "b", "c", "d"]
        assert catalogue.titles == ["", "", "A", "B", "", "D"]
        category, tags, price = (catalogue.features[name] for name in ("category", "tags", "price"))
        assert isinstance(category, CategoricalFeature)
        assert category.vocabulary.ids == ["even", "odd"]  # "even" has all the training events
        assert category.values.tolist() == [0, 0, 2, 0, 0, 3]
        assert isinstance(tags, MultiValuedFeature)
        assert tags.vocabulary.ids == ["s", "t"]
        assert tags.values.tolist() == [[0, 0], [0, 0], [3, 2], [0, 0], [0, 0], [3, 0]]
        assert tags.weights.tolist() == [[0, 0], [0, 0], [1.0, 0.75], [0, 0], [0, 0], [2.0, 0]]
        assert isinstance(price, NumericFeature)
        assert (price.mean, price.deviation) == (2.0, 1.0)  # over the items, a: 1 and d: 3
        assert np.isnan(price.values[[0, 1, 3, 4]]).all()
        assert "brand" not in catalogue.features

    def test_a_number_column_may_not_take_the_name_of_another_feature(self) -> None:
        with pytest.raises(DataError, match="'tags'"):
            self.split(ItemTable(item_ids=["a"], numbers={"tags": np.ones(1, np.float32)}))

    def test_profiles_know_only_what_training_users_say(self) -> None:
        columns: Mapping[str, list[str] | np.ndarray] = {
            "region": [f"r{user}" for user in range(50)],
            "age": np.arange(50, dtype=np.float32),
        }
        users = UserTable([f"u{user}" for user in range(50)], columns)
        dataset = split_events("test", make_table(one_row_each([5] * 50)), keep_all(), "by_user", users=users)
        profiles = dataset.profiles
        assert profiles is not None
        region, age = profiles.features["region"], profiles.features["age"]
        assert isinstance(region, CategoricalFeature)
        assert isinstance(age, NumericFeature)
        trained = [profiles.user_ids[row] for row in dataset.train.in_memory().users]
        assert sorted(region.vocabulary.ids) == sorted(f"r{user[1:]}" for user in trained)
        assert (region.values[dataset.test.histories.users] == 1).all()
        assert age.mean == pytest.approx(np.mean([float(user[1:]) for user in trained]))
        assert profiles.user_ids[0] == ""
        assert region.values[0] == 0
        assert np.isnan(age.values[0])

    def test_users_point_at_their_own_profile(self) -> None:
        users = UserTable(["u3", "u1", "nobody"], {"region": ["three", "one", "none"]})
        dataset = self.split(users=users)
        assert dataset.profiles is not None
        region = dataset.profiles.features["region"]
        assert isinstance(region, CategoricalFeature)
        said = {dataset.profiles.user_ids[u]: region.vocabulary.identifier(int(region.values[u])) for u in dataset.test.histories.users}
        assert said == {"u0": "", "u1": "one", "u2": "", "u3": "three"}

    def test_without_profiles_users_are_numbered(self) -> None:
        dataset = self.split()
        assert dataset.profiles is None
        assert dataset.train.in_memory().users.tolist() == [0, 1, 2, 3]

    def test_tags_given_to_held_out_items_or_later_are_not_learned(self) -> None:
        # User 0 trains with a and b, at times 0 and 1; c is the validation target, d the test target. User 1 also tags a.
        rows = [(0, 0, 0, 0.5), (1, 0, 0, 1.0), (0, 1, 0, 2.0), (0, 2, 1, 0.0), (0, 3, 1, 0.0)]
        users, items, tags, times = (np.array(column) for column in zip(*rows, strict=True))
        assignments = TagAssignments(users, items, tags, times, ["seen", "leaked"])
        feature = self.split(assignments=assignments).catalogue.features["tags"]
        assert isinstance(feature, MultiValuedFeature)
        assert feature.vocabulary.ids == ["seen"]
        assert feature.weights[2].tolist() == [2.0]
        assert feature.values.sum() == 2


def test_given_is_for_data_that_comes_split() -> None:
    with pytest.raises(ConfigError, match="'given' is for data that comes split"):
        split_events("test", make_table(one_row_each([5] * 5)), keep_all("given"), "by_user")


def test_order_events_groups_users_and_sorts_times() -> None:
    table = make_table([("b", "x", 3.0), ("a", "y", 2.0), ("b", "z", 1.0)])
    ordered = order_events(table, np.array([True, True, True]))
    assert ordered.users.tolist() == [0, 1]
    assert ordered.timestamps is not None
    assert ordered.timestamps.tolist() == [2.0, 1.0, 3.0]

"""Splits: which events teach, which are a known history, and which are to be predicted. A history always ends before its target.

Every method first leaves out rare items and users (k-core), orders each user's events by time (ties by file order), and then is a
choice of ranges of that order:

- ``by_user``: other users are tested than train (Cen et al., KDD 2020, experimental setup).
- ``leave_one_out``: each user's last event is the test target, the second last the validation target.
- ``by_time``: everything before one moment trains; what happens after it is predicted.
- ``session_prefixes``: the last sessions are tested, every prefix of them predicting its next item (Wang et al., GCE-GNN,
  SIGIR 2020, datasets).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from tfmi.config import SplitConfig
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.assembly import Parts, TagAssignments, assemble_from_codes
from tfmi.data.dataset import InteractionDataset, Sequences
from tfmi.data.splitting.explicit_negatives import separate_negatives
from tfmi.data.splitting.filtering import cold_items, filter_events, with_cold_items
from tfmi.data.splitting.given import NOT_GIVEN, split_given
from tfmi.data.splitting.slicing import cut_rows, every_prefix, sequences_from_ranges, whole_rows
from tfmi.data.tables import EventTable, ItemTable, UserTable

CutMethod = Literal["by_user", "leave_one_out", "by_time", "session_prefixes"]  # the split methods that a log is cut by


def split_events(
    name: str,
    events: EventTable,
    config: SplitConfig,
    default_method: CutMethod,
    *,
    items: ItemTable | None = None,
    users: UserTable | None = None,
    assignments: TagAssignments | None = None,
) -> InteractionDataset:
    """Filter, order, split and index a log.

    Args:
        name: Short name for reports.
        events: The checked log.
        config: How to split.
        default_method: What ``auto`` means for this data.
        items: The catalogue, or None.
        users: The profiles, or None.
        assignments: Tags given by users, or None.

    Returns:
        The dataset. Item indices follow the frequency in the training part; items that occur only in the other parts have count 0
        and are candidates all the same.

    Raises:
        ConfigError: ``method: given``, which only data that comes split can have.
        DataError: Nothing is left after filtering, or a part would be empty, or ``by_time`` without times.
    """
    separated = separate_negatives(events)
    left_out: dict[str, int] = {}
    method: str
    if events.parts is not None and config.method in ("auto", "given"):
        method = "given"
        ordered, parts = split_given(separated, config)
    else:
        method = resolve_method(config, default_method)
        filtered = filter_events(name, separated.positives, config)
        ordered, left_out = separated.ordered(filtered.kept), filtered.report
        parts = _METHODS[method](ordered, config)
    with_events = np.unique(ordered.items)
    cold = cold_items(name, items, [events.item_ids[code] for code in with_events], config)
    item_ids, candidates = with_cold_items(events.item_ids, with_events, cold.candidates)
    report = {
        "split": method,
        "users": len(ordered),
        "events": len(ordered.items),
        **left_out,
        **cold.report,
        "read": dict(events.report),
    }
    return assemble_from_codes(
        name,
        parts,
        item_ids=item_ids,
        candidates=candidates,
        user_ids=events.user_ids,
        items=items,
        users=users,
        assignments=assignments,
        report=report,
    )


def resolve_method(config: SplitConfig, default_method: CutMethod) -> CutMethod:
    """The method to use; raises ``ConfigError`` for ``given``."""
    if config.method == "auto":
        return default_method
    if config.method == "given":
        raise ConfigError(f"{NOT_GIVEN}: {', '.join(_METHODS)}, or auto (here {default_method})")
    return config.method


def split_by_user(ordered: Sequences, config: SplitConfig) -> Parts:
    """Shuffle users, then train : validation : test. A tested user's first ``int(history_share x length)`` events are history.

    The shares are of users, rounded down for train and validation as in ComiRec; the test part takes the rest.
    """
    if len(ordered) < 3:
        raise DataError(f"split by_user needs at least 3 users, got {len(ordered)}; choose data.split.method: leave_one_out")
    shuffled = np.random.default_rng(config.seed).permutation(len(ordered))
    num_train, num_valid = share_sizes(len(ordered), config.valid_share, config.test_share)
    train_rows = np.sort(shuffled[:num_train])
    valid_rows = np.sort(shuffled[num_train : num_train + num_valid])
    test_rows = np.sort(shuffled[num_train + num_valid :])
    return Parts(
        train=whole_rows(ordered, train_rows),
        valid=cut_rows(ordered, *history_and_rest(ordered, valid_rows, config.history_share)),
        test=cut_rows(ordered, *history_and_rest(ordered, test_rows, config.history_share)),
    )


def share_sizes(total: int, valid_share: float, test_share: float) -> tuple[int, int]:
    """Sizes of the training and the validation part of ``total`` (at least 3); the test part, at least 1, is the rest."""
    # 1 - 0.1 - 0.1 is a hair off 0.8 in binary: without the allowance 10 users could give 7 to training.
    num_valid = max(1, int(valid_share * total + 1e-9))
    num_train = max(1, min(int((1 - valid_share - test_share) * total + 1e-9), total - num_valid - 1))
    return num_train, num_valid


def history_and_rest(ordered: Sequences, rows: np.ndarray, history_share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut ``rows`` at ``int(history_share x length)``: rows, ends of histories, ends of targets, for ``cut_rows``.

    Rows too short to have both a history and a target are left out.
    """
    lengths = ordered.lengths()[rows]
    history_lengths = (history_share * lengths).astype(np.int64)
    usable = (history_lengths >= 1) & (history_lengths < lengths)
    rows = rows[usable]
    return rows, ordered.offsets[rows] + history_lengths[usable], ordered.offsets[rows + 1]


def split_leave_one_out(ordered: Sequences, config: SplitConfig) -> Parts:
    """Last event: test; second last: validation, both with all earlier events as history. Users with fewer than 3 events only train."""
    del config  # every method takes it; this one has no choice to make
    lengths = ordered.lengths()
    tested = np.flatnonzero(lengths >= 3)
    ends = ordered.offsets[1:]
    train_ends = np.where(lengths >= 3, ends - 2, ends)
    rows = np.arange(len(ordered))
    return Parts(
        train=sequences_from_ranges(ordered, rows, ordered.offsets[:-1], train_ends),
        valid=cut_rows(ordered, tested, ends[tested] - 2, ends[tested] - 1),
        test=cut_rows(ordered, tested, ends[tested] - 1, ends[tested]),
    )


def split_by_time(ordered: Sequences, config: SplitConfig) -> Parts:
    """Two moments cut the log for everybody: before the first trains, between them validates, from the second on tests.

    The moments leave ``valid_share`` and ``test_share`` of the events behind them; events of one instant stay together. A user is
    tested with all events before the moment as history and all events of the period as targets; users without either are left out.
    """
    if ordered.timestamps is None:
        raise DataError("split by_time needs event times, and this data has only an order; choose another data.split.method")
    return cut_at_moments(ordered, ordered.timestamps, *two_moments(ordered.timestamps, config))


def two_moments(timestamps: np.ndarray, config: SplitConfig) -> tuple[float, float]:
    """The moments at which validation and test begin: they leave ``valid_share`` and ``test_share`` of the events behind them, events of
    one instant together.

    Raises:
        DataError: There are fewer than three events, or all are of one instant.
    """
    if len(timestamps) < 3 or timestamps.min() == timestamps.max():
        raise DataError(f"a split by time needs at least 3 events at different times, got {len(timestamps)} events")
    times = np.sort(timestamps)
    num_train, num_valid = share_sizes(len(times), config.valid_share, config.test_share)
    return float(times[num_train]), float(times[num_train + num_valid])


def cut_at_moments(ordered: Sequences, timestamps: np.ndarray, first: float, second: float) -> Parts:
    """Cut rows of events at ``timestamps`` [events] where ``split_by_time`` cuts them, at two given moments."""
    starts, ends = ordered.offsets[:-1], ordered.offsets[1:]
    valid_starts = starts + _count_per_row(ordered, timestamps < first)
    test_starts = starts + _count_per_row(ordered, timestamps < second)
    rows = np.arange(len(ordered))
    validated = rows[(valid_starts > starts) & (test_starts > valid_starts)]
    tested = rows[(test_starts > starts) & (ends > test_starts)]
    trained = rows[valid_starts > starts]
    return Parts(
        train=sequences_from_ranges(ordered, trained, starts[trained], valid_starts[trained]),
        valid=cut_rows(ordered, validated, valid_starts[validated], test_starts[validated]),
        test=cut_rows(ordered, tested, test_starts[tested], ends[tested]),
    )


def _count_per_row(ordered: Sequences, chosen: np.ndarray) -> np.ndarray:
    """int64 [rows]: how many events of each row are True in ``chosen`` [events]."""
    running = np.concatenate([[0], np.cumsum(chosen)])
    return running[ordered.offsets[1:]] - running[ordered.offsets[:-1]]


def split_session_prefixes(ordered: Sequences, config: SplitConfig) -> Parts:
    """Treat each user id as one session: the last sessions (by the time of their last event, else by file order) are tested.

    Every prefix of a validation or test session is one example with the next item as its target.
    """
    if len(ordered) < 3:
        raise DataError(f"split session_prefixes needs at least 3 sessions, got {len(ordered)}")
    rows = np.arange(len(ordered))
    if ordered.timestamps is not None:
        rows = np.argsort(ordered.timestamps[ordered.offsets[1:] - 1], kind="stable")
    num_train, num_valid = share_sizes(len(ordered), config.valid_share, config.test_share)
    return Parts(
        train=whole_rows(ordered, rows[:num_train]),
        valid=every_prefix(ordered, rows[num_train : num_train + num_valid]),
        test=every_prefix(ordered, rows[num_train + num_valid :]),
    )


_METHODS: dict[CutMethod, Callable[[Sequences, SplitConfig], Parts]] = {
    "by_user": split_by_user,
    "leave_one_out": split_leave_one_out,
    "by_time": split_by_time,
    "session_prefixes": split_session_prefixes,
}

"""Everybody in a log as somebody to test, by the rule by which a model was tested: nobody is left out as rare, and nobody trains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tfmi.config import SplitConfig
from tfmi.core.errors import DataError
from tfmi.data.assembly import Parts, number_items
from tfmi.data.dataset import EvaluationSet, InteractionDataset, Sequences
from tfmi.data.features import build_catalogue, build_profiles
from tfmi.data.splitting.explicit_negatives import separate_negatives
from tfmi.data.splitting.slicing import cut_rows, every_prefix, whole_rows
from tfmi.data.splitting.splits import CutMethod, cut_at_moments, history_and_rest, resolve_method, two_moments
from tfmi.data.tables import EventTable, ItemTable, UserTable


def everybody(
    name: str,
    events: EventTable,
    config: SplitConfig,
    default_method: CutMethod,
    *,
    items: ItemTable | None = None,
    users: UserTable | None = None,
) -> InteractionDataset:
    """A dataset whose test part is everybody with a history and a later event.

    Args:
        name: Short name for reports.
        events: The checked log.
        config: The model's rule: of ``by_user``, and of a given split, ``history_share`` of each user's events are history; of
            ``leave_one_out`` all but the last; of ``by_time`` those before the moment that leaves ``test_share`` of this log behind it;
            of ``session_prefixes`` every prefix is tested on the next event.
        default_method: What ``auto`` means for this data.
        items: The catalogue, or None.
        users: The profiles, or None.

    Raises:
        DataError: Nobody has two events.
    """
    method = default_method if config.method == "given" else resolve_method(config, default_method)
    separated = separate_negatives(events)
    ordered = separated.ordered(np.ones(len(separated.positives), dtype=bool))
    rows = np.arange(len(ordered))
    if method == "by_user":
        tested = cut_rows(ordered, *history_and_rest(ordered, rows, config.history_share))
    elif method == "leave_one_out":
        rows = np.flatnonzero(ordered.lengths() >= 2)
        tested = cut_rows(ordered, rows, ordered.offsets[1:][rows] - 1, ordered.offsets[1:][rows])
    elif method == "by_time":
        if ordered.timestamps is None:
            raise DataError(f"dataset {name!r}: the model was split by_time, and this data has no times; name their column")
        tested = cut_at_moments(ordered, ordered.timestamps, *two_moments(ordered.timestamps, config)).test
    else:
        tested = every_prefix(ordered, rows)
    if not len(tested):
        raise DataError(f"dataset {name!r}: nobody has both a history and a later event, as {method} asks for")
    nobody = whole_rows(ordered, np.empty(0, np.int64))
    parts, vocabulary = number_items(Parts(nobody, EvaluationSet(nobody, nobody), tested), events.item_ids, np.unique(ordered.items))
    test, profiles = parts.test, None
    if users is not None and users.columns:
        present = np.unique(test.histories.users)
        row_of_code = np.zeros(len(events.user_ids), dtype=np.int32)
        row_of_code[present] = np.arange(1, len(present) + 1)
        profiles = build_profiles([events.user_ids[code] for code in present], row_of_code[present], users)
        test = EvaluationSet(*(_with_rows(part, row_of_code) for part in (test.histories, test.targets)))
    catalogue = build_catalogue(vocabulary, np.zeros(vocabulary.num_rows, np.int64), items)
    report = {"dataset": name, "split": f"everybody, {method}", "users": len(test), "read": dict(events.report)}
    return InteractionDataset(name, catalogue, parts.train, parts.valid, test, profiles, report)


def _with_rows(sequences: Sequences, row_of_code: np.ndarray) -> Sequences:
    return replace(sequences, users=row_of_code[sequences.users])

"""The last step of loading: from split sequences of table codes to an ``InteractionDataset`` of indices with features and counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tfmi.core.errors import DataError
from tfmi.data.dataset import (
    FIRST_INDEX,
    PADDING_INDEX,
    UNKNOWN_INDEX,
    Catalogue,
    EvaluationSet,
    InteractionDataset,
    Sequences,
    UserProfiles,
    Vocabulary,
)
from tfmi.data.features import build_catalogue, build_profiles
from tfmi.data.tables import ItemTable, UserTable


@dataclass(frozen=True)
class Parts:
    """Training sequences, validation and test users. Splitting fills them with table codes, assembly turns those into indices."""

    train: Sequences
    valid: EvaluationSet
    test: EvaluationSet

    def all_sequences(self) -> list[Sequences]:
        """The five sequences: train, validation histories and targets, test histories and targets."""
        return [self.train, self.valid.histories, self.valid.targets, self.test.histories, self.test.targets]

    def with_sequences(self, sequences: Sequence[Sequences]) -> Parts:
        """Parts of other sequences, in the order of ``all_sequences``."""
        train, valid_histories, valid_targets, test_histories, test_targets = sequences
        return Parts(train, EvaluationSet(valid_histories, valid_targets), EvaluationSet(test_histories, test_targets))


@dataclass(frozen=True)
class TagAssignments:
    """Tags that users gave to items: row r says that a user gave an item the tag ``tag_names[tag_codes[r]]`` at a time.

    Attributes:
        user_codes, item_codes: int64 [rows] codes of the ``EventTable`` that the assignments belong to.
        tag_codes: int64 [rows] positions in ``tag_names``.
        timestamps: float64 [rows], on the clock of the events.
        tag_names: The distinct tags.
    """

    user_codes: np.ndarray
    item_codes: np.ndarray
    tag_codes: np.ndarray
    timestamps: np.ndarray
    tag_names: Sequence[str]


def frequency_order(ids: Sequence[str], candidates: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sort item codes by falling training count, ties by id.

    Args:
        ids: The id of each code.
        candidates: int [n] distinct codes.
        counts: int [len(ids)] occurrences of each code in the training part.

    Returns:
        int64 [n]: the codes, in the order in which they receive indices 2, 3, ...
    """
    by_id = np.asarray(sorted(candidates.tolist(), key=lambda code: ids[code]), dtype=np.int64)
    return by_id[np.argsort(-counts[by_id], kind="stable")]


def number_items(parts: Parts, item_ids: Sequence[str], candidates: np.ndarray) -> tuple[Parts, Vocabulary]:
    """Replace item codes by indices, most frequent in training first. Codes outside ``candidates`` become the unknown index.

    Of ``negatives`` the code -1 is padding, and so becomes what is not among the candidates.
    """
    counts = np.bincount(parts.train.items, minlength=len(item_ids))
    order = frequency_order(item_ids, candidates, counts)
    index_of_code = np.full(len(item_ids), UNKNOWN_INDEX, dtype=np.int32)
    index_of_code[order] = np.arange(FIRST_INDEX, FIRST_INDEX + len(order))
    index_of_negative = np.concatenate([np.where(index_of_code >= FIRST_INDEX, index_of_code, PADDING_INDEX), [PADDING_INDEX]])
    numbered = [
        replace(s, items=index_of_code[s.items], negatives=None if s.negatives is None else index_of_negative[s.negatives])
        for s in parts.all_sequences()
    ]
    return parts.with_sequences(numbered), Vocabulary(item_ids[code] for code in order)


def number_users(parts: Parts, user_ids: Sequence[str], table: UserTable | None) -> tuple[Parts, UserProfiles | None]:
    """Replace user codes by rows of ``UserProfiles``, or by ``arange`` where there are no profiles."""
    if table is None or not table.columns:
        return parts.with_sequences([replace(s, users=np.arange(len(s), dtype=np.int32)) for s in parts.all_sequences()]), None
    present = np.unique(np.concatenate([s.users for s in parts.all_sequences()]))
    row_of_code = np.zeros(len(user_ids), dtype=np.int32)
    row_of_code[present] = np.arange(1, len(present) + 1)
    numbered = parts.with_sequences([replace(s, users=row_of_code[s.users]) for s in parts.all_sequences()])
    training_users = np.unique(numbered.train.users)
    return numbered, build_profiles([user_ids[code] for code in present], training_users, table)


def training_counts(train: Sequences, num_rows: int) -> np.ndarray:
    """int64 [num_rows]: how often each item index occurs in training; 0 at padding and unknown."""
    counts = np.bincount(train.items, minlength=num_rows).astype(np.int64)
    counts[:FIRST_INDEX] = 0
    return counts


def tags_from_training(assignments: TagAssignments, train: Sequences, item_ids: Sequence[str]) -> ItemTable:
    """Item tags weighted by how often they were given, as far as that was before anything held out.

    An assignment counts if the user trains with the item, and gave the tag no later than the user's last training event, so that no
    tag tells a model about a held-out event. ``train`` holds table codes.
    """
    if train.timestamps is None:
        raise ValueError("tags given by users need events with times")
    row_users = np.repeat(train.users, train.lengths()).astype(np.int64)
    training_pairs = np.unique(row_users * len(item_ids) + train.items)
    pairs = assignments.user_codes.astype(np.int64) * len(item_ids) + assignments.item_codes
    last_seen = np.full(int(assignments.user_codes.max(initial=-1)) + 1, -np.inf)
    known = row_users < len(last_seen)
    np.maximum.at(last_seen, row_users[known], train.timestamps[known])
    kept = np.isin(pairs, training_pairs) & (assignments.timestamps <= last_seen[assignments.user_codes])
    keys = assignments.item_codes[kept].astype(np.int64) * len(assignments.tag_names) + assignments.tag_codes[kept]
    distinct, votes = np.unique(keys, return_counts=True)
    tags: list[list[tuple[str, float]]] = [[] for _ in item_ids]
    for key, count in zip(distinct.tolist(), votes.tolist(), strict=True):
        item, tag = divmod(key, len(assignments.tag_names))
        tags[item].append((assignments.tag_names[tag], float(count)))
    return ItemTable(item_ids=item_ids, tags=tags)


def add_tags(table: ItemTable | None, extra: ItemTable) -> ItemTable:
    """Join the tags of ``extra`` to those that ``table`` has, item by item."""
    if table is None:
        return extra
    row = {identifier: position for position, identifier in enumerate(extra.item_ids)}
    extra_tags = extra.tags or []
    own_tags = table.tags or [[] for _ in table.item_ids]
    joined = [[*own, *(extra_tags[row[i]] if i in row else [])] for i, own in zip(table.item_ids, own_tags, strict=True)]
    return replace(table, tags=joined)


def assemble(
    name: str, parts: Parts, catalogue: Catalogue, *, profiles: UserProfiles | None = None, report: Mapping[str, Any]
) -> InteractionDataset:
    """Check that every part holds something, count what there is, and build the ``InteractionDataset``.

    Raises:
        DataError: No training event, or nobody to validate or test on.
    """
    _check_parts(name, parts)
    return InteractionDataset(
        name=name,
        catalogue=catalogue,
        train=parts.train,
        valid=parts.valid,
        test=parts.test,
        profiles=profiles,
        report={"dataset": name, **_part_counts(parts, catalogue), **report},
    )


def _check_parts(name: str, parts: Parts) -> None:
    if parts.train.lengths().max(initial=0) < 2:
        raise DataError(
            f"dataset {name!r}: the training part has no sequence of two or more events, so there is nothing to learn from; give more "
            "data, lower data.split.min_user_events and data.split.min_item_events, or choose another data.split.method"
        )
    for part, examples in (("validation", parts.valid), ("test", parts.test)):
        if not len(examples):
            raise DataError(
                f"dataset {name!r}: the {part} part is empty: no user there has both a history and a later event; give more data, raise "
                "data.split.valid_share or data.split.test_share, or choose another data.split.method"
            )


def _part_counts(parts: Parts, catalogue: Catalogue) -> dict[str, Any]:
    counts: dict[str, Any] = {
        "items": len(catalogue.vocabulary),
        "items_not_in_train": int((catalogue.counts[FIRST_INDEX:] == 0).sum()),
        "train": {"sequences": len(parts.train), "events": len(parts.train.items)},
    }
    return {**counts, "valid": evaluation_counts(parts.valid, catalogue), "test": evaluation_counts(parts.test, catalogue)}


def evaluation_counts(examples: EvaluationSet, catalogue: Catalogue) -> dict[str, int]:
    """How many examples, events of history and targets an evaluation set holds, and how many targets never occur in training."""
    return {
        "examples": len(examples),
        "history_events": len(examples.histories.items),
        "targets": len(examples.targets.items),
        "targets_not_in_train": int((catalogue.counts[examples.targets.items] == 0).sum()),
    }


def assemble_from_codes(
    name: str,
    parts: Parts,
    *,
    item_ids: Sequence[str],
    candidates: np.ndarray,
    user_ids: Sequence[str],
    report: Mapping[str, Any],
    items: ItemTable | None = None,
    users: UserTable | None = None,
    assignments: TagAssignments | None = None,
) -> InteractionDataset:
    """From parts in table codes to an ``InteractionDataset``: number items and users, attach features, count.

    Args:
        name: Short name for reports.
        parts: Sequences whose items and users are codes.
        item_ids, user_ids: The id of each code.
        candidates: int [n] codes of the items that may be recommended.
        report: Counts to add to the dataset's own.
        items: The catalogue, or None.
        users: The profiles, or None.
        assignments: Tags given by users, joined to the catalogue's, as far as they belong to training events.
    """
    if assignments is not None:
        items = add_tags(items, tags_from_training(assignments, parts.train, item_ids))
    numbered, vocabulary = number_items(parts, item_ids, candidates)
    numbered, profiles = number_users(numbered, user_ids, users)
    catalogue = build_catalogue(vocabulary, training_counts(numbered.train, vocabulary.num_rows), items)
    return assemble(name, numbered, catalogue, profiles=profiles, report=report)

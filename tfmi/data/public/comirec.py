"""ComiRec's split files: ``comirec_{train,valid,test}.txt`` with ``user,item,position`` rows (Cen et al., KDD 2020, experimental setup).

The numbering of the files is kept: item n has index n + 1, whatever its frequency in the training part. A validation or test user's
first ``int(history_share x length)`` events are history and the rest are targets.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfmi.config import SplitConfig
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.assembly import Parts, assemble, training_counts
from tfmi.data.dataset import FIRST_INDEX, EvaluationSet, InteractionDataset, Sequences, Vocabulary
from tfmi.data.features import build_catalogue
from tfmi.data.public.item_attributes import ATTRIBUTES_FILE, check_join, read_attributes
from tfmi.data.public.text_files import read_integer_table, require_file
from tfmi.data.splitting.slicing import cut_rows
from tfmi.data.splitting.splits import history_and_rest

ITEM_MAP_FILE = "comirec_item_map.txt"


def load_comirec(folder: Path, config: SplitConfig) -> InteractionDataset:
    """Load split files, with item attributes if the folder has ``item_attributes.json``.

    Args:
        folder: Holds ``comirec_train.txt``, ``comirec_valid.txt``, ``comirec_test.txt``; ``comirec_item_map.txt``
            (``original,number`` rows), if there, gives the items their original ids, otherwise an item's id is its number.
        config: Only ``history_share`` is used: users and items have been filtered and split already.

    Raises:
        ConfigError: A split method other than ``auto`` or ``given``.
        DataError: A missing file, or a line that is not what the format says.
    """
    if config.method not in ("auto", "given"):
        raise ConfigError(
            f"data.split.method: {config.method!r} cannot be had from files that are already split; use auto, or dataset: sequences to "
            "split the same data otherwise"
        )
    tables = {part: _read_part(require_file(folder, f"comirec_{part}.txt", "comirec")) for part in ("train", "valid", "test")}
    num_items = max(int(sequences.items.max()) - FIRST_INDEX + 1 for sequences in tables.values())
    vocabulary = _read_vocabulary(folder / ITEM_MAP_FILE, num_items)
    parts = Parts(
        train=tables["train"],
        valid=_history_and_targets(tables["valid"], config.history_share),
        test=_history_and_targets(tables["test"], config.history_share),
    )
    attributes = folder / ATTRIBUTES_FILE
    items = read_attributes(attributes) if attributes.is_file() else None
    if items is not None:
        train = parts.train
        rows = np.repeat(np.arange(len(train)), train.lengths())
        check_join(
            attributes,
            items,
            vocabulary.ids,
            train.items.astype(np.int64) - FIRST_INDEX,
            rows,
            certain=(folder / ITEM_MAP_FILE).is_file(),
            fix=f"put {ITEM_MAP_FILE} with 'original,number' rows beside it, or take {ATTRIBUTES_FILE} away",
        )
    catalogue = build_catalogue(vocabulary, training_counts(parts.train, vocabulary.num_rows), items)
    report = {
        "split": "given",
        "users": sum(len(sequences) for sequences in tables.values()),
        "events": sum(len(sequences.items) for sequences in tables.values()),
    }
    return assemble("comirec", parts, catalogue, report=report)


def _read_part(path: Path) -> Sequences:
    """One file as sequences of item indices, users by number, events by position."""
    users, items, positions = read_integer_table(path, 3, ",").T
    if items.min() < 1:
        raise DataError(f"{path}, line {int(items.argmin()) + 1}: items are numbered from 1, got {items.min()}")
    order = np.lexsort((positions, users))
    _, lengths = np.unique(users, return_counts=True)
    return Sequences(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=(items[order] + FIRST_INDEX - 1).astype(np.int32),
        timestamps=None,
        weights=None,
        users=np.arange(len(lengths), dtype=np.int32),
    )


def _read_vocabulary(path: Path, num_items: int) -> Vocabulary:
    """The items' original ids by number; the numbers themselves without a map."""
    if not path.is_file():
        return Vocabulary(str(number) for number in range(1, num_items + 1))
    original, numbers = read_integer_table(path, 2, ",").T
    by_number = np.argsort(numbers)
    if not np.array_equal(numbers[by_number], np.arange(1, len(numbers) + 1)) or len(numbers) < num_items:
        raise DataError(f"{path}: expected one 'original,number' row for each of the numbers 1 to {num_items}, got {len(numbers)} rows")
    if len(np.unique(original)) != len(original):
        raise DataError(f"{path}: an original id stands in two rows")
    return Vocabulary(str(identifier) for identifier in original[by_number])


def _history_and_targets(sequences: Sequences, history_share: float) -> EvaluationSet:
    examples = cut_rows(sequences, *history_and_rest(sequences, np.arange(len(sequences)), history_share))
    users = np.arange(len(examples), dtype=np.int32)
    return EvaluationSet(_with_users(examples.histories, users), _with_users(examples.targets, users))


def _with_users(sequences: Sequences, users: np.ndarray) -> Sequences:
    return Sequences(sequences.offsets, sequences.items, sequences.timestamps, sequences.weights, users)

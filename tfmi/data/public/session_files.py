"""Session files with a given test part, as the session-based papers share them (Wang et al., GCE-GNN, SIGIR 2020, datasets).

``train_sessions.txt`` holds one session a line, item numbers separated by blanks, oldest first, sessions in time order.
``test_examples.txt`` holds one example a line: a prefix of a test session, a tab, and the next item.

The last sessions of the training file validate, whole sessions at a time: prefixes of one session never stand on both sides.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfmi.config import SplitConfig
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.assembly import Parts, assemble_from_codes
from tfmi.data.dataset import EvaluationSet, InteractionDataset, Sequences
from tfmi.data.public.text_files import integer_rows, read_lines, read_table, require_file
from tfmi.data.splitting.slicing import every_prefix, whole_rows

TRAIN_FILE = "train_sessions.txt"
TEST_FILE = "test_examples.txt"


def load_sessions(folder: Path, config: SplitConfig) -> InteractionDataset:
    """Load the two files.

    Args:
        folder: Holds ``train_sessions.txt`` and ``test_examples.txt``.
        config: ``valid_share`` of the training sessions, the last ones, validate; nothing else is used.

    Returns:
        The dataset. Every prefix of a validation session is an example with its next item as the target; test examples are those of
        the file. Items of all files are candidates.

    Raises:
        ConfigError: A split method other than ``auto`` or ``given``.
        DataError: A missing file, or a line that is not what the format says.
    """
    if config.method not in ("auto", "given"):
        raise ConfigError(f"data.split.method: {config.method!r} cannot be had from sessions that come with a test part; use auto")
    sessions = _read_sessions(require_file(folder, TRAIN_FILE, "sessions"))
    test = _read_examples(require_file(folder, TEST_FILE, "sessions"))
    num_train = len(sessions) - max(1, int(config.valid_share * len(sessions)))
    rows = np.arange(len(sessions))
    parts = Parts(train=whole_rows(sessions, rows[:num_train]), valid=every_prefix(sessions, rows[num_train:]), test=test)
    numbers = np.unique(np.concatenate([sessions.items, test.histories.items, test.targets.items]))
    report = {
        "split": "given",
        "users": len(sessions),
        "events": len(sessions.items),
        "examples_of_all_sessions": int(np.maximum(sessions.lengths() - 1, 0).sum()),
    }
    return assemble_from_codes(
        "sessions",
        parts,
        item_ids=[str(number) for number in range(int(numbers[-1]) + 1)],
        candidates=numbers,
        user_ids=[],
        report=report,
    )


def _read_sessions(path: Path) -> Sequences:
    return _sequences(path, [line.split() for line in read_lines(path)])


def _read_examples(path: Path) -> EvaluationSet:
    fields = read_table(path, columns=2, separator="\t")
    return EvaluationSet(
        histories=_sequences(path, [prefix.split() for prefix, _ in fields]),
        targets=_sequences(path, [[target] for _, target in fields]),
    )


def _sequences(path: Path, rows: list[list[str]]) -> Sequences:
    """Item numbers as they stand in the file, one sequence per line."""
    items, offsets = integer_rows(path, rows)
    if (np.diff(offsets) == 0).any():
        line = int(np.flatnonzero(np.diff(offsets) == 0)[0]) + 1
        raise DataError(f"{path}, line {line}: expected item numbers separated by blanks, got none")
    if items.min() < 0:
        line = int(np.searchsorted(offsets, items.argmin(), side="right"))
        raise DataError(f"{path}, line {line}: expected item numbers, got {items.min()}")
    return Sequences(offsets, items.astype(np.int32), None, None, np.arange(len(rows), dtype=np.int32))

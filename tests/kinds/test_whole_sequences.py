"""What a run on whole sequences counts: epochs of histories, speeds in targets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tfmi.data.dataset import Catalogue, EvaluationSet, InteractionDataset, Sequences, Vocabulary
from tfmi.kinds.base import kind_of
from tfmi.kinds.retrieval import InterestsKind
from tfmi.models.systems import load_config


def dataset(lengths: list[int]) -> InteractionDataset:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = (2 + np.arange(offsets[-1]) % 7).astype(np.int32)
    rows = Sequences(offsets, items, None, None, np.arange(len(lengths), dtype=np.int32))
    nobody = Sequences(np.zeros(1, np.int64), np.zeros(0, np.int32), None, None, np.zeros(0, np.int32))
    catalogue = Catalogue(Vocabulary([str(item) for item in range(7)]), {}, None, np.bincount(items, minlength=9))
    return InteractionDataset("rows", catalogue, rows, EvaluationSet(nobody, nobody), EvaluationSet(nobody, nobody))


@pytest.mark.parametrize(
    ("settings", "examples", "targets"),
    [
        (["data.examples=prefixes"], 12, 12),
        (["data.examples=sequences"], 4, 12),  # windows of 5 targets: 1, 2, 5 and 4
        (["data.examples=sequences", "data.min_history=3"], 2, 7),  # the row of 3 has no target then
        (["data.examples=random_position", "data.min_history=3"], 7, 7),
    ],
)
def test_epochs_count_examples_and_speeds_count_targets(settings: list[str], examples: int, targets: int) -> None:
    lengths = "data.history_length=5"
    config = load_config(system="sasrec", settings=[lengths, "model.extractor.encoder.positions=oldest", *settings])
    kind, model = kind_of(config), cast(Any, SimpleNamespace(votes=None))
    assert isinstance(kind, InterestsKind)
    task = kind.task(model, dataset([2, 3, 10]), config, cast(Any, object()))
    assert task.num_examples == examples
    assert task.targets_per_example * examples == pytest.approx(targets)

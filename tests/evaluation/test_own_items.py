"""Whether lists leave out what a user already has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tfmi.config import RunConfig, validate_config
from tfmi.data.dataset import Catalogue, EvaluationSet, InteractionDataset, Sequences, Vocabulary
from tfmi.evaluation.own_items import decide_own_items, repeat_share, with_own_items_decided


def rows(*items: list[int]) -> Sequences:
    lengths = [len(row) for row in items]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sequences(offsets, np.array([i for row in items for i in row], np.int32), None, None, np.arange(len(items), dtype=np.int32))


NEVER = EvaluationSet(rows([2, 3], [4]), rows([4], [5, 6]))
OFTEN = EvaluationSet(rows([2, 3], [4]), rows([2], [4, 6]))


def dataset(valid: EvaluationSet, name: str = "log") -> InteractionDataset:
    catalogue = Catalogue(Vocabulary("abcdef"), {}, None, np.zeros(8, np.int64))
    return InteractionDataset(name, catalogue, valid.histories, valid, valid)


def config(**sections: Any) -> RunConfig:
    return validate_config(sections)


def test_the_share_of_repeats() -> None:
    assert repeat_share(NEVER) == 0.0
    assert repeat_share(OFTEN) == pytest.approx(2 / 4)  # of six events, two are first ones
    assert repeat_share(EvaluationSet(rows([2]), rows([1]))) is None  # an unknown item is nobody's own


@pytest.mark.parametrize(("valid", "excluded"), [(NEVER, True), (OFTEN, False)])
def test_the_data_decides(valid: EvaluationSet, excluded: bool) -> None:
    own = decide_own_items(config(), dataset(valid))
    decided = with_own_items_decided(config(), dataset(valid))
    assert (own.excluded, own.excluded_in_export) == (excluded, excluded)
    assert (decided.evaluation.leaves_out_history, decided.export.leaves_out_history) == (excluded, excluded)
    assert (decided.evaluation.exclude_history, decided.export.exclude_history) == (excluded, excluded)


@pytest.mark.parametrize("excluded", [False, True])
@pytest.mark.parametrize("section", ["evaluation", "export"])
def test_a_configuration_decides_for_both_what_it_says_of_one(section: str, excluded: bool) -> None:
    own = decide_own_items(config(**{section: {"exclude_history": excluded}}), dataset(OFTEN if excluded else NEVER))
    assert (own.excluded, own.excluded_in_export) == (excluded, excluded)
    assert own.repeat_share is not None


def test_each_can_be_said_by_itself() -> None:
    own = decide_own_items(config(evaluation={"exclude_history": False}, export={"exclude_history": True}), dataset(NEVER))
    assert (own.excluded, own.excluded_in_export) == (False, True)


def test_published_protocols_and_models_of_repeats_keep_own_items() -> None:
    assert not decide_own_items(config(), dataset(NEVER, "comirec")).excluded
    assert not decide_own_items(config(model={"repetition": {"name": "repeat_gate"}}), dataset(NEVER)).excluded


def test_undecided_is_not_excluded() -> None:
    assert config().evaluation.exclude_history == "auto"
    assert not config().evaluation.leaves_out_history
    assert not config().export.leaves_out_history

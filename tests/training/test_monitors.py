"""What training watches can tell one model from another."""

from __future__ import annotations

import numpy as np
import pytest

from tfmi.config import EvaluationConfig
from tfmi.core.errors import TrainingError
from tfmi.data.dataset import EvaluationSet, Sequences
from tfmi.training.monitors import Monitor, can_move, rankable, retrieval_monitor, simple_monitor
from tfmi.training.trainer import Trainer, TrainingState


def rows(*items: list[int]) -> Sequences:
    lengths = [len(row) for row in items]
    return Sequences(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.array([item for row in items for item in row], dtype=np.int32),
        timestamps=None,
        weights=None,
        users=np.arange(len(items), dtype=np.int32),
    )


def users(number: int, history: list[int], targets: list[int]) -> EvaluationSet:
    return EvaluationSet(rows(*[history] * number), rows(*[targets] * number))


CONFIG = EvaluationConfig()


@pytest.mark.parametrize(
    ("items", "tested", "expected"),
    [
        (2000, 200, "recall@50"),
        (101, 200, "recall@50"),
        (24, 200, "recall@10"),  # recall@50 and @20 are 1, or nearly so, whatever the model
        (8, 200, "ndcg@10"),  # every list holds everything: only the order can move
        (2000, 20, "ndcg@50"),  # few targets: ranks tell models apart
    ],
)
def test_the_default_can_move(items: int, tested: int, expected: str) -> None:
    chosen = retrieval_monitor("auto", CONFIG, users(tested, [2, 3], [4]), items)
    assert chosen.name == expected
    assert can_move(chosen.name, items)
    assert chosen.name not in chosen.others
    assert bool(chosen.why) is (expected != "recall@50")


def test_any_cutoffs_have_a_default() -> None:
    assert retrieval_monitor("auto", EvaluationConfig(cutoffs=[10, 20]), users(200, [2], [3]), 900).name == "recall@20"
    assert retrieval_monitor("auto", EvaluationConfig(cutoffs=[100]), users(200, [2], [3]), 900).name == "recall@100"


def test_what_is_excluded_does_not_compete() -> None:
    examples = users(200, list(range(2, 17)), [30])  # 15 of 24 items are the user's own
    excluding = EvaluationConfig(exclude_history=True)
    assert rankable(examples, 24, exclude_history=True).items == 9
    assert retrieval_monitor("recall@10", CONFIG, examples, 24) == Monitor("recall@10")
    assert retrieval_monitor("recall@10", excluding, examples, 24).name == "ndcg@10"


def test_targets_that_no_list_can_hold_do_not_count() -> None:
    examples = EvaluationSet(rows([2, 3], [4]), rows([3, 5], [1]))  # a repeat, a new item, an unknown one
    assert rankable(examples, 10, exclude_history=True).targets == 1
    assert rankable(examples, 10, exclude_history=False).targets == 2


def test_a_request_that_cannot_move_is_replaced_with_the_reason() -> None:
    chosen = retrieval_monitor("hr@50", CONFIG, users(200, [2], [3]), 24)
    assert chosen.name == "recall@10"
    assert chosen.why == "training.monitor hr@50 is the same for every model where 24 items compete for the places of a list"
    assert retrieval_monitor("mrr@50", CONFIG, users(200, [2], [3]), 24) == Monitor("mrr@50")


def test_models_without_lists_have_their_usual_metric() -> None:
    assert simple_monitor("auto", "auc", "log_loss") == Monitor("auc", ("log_loss",))
    assert simple_monitor("auc", "auc", "log_loss") == Monitor("auc", ("log_loss",))
    assert simple_monitor("gauc", "auc", "log_loss") == Monitor("gauc")


def trainer(monitor: Monitor, *curve: dict[str, float]) -> Trainer:
    """A trainer that has nothing but what it watches, and what it has seen."""
    made = Trainer.__new__(Trainer)
    made._asked = monitor
    made.state = TrainingState(curve=list(curve), best_value=curve[0].get(monitor.name) if curve else None)
    return made


def test_training_turns_to_what_moves_at_the_second_validation() -> None:
    stuck = trainer(Monitor("recall@10", ("ndcg@10", "mrr@10")), {"recall@10": 1.0, "ndcg@10": 0.5, "mrr@10": 0.4})
    stuck._turn_to_what_moves({"recall@10": 1.0, "ndcg@10": 0.5, "mrr@10": 0.6})
    assert (stuck.monitor, stuck.state.best_value) == ("mrr@10", 0.4)


@pytest.mark.parametrize(
    ("curve", "metrics"),
    [
        ([], {"recall@10": 0.0, "ndcg@10": 0.0}),  # the first validation
        ([{"recall@10": 0.2, "ndcg@10": 0.1}], {"recall@10": 0.3, "ndcg@10": 0.1}),  # it moves
        ([{"recall@10": 0.0, "ndcg@10": 0.0}], {"recall@10": 0.0, "ndcg@10": 0.0}),  # nothing does yet
        ([{"recall@10": 1.0, "ndcg@10": 0.1}] * 2, {"recall@10": 1.0, "ndcg@10": 0.9}),  # too late
    ],
)
def test_training_stays_with_its_monitor(curve: list[dict[str, float]], metrics: dict[str, float]) -> None:
    watching = trainer(Monitor("recall@10", ("ndcg@10",)), *curve)
    watching._turn_to_what_moves(metrics)
    assert watching.monitor == "recall@10"


def test_a_metric_that_validation_lacks_is_replaced_or_named() -> None:
    one_outcome = trainer(Monitor("auc", ("log_loss",)))
    one_outcome._turn_to_what_moves({"log_loss": 0.3})
    assert one_outcome.monitor == "log_loss"
    with pytest.raises(TrainingError, match=r"validation has no 'gauc'.*it has: log_loss"):
        trainer(Monitor("gauc"))._turn_to_what_moves({"log_loss": 0.3})


@pytest.mark.slow
def test_a_constant_monitor_is_a_warning_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    trainer(Monitor("recall@10"), {"recall@10": 1.0}, {"recall@10": 1.0})._warn_if_nothing_moved()
    assert "Validation recall@10 was 1.0000 at all 2 validations" in caplog.text

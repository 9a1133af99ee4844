"""Which validation is the best so far."""

from __future__ import annotations

import math

import pytest

from tfmi.training.trainer import is_improvement


@pytest.mark.parametrize(
    ("monitor", "value", "best", "expected"),
    [
        ("recall@50", 0.2, None, True),
        ("recall@50", 0.2, 0.1, True),
        ("recall@50", 0.1, 0.1, False),
        ("log_loss", 0.1, 0.2, True),
        ("log_loss", 0.3, 0.2, False),
        # A validation part of one outcome has no AUC; once there is one, it counts.
        ("auc", math.nan, None, True),
        ("auc", 0.5, math.nan, True),
        ("auc", math.nan, 0.5, False),
    ],
)
def test_more_is_better_but_of_losses(monitor: str, value: float, best: float | None, expected: bool) -> None:
    assert is_improvement(monitor, value, best) is expected

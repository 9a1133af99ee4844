"""A run that takes seconds."""

from __future__ import annotations

import pytest

SMALL_RUN = (
    "data.embedded.users=150",
    "data.embedded.items=80",
    "data.history_length=8",
    "model.dimension=8",
    "model.user_tower.hidden=[16]",
    "training.batch_size=64",
    "training.evaluate_every=10",
    "export.num_results=10",
    "export.exclusion_width=4",
    "export.warmup_batch_sizes=[1]",
)


@pytest.fixture
def small_run() -> list[str]:
    """Settings for a small run."""
    return list(SMALL_RUN)


@pytest.fixture
def small_run_flags(small_run: list[str]) -> list[str]:
    """The same as command-line flags."""
    return [flag for setting in small_run for flag in ("--set", setting)]


@pytest.fixture(scope="module")
def small_settings() -> list[str]:
    """``small_run`` for fixtures that several tests share."""
    return list(SMALL_RUN)

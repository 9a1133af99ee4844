"""A run that takes seconds."""

from __future__ import annotations

import pytest

from tests.kinds.finished import STEPS, FinishedRun, finished_run

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
    "evaluation.report=false",
)


# What the finished run is trained with: cutoffs on both sides of what its export answers.
FINISHED_RUN = (
    *SMALL_RUN,
    "evaluation.report=true",
    f"training.max_steps={STEPS}",
    "evaluation.cutoffs=[5, 10, 20, 50]",
    "training.monitor=recall@10",
)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run and its export, made once for all files and processes."""
    return finished_run(tmp_path_factory, list(FINISHED_RUN))


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

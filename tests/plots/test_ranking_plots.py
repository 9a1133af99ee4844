"""Pictures of a ranker are PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfmi.evaluation.binary_metrics import reliability_bins
from tfmi.plots.ranking_plots import plot_reliability


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_reliability_is_drawn(tmp_path: Path, scale: float) -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random(200) * scale
    bins = reliability_bins((rng.random(200) < probabilities).astype(np.float32), probabilities)
    path = plot_reliability(bins, tmp_path / "reliability.png")
    assert path.read_bytes().startswith(b"\x89PNG")

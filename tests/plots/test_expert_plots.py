"""Pictures of experts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfmi.plots.expert_plots import plot_experts


def test_experts_are_drawn_with_and_without_kernels(tmp_path: Path) -> None:
    shares = {"click": {0: 0.5, 1: 0.5}, "buy": {1: 0.2, 2: 0.8}}
    for name, cosines in (("with.png", np.eye(3)), ("without.png", None)):
        assert plot_experts(shares, cosines, tmp_path / name).read_bytes().startswith(b"\x89PNG")

"""Pictures of a user-tag model: how its tasks use the experts, and how much alike these are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tfmi.plots.training_plots import save_figure


def plot_experts(shares: Mapping[str, Mapping[int, float]], cosines: np.ndarray | None, path: Path) -> Path:
    """Draw the share of each expert in each task and, where there are kernels, the cosine of every pair, into a PNG file.

    Args:
        shares: By task and expert; experts that a task does not use are left out.
        cosines: float [K, K], or None.
        path: The file.
    """
    panels = 1 if cosines is None else 2
    figure = Figure(figsize=(5 * panels, 4), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    width = 0.8 / len(shares)
    for position, (task, of_task) in enumerate(shares.items()):
        places = np.array(list(of_task)) + (position - (len(shares) - 1) / 2) * width
        axes[0].bar(places, list(of_task.values()), width, label=task)
    experts = sorted({expert for of_task in shares.values() for expert in of_task})
    axes[0].set_xticks(experts)
    axes[0].set(title="share of each expert, over tags by their frequency", xlabel="expert", ylim=(0, 1))
    axes[0].legend()
    axes[0].grid(axis="y", alpha=0.3)
    if cosines is not None:
        image = axes[1].imshow(cosines, vmin=-1, vmax=1, cmap="coolwarm")
        axes[1].set(title="cosine of kernels", xticks=range(len(cosines)), yticks=range(len(cosines)))
        figure.colorbar(image, ax=axes[1], shrink=0.8)
    return save_figure(figure, path)

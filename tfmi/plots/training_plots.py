"""Pictures of a run: training curves, and which history item went into which interest."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tfmi.core.files import write_atomically
from tfmi.data.dataset import Catalogue
from tfmi.evaluation.metrics import LOWER_IS_BETTER
from tfmi.evaluation.routing import Routing


def plot_curves(curve: Sequence[dict[str, float]], monitor: str, path: Path) -> Path:
    """Draw the training loss and the monitored validation metric over steps into a PNG file."""
    steps = [row["step"] for row in curve]
    figure = Figure(figsize=(9, 4), layout="constrained")
    loss_axis, metric_axis = figure.subplots(1, 2)
    loss_axis.plot(steps, [row["loss"] for row in curve], marker="o", markersize=3, color="tab:blue")
    loss_axis.set(title="training loss", xlabel="step", ylabel="mean loss since the last validation")
    values = [row[monitor] for row in curve]
    metric_axis.plot(steps, values, marker="o", markersize=3, color="tab:green")
    best = int(np.argmin(values) if monitor in LOWER_IS_BETTER else np.argmax(values))
    metric_axis.scatter([steps[best]], [values[best]], s=80, facecolors="none", edgecolors="tab:red", label=f"best: {values[best]:.4f}")
    metric_axis.set(title=f"validation {monitor}", xlabel="step")
    metric_axis.legend(loc="lower right")
    for axis in (loss_axis, metric_axis):
        axis.grid(alpha=0.3)
    return save_figure(figure, path)


def plot_routing(routing: Sequence[Routing], catalogue: Catalogue, path: Path) -> Path | None:
    """Draw how much of each history item went into each interest, a panel for each user.

    Returns:
        The PNG file, or None if there is no user.
    """
    if not routing:
        return None
    figure = Figure(figsize=(5.5 * len(routing), 6), layout="constrained")
    axes = figure.subplots(1, len(routing), squeeze=False)[0]
    for axis, user in zip(axes, routing, strict=True):
        image = axis.imshow(user.weights.T, aspect="auto", cmap="viridis", vmin=0.0)
        count = len(user.weights)
        axis.set_xticks(range(count), [f"interest {k}" for k in range(count)], fontsize=8)
        axis.set_yticks(range(len(user.items)), [_label(catalogue, int(item)) for item in user.items], fontsize=7)
        axis.set_title("oldest item on top", fontsize=8)
        figure.colorbar(image, ax=axis, shrink=0.6)
    figure.suptitle("weight of each history item in each interest")
    return save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, atomically."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return write_atomically(path, buffer.getvalue())


def _label(catalogue: Catalogue, item: int) -> str:
    title = catalogue.titles[item] if catalogue.titles is not None else ""
    name = title or catalogue.vocabulary.identifier(item)
    # matplotlib would read dollar signs as mathematics.
    return (name if len(name) <= 32 else name[:31] + "…").replace("$", r"\$")

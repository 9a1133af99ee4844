"""Pictures of a run: training curves, and which history item went into which interest."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from tfmi.core.files import write_atomically
from tfmi.data.dataset import FIRST_INDEX, Catalogue, EvaluationSet, UserProfiles
from tfmi.data.features import feature_arrays
from tfmi.evaluation.metrics import LOWER_IS_BETTER
from tfmi.models.recommender import UserInputs
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval, drop_unknown_items


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


def plot_routing(
    model: InterestRetrieval,
    examples: EvaluationSet,
    catalogue: Catalogue,
    path: Path,
    *,
    profiles: UserProfiles | None = None,
    users: int = 4,
) -> Path | None:
    """Draw how much of each history item went into each interest, for the users with the longest histories.

    Returns:
        The PNG file, or None if nobody has a history.
    """
    padded, times = examples.histories.padded(model.history_length), examples.histories.padded_timestamps(model.history_length)
    known = drop_unknown_items(UserInputs(tf.constant(padded), timestamps=None if times is None else tf.constant(times)))
    history = known.history.numpy()
    lengths = (history >= FIRST_INDEX).sum(axis=1)
    chosen = np.argsort(-lengths, kind="stable")[:users]
    chosen = chosen[lengths[chosen] > 0]
    if not len(chosen):
        return None
    profile = None
    if profiles is not None:
        rows = examples.histories.users[chosen]
        profile = {name: tf.constant(values[rows]) for name, values in feature_arrays(profiles.features).items()}
    timestamps = None if known.timestamps is None else tf.gather(known.timestamps, chosen)
    output, _, _ = model.extract(tf.constant(history[chosen]), profile, timestamps, training=False)
    weights = output.weights.numpy()
    active = output.active.numpy().sum(axis=1)
    figure = Figure(figsize=(5.5 * len(chosen), 6), layout="constrained")
    axes = figure.subplots(1, len(chosen), squeeze=False)[0]
    for axis, row, user_weights, count in zip(axes, history[chosen], weights, active, strict=True):
        items = row[row >= FIRST_INDEX]
        image = axis.imshow(user_weights[:count, : len(items)].T, aspect="auto", cmap="viridis", vmin=0.0)
        axis.set_xticks(range(count), [f"interest {k}" for k in range(count)], fontsize=8)
        axis.set_yticks(range(len(items)), [_label(catalogue, int(item)) for item in items], fontsize=7)
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

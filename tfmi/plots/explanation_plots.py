"""Pictures of user-tag profiles, for the people who read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfmi.export.tags.explanations import TaskExplanation
from tfmi.plots.training_plots import save_figure
from tfmi.serving.client import Evidence

FOR, AGAINST = "tab:green", "tab:red"
LONGEST_LABEL = 32


def plot_explanation(explanations: Sequence[TaskExplanation], path: Path, *, most: int = 12) -> Path:
    """Draw why a user has a score for a tag, a row of panels for each explanation, into a PNG file.

    From left to right: what each expert adds to the score, what the score would lose without each field, and without each value. Green
    speaks for the tag, red against it; beside a bar stands the attention that a field or value got, where the model attends to fields.

    Args:
        explanations: Of a user's tasks, or tags.
        path: The PNG file.
        most: Bars of a panel, the longest.
    """
    figure = Figure(figsize=(16, 1.4 + 3.2 * len(explanations)), layout="constrained")
    for axes, explanation in zip(figure.subplots(len(explanations), 3, squeeze=False), explanations, strict=True):
        _draw_experts(axes[0], explanation)
        _draw_evidence(axes[1], "without the field", explanation.fields[:most])
        _draw_evidence(axes[2], "without the value", explanation.values[:most])
    return save_figure(figure, path)


def _draw_experts(axis: Axes, explanation: TaskExplanation) -> None:
    labels = [f"expert {expert} (gate {explanation.gates[expert]:.2f})" for expert in explanation.experts]
    shares = list(explanation.experts.values())
    if explanation.bias:
        labels, shares = [*labels, "bias"], [*shares, explanation.bias]
    _draw_bars(axis, labels, shares)
    title = f"{_shortened(explanation.tag)} ({explanation.task}): score {explanation.score:.3f}, probability {explanation.probability:.3f}"
    axis.set(title=title, xlabel="adds to the score")


def _draw_evidence(axis: Axes, title: str, evidence: Sequence[Evidence]) -> None:
    _draw_bars(axis, [_label(each) for each in evidence], [each.effect for each in evidence])
    axis.set(title=title, xlabel="the score loses")


def _draw_bars(axis: Axes, labels: Sequence[str], values: Sequence[float]) -> None:
    axis.barh(range(len(values)), values, color=[FOR if value >= 0 else AGAINST for value in values])
    axis.set_yticks(range(len(labels)), labels, fontsize=8)
    axis.invert_yaxis()
    axis.axvline(0.0, color="black", linewidth=0.8)
    axis.grid(axis="x", alpha=0.3)
    if not values:
        axis.text(0.5, 0.5, "nothing known", ha="center", va="center", transform=axis.transAxes)


def _label(evidence: Evidence) -> str:
    name = evidence.field if evidence.value is None else f"{evidence.field}: {evidence.value}"
    shown = _shortened(name)
    return shown if evidence.attention is None else f"{shown} ({evidence.attention:.2f})"


def _shortened(text: str) -> str:
    shown = text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"
    return shown.replace("$", r"\$")  # a dollar sign would begin a formula

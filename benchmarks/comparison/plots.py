"""Pictures of a comparison, one file per dataset and kind."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from benchmarks.comparison.summary import Notes, Row
from benchmarks.diversity_sweep import plot_sweeps
from tfmi.plots.training_plots import save_figure
from tfmi.training.run_folder import RunFolder

# Figures of ``tfmi.evaluation.diagnostics`` that are drawn, with their titles.
INTEREST_FIGURES = {
    "attention_entropy": "entropy of an interest's weights over the history\n(1: all items alike)",
    "cosine": "mean cosine of a user's interests\n(1: all the same)",
    "recommendation_balance": "balance of recommendations over interests\n(1: all find as many)",
}
COLORS = tuple(mpl.colors.TABLEAU_COLORS)  # "tab:blue" and so on
LINE_STYLES = ("-", "--", "-.", ":")


def draw_all(rows: Sequence[Row], metric: str, sweeps: Mapping[str, Mapping[str, Any]], folder: Path, notes: Notes) -> list[Path]:
    """Draw everything that one dataset's runs have figures for.

    Args:
        rows: Of one dataset.
        metric: The metric of curves and bars, such as ``recall@50``.
        sweeps: What ``diversity_sweep.py`` found, by label.
        folder: Where the pictures go.
        notes: Is told what is left out.

    Returns:
        The files.
    """
    drawn = [
        draw_bars(rows, metric, folder / "metrics.png"),
        draw_curves(rows, metric, folder / "training_time.png", notes),
        draw_routing(rows, folder / "routing.png", notes),
        draw_interests(rows, folder / "interests.png", notes),
        draw_sweeps(sweeps, folder / "diversity.png"),
    ]
    return [path for path in drawn if path is not None]


def draw_bars(rows: Sequence[Row], metric: str, path: Path) -> Path | None:
    """The metric of every configuration that has it, with its standard deviation over seeds; None if none has."""
    having = [row for row in rows if metric in row["mean"]]
    if not having:
        return None
    figure, axes = _bar_figure(having, 1)
    _bars(axes[0], having, [row["mean"][metric] for row in having], [row["deviation"][metric] for row in having])
    axes[0].set(xlabel=f"{metric}, mean and standard deviation over seeds", title=rows[0]["dataset"])
    return save_figure(figure, path)


def draw_curves(rows: Sequence[Row], metric: str, path: Path, notes: Notes) -> Path | None:
    """The validation metric against seconds of training: one line per run, level lines for what is counted; None without a curve."""
    curves = {row["config"]: [curve for run in row["runs"] if (curve := _curve(run["folder"], metric))] for row in rows}
    trained = [row for row in rows if row["kind"] != "heuristic"]
    notes.missing("training curves", (row for row in trained if not curves[row["config"]]))
    if not any(curves.values()):
        return None
    figure = Figure(figsize=(10, 6), layout="constrained")
    axis = figure.subplots()
    for row, (color, style) in zip(rows, _looks(), strict=False):
        for number, (seconds, values) in enumerate(curves[row["config"]]):
            look: dict[str, Any] = {"color": color, "linestyle": style, "alpha": 0.35 if number else 1.0}
            axis.plot(seconds, values, marker="o", markersize=3, label=None if number else row["config"], **look)
        if row["kind"] == "heuristic" and metric in row["valid"]:
            axis.axhline(row["valid"][metric], color=color, linestyle=style, linewidth=1, label=row["config"])
    axis.set(xlabel="seconds of training, validations left out", ylabel=f"validation {metric}", title=rows[0]["dataset"])
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return save_figure(figure, path)


def draw_routing(rows: Sequence[Row], path: Path, notes: Notes) -> Path | None:
    """The first run's ``plots/routing.png`` of every trained configuration, one above the other: all show the same users."""
    trained = [row for row in rows if row["kind"] != "heuristic"]
    pictures = {row["config"]: RunFolder(row["runs"][0]["folder"]).plots / "routing.png" for row in trained}
    notes.missing("routing heat maps", (row for row in trained if not pictures[row["config"]].exists()))
    found = {label: imread(picture) for label, picture in pictures.items() if picture.exists()}
    if not found:
        return None
    width = 13.0
    heights = [width * picture.shape[0] / picture.shape[1] + 0.3 for picture in found.values()]
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    axes = figure.subplots(len(found), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (label, picture) in zip(axes, found.items(), strict=True):
        axis.imshow(picture)
        axis.set_title(label, fontsize=11, fontweight="bold")
        axis.axis("off")
    return save_figure(figure, path)


def draw_interests(rows: Sequence[Row], path: Path, notes: Notes) -> Path | None:
    """Entropy, cosine and balance of the interests, for the configurations that have several; None if there are none."""
    described = [row for row in rows if row["interests"]]
    if not described:
        notes.add(f"interest figures of {rows[0]['dataset']} left out: no run has any")
        return None
    figure, axes = _bar_figure(described, len(INTEREST_FIGURES))
    for axis, (name, title) in zip(axes, INTEREST_FIGURES.items(), strict=True):
        having = [row for row in described if name in row["interests"]]
        _bars(axis, having, [row["interests"][name] for row in having], [row["interests_deviation"][name] for row in having])
        axis.set_title(title, fontsize=9)
    figure.suptitle(rows[0]["dataset"])
    return save_figure(figure, path)


def draw_sweeps(sweeps: Mapping[str, Mapping[str, Any]], path: Path) -> Path | None:
    """Recall against diversity: a line per configuration, a point per λ; None without sweeps."""
    if not sweeps:
        return None
    (num_results,) = {found["num_results"] for found in sweeps.values()}
    with mpl.rc_context({"axes.prop_cycle": cycler(linestyle=LINE_STYLES) * cycler(color=COLORS)}):
        return plot_sweeps({label: found["rows"] for label, found in sweeps.items()}, num_results, path)


def _curve(folder: str, metric: str) -> tuple[list[float], list[float]] | None:
    """Seconds and values of a run's validations, or None where the run has none of this metric."""
    file = RunFolder(folder).curves
    if not file.exists():
        return None
    points = [row for row in json.loads(file.read_text(encoding="utf-8")) if metric in row]
    return ([row["seconds"] for row in points], [row[metric] for row in points]) if points else None


def _looks() -> Iterator[tuple[str, str]]:
    """Pairs of colour and line style without end; the first 40 are different."""
    return itertools.cycle((color, style) for style in LINE_STYLES for color in COLORS)


def _bar_figure(rows: Sequence[Row], columns: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(max(8.0, 4.5 * columns), 1.5 + 0.3 * len(rows)), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def _bars(axis: Axes, rows: Sequence[Row], values: Sequence[float], deviations: Sequence[float]) -> None:
    """Horizontal bars from top to bottom, with their values."""
    places = range(len(rows))
    axis.barh(places, values, xerr=deviations, color="tab:blue", alpha=0.8, error_kw={"capsize": 3, "linewidth": 1})
    axis.set_yticks(places, [row["config"] for row in rows], fontsize=8)
    axis.invert_yaxis()
    for place, value, deviation in zip(places, values, deviations, strict=True):
        axis.annotate(f"{value:.4f}", (value + deviation, place), fontsize=7, va="center", xytext=(4, 0), textcoords="offset points")
    axis.margins(x=0.15)
    axis.grid(axis="x", alpha=0.3)

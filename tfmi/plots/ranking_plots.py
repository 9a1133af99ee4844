"""Pictures of a ranker."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from tfmi.evaluation.binary_metrics import ReliabilityBins, expected_calibration_error
from tfmi.plots.training_plots import save_figure


def plot_reliability(bins: ReliabilityBins, path: Path) -> Path:
    """Draw what is observed where a probability is predicted, next to the diagonal of perfect calibration, into a PNG file."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    curve_axis, count_axis = figure.subplots(1, 2)
    # Clicks are rare: axes up to 1 would show a point in a corner.
    largest = max(float(bins.predicted.max()), float(bins.observed.max())) * 1.05 or 1.0
    curve_axis.plot([0, largest], [0, largest], linestyle="--", color="tab:gray", label="perfect")
    error = expected_calibration_error(bins)
    curve_axis.plot(bins.predicted, bins.observed, marker="o", markersize=4, color="tab:blue", label=f"expected error {error:.4f}")
    curve_axis.set(title="reliability", xlabel="predicted probability", ylabel="observed share", xlim=(0, largest), ylim=(0, largest))
    curve_axis.legend(loc="upper left")
    count_axis.bar(range(len(bins.counts)), bins.counts, color="tab:green")
    count_axis.set_xticks(range(len(bins.counts)), [f"{value:.2g}" for value in bins.predicted], fontsize=7, rotation=60)
    count_axis.set(title="rows", xlabel="bin, by its mean predicted probability", ylabel="rows")
    for axis in (curve_axis, count_axis):
        axis.grid(alpha=0.3)
    return save_figure(figure, path)

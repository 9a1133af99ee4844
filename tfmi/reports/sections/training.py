"""How training went."""

from __future__ import annotations

from tfmi.reports.figures.frame import figure
from tfmi.reports.figures.lines import Line, Mark, line_chart
from tfmi.reports.markup import Child, tag
from tfmi.reports.numbers import shown
from tfmi.reports.page import PageSection, section
from tfmi.reports.run_values import RunValues, lower_is_better


def training(run: RunValues) -> PageSection:
    """The section of curves."""
    if not run.curve:
        counted = "This system counts; it is not trained by steps, so that there are no curves."
        gone = "The curves of the training are not in this folder."
        return section("training", "Training", tag("p", gone if run.metrics.get("train", {}).get("steps") else counted))
    steps = [float(row["step"]) for row in run.curve]
    monitor = run.metrics.get("train", {}).get("monitor", run.headline)
    watched = [float(row.get(monitor, float("nan"))) for row in run.curve]
    best = run.metrics.get("train", {}).get("best_step")
    at_best = next((value for step, value in zip(steps, watched, strict=True) if step == best), None)
    losses = Line("loss", steps, [float(row.get("loss", float("nan"))) for row in run.curve], 2)
    mark = None if at_best is None else Mark(float(best), at_best, f"best: {shown(at_best)}")
    charts = [_chart("Training loss", losses), _chart(f"Validation {monitor}", Line(monitor, steps, watched, 0), mark)]
    return section(
        "training", "Training", tag("p", _how_it_ended(run)), tag("div", charts, class_="figures"), _warning(run, watched, monitor)
    )


def _chart(title: str, line: Line, mark: Mark | None = None) -> Child:
    return figure(
        title,
        line_chart(f"{title} over steps", [line], x_label="step", y_label=line.name, mark=mark),
        header=["step", line.name],
        rows=[[f"{step:,.0f}", float(value)] for step, value in zip(line.xs, line.ys, strict=True)],
    )


def _how_it_ended(run: RunValues) -> str:
    train, training_settings = run.metrics.get("train", {}), run.config.get("training", {})
    last, best = int(train.get("steps", 0)), int(train.get("best_step", 0))
    limit = training_settings.get("max_steps")
    ended = "its steps were used up" if limit is not None and last >= limit else "validation stopped improving, or its epochs were used up"
    return f"{len(run.curve)} validations; training ended at step {last:,}, where {ended}. The weights are those of step {best:,}."


def _warning(run: RunValues, values: list[float], monitor: str) -> Child:
    if len(values) < 2:
        return tag(
            "p", "A single validation says nothing of how training went: validate more often (training.evaluate_every).", class_="note"
        )
    still_better = values[-1] == (min if lower_is_better(monitor) else max)(values)
    if still_better and run.config.get("training", {}).get("max_steps") is not None:
        return tag(
            "p", "The last validation is the best one: more steps may give more (--resume with a larger --max-steps).", class_="note"
        )
    return None

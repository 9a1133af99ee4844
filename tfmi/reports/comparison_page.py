"""The page of several runs side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from tfmi.reports.comparison import Group, common_metrics, differences, grouped, reference_of, same_data, settings_that_differ
from tfmi.reports.figures.bars import Bar, bar_chart
from tfmi.reports.figures.frame import figure, table
from tfmi.reports.figures.lines import Line, line_chart
from tfmi.reports.markup import Child, Markup, join, tag
from tfmi.reports.numbers import shown
from tfmi.reports.page import PageSection, page, section
from tfmi.reports.run_values import RunValues, lower_is_better
from tfmi.reports.sections.names import system_name

CERTAIN = 0.05
COLOURS = (0, 2, 3, 4, 5, 6, 7)
BASELINE = 1


def comparison_page(runs: Sequence[RunValues], folder: Path) -> str:
    """Runs side by side as HTML.

    Args:
        runs: Finished runs, those of one configuration taken as seeds of it.
        folder: Where the page will stand, from which it links to the runs' own pages.

    Raises:
        ConfigError: The runs have no metric in common.
    """
    groups = grouped(runs)
    metrics = common_metrics(groups)
    sections = [
        _bars(groups, metrics),
        _significance(groups, metrics),
        _curves(groups),
        _slices(groups, metrics[0]),
        _cost(groups),
        _settings(groups),
        _links(groups, folder),
    ]
    title = " · ".join(group.label for group in groups)
    return page(f"Comparison: {title}", _head(groups, metrics[0]), [each for each in sections if each], tag("p", f"{len(runs)} runs"))


def _style(place: int) -> int:
    return COLOURS[place % len(COLOURS)]


def _head(groups: Sequence[Group], metric: str) -> Markup:
    datasets = ", ".join(dict.fromkeys(str(run.metrics.get("dataset", "?")) for group in groups for run in group.runs))
    names = " · ".join(f"{group.label} ({len(group.runs)} seed{'s' if len(group.runs) > 1 else ''})" for group in groups)
    best = reference_of(groups, metric)
    warned = None
    if not same_data(groups):
        warned = tag(
            "p",
            tag("strong", "Not the same data. "),
            "These runs were tested on other items or users; their figures say little of each other.",
            class_="verdict bad",
        )
    chosen = tag(
        "p",
        tag("strong", f"{best.label} is best on validation"),
        f" by {metric}, which chooses it. On test it has {_mean(best, metric)}.",
        class_="verdict even",
    )
    return join(
        tag("h1", f"{len(groups)} system{'s' if len(groups) > 1 else ''} on {datasets}"), tag("p", names, class_="lead"), warned, chosen
    )


def _mean(group: Group, metric: str) -> str:
    spread = group.deviation(metric)
    mean = shown(float(group.values(metric).mean()))
    return mean if np.isnan(spread) else f"{mean} ± {shown(spread)}"


def _bars(groups: Sequence[Group], metrics: Sequence[str]) -> PageSection:
    baselines = groups[0].runs[0].baseline_metrics() if same_data(groups) else {}
    own = {str(run.metrics.get("system")) for group in groups for run in group.runs}
    charts = []
    for metric in metrics:
        bars = []
        for place, group in enumerate(groups):
            mean, spread = float(group.values(metric).mean()), group.deviation(metric)
            low, high = (None, None) if np.isnan(spread) else (mean - spread, mean + spread)
            bars.append(Bar(group.label, mean, low, high, _style(place)))
        bars += [
            Bar(system_name(name), float(values[metric]), style=BASELINE)
            for name, values in baselines.items()
            if metric in values and name not in own
        ]
        rows: list[list[Child]] = [[bar.name, bar.value, None if bar.high is None else bar.high - bar.value] for bar in bars]
        less = " (less is better)" if lower_is_better(metric) else ""
        charts.append(
            figure(
                f"{metric}{less}",
                bar_chart(f"{metric} of each system", bars, x_label=metric),
                header=["system", metric, "standard deviation"],
                rows=rows,
            )
        )
    everything = sorted(set.intersection(*(set(run.test) for group in groups for run in group.runs)), key=_by_name_and_cutoff)
    rows = [[group.label, len(group.runs), *(_mean(group, metric) for metric in everything)] for group in groups]
    return section(
        "metrics",
        "Test metrics",
        tag(
            "p", "Bars are means over seeds, whiskers one standard deviation of them to each side; grey: simple baselines on the same data."
        ),
        tag("div", charts, class_="figures"),
        tag("details", tag("summary", "All metrics, mean ± standard deviation"), table(["system", "seeds", *everything], rows)),
    )


def _by_name_and_cutoff(name: str) -> tuple[str, int]:
    metric, _, cutoff = name.rpartition("@")
    return (metric, int(cutoff)) if cutoff.isdigit() else (name, 0)


def _significance(groups: Sequence[Group], metrics: Sequence[str]) -> PageSection | None:
    if len(groups) < 2:
        return None
    if not same_data(groups):
        return section("significance", "Significance", tag("p", "Not compared user by user: the runs were not tested on the same users."))
    reference, found = differences(groups, metrics)
    if not found:
        why = "The runs do not hold the metrics of single users, so that they are not compared by them."
        return section("significance", "Significance", tag("p", why))
    rows: list[list[Child]] = []
    for metric, of_metric in found.items():
        for label, each in of_metric.items():
            certain = each.p_value < CERTAIN
            said = ("better" if each.mean > 0 else "worse") if certain else "no clear difference"
            certainty = tag("strong", said) if certain else said
            rows.append([metric, label, f"{each.mean:+.4f}", f"{each.low:+.4f} – {each.high:+.4f}", f"{each.p_value:.3f}", certainty])
    header = ["metric", "system", f"less {reference.label}", "95 % interval", "p (Holm)", f"than {reference.label}"]
    return section(
        "significance",
        "Significance, user by user",
        tag(
            "p",
            f"Every system against {reference.label}, over the same test users: a bootstrap of each user's own difference, the mean over "
            "seeds. p-values are corrected for as many comparisons as a metric has (Holm).",
        ),
        table(header, rows),
    )


def _curves(groups: Sequence[Group]) -> PageSection | None:
    monitors = [run.metrics.get("train", {}).get("monitor") for group in groups for run in group.runs if run.curve]
    if not monitors:
        return None
    charts = []
    for name, label in ((monitors[0], f"Validation {monitors[0]}"), ("loss", "Training loss")):
        lines = [
            Line(
                f"{group.label}, seed {run.metrics.get('seed')}",
                [row["step"] for row in run.curve],
                [row[name] for row in run.curve],
                _style(place),
            )
            for place, group in enumerate(groups)
            for run in group.runs
            if run.curve and all(name in row for row in run.curve)
        ]
        if not lines:
            continue
        legend = [(group.label, _style(place)) for place, group in enumerate(groups) if any(run.curve for run in group.runs)]
        rows: list[list[Child]] = [
            [line.name, f"{step:,.0f}", float(value)] for line in lines for step, value in zip(line.xs, line.ys, strict=True)
        ]
        charts.append(
            figure(
                label,
                line_chart(f"{label} of each run", lines, x_label="step", y_label=name),
                header=["run", "step", name],
                rows=rows,
                legend=legend,
                note="Losses of different objectives are on different scales." if name == "loss" and len(groups) > 1 else None,
            )
        )
    return section("training", "Training", tag("div", charts, class_="figures"))


def _slices(groups: Sequence[Group], metric: str) -> PageSection | None:
    names = list(dict.fromkeys(name for group in groups for run in group.runs for name in run.metrics.get("test_slices", {})))
    rows: list[list[Child]] = []
    for name in names:
        values = [[run.metrics.get("test_slices", {}).get(name, {}).get(metric) for run in group.runs] for group in groups]
        if any(value is None for each in values for value in each):
            continue
        means = [float(np.mean(each)) for each in values]
        best = (min if lower_is_better(metric) else max)(means)
        rows.append([name.replace(":", ": "), *(tag("span", shown(mean), class_="best" if mean == best else None) for mean in means)])
    if not rows:
        return None
    head = ["slice", *(group.label for group in groups)]
    return section("slices", f"Slices: {metric}", tag("p", "Means over seeds; the best of each slice stands out."), table(head, rows))


def _cost(groups: Sequence[Group]) -> PageSection:
    rows: list[list[Child]] = []
    for group in groups:
        took = [run.metrics.get("train", {}) for run in group.runs]
        steps, seconds, speed = (
            float(np.mean([float(each.get(key, 0)) for each in took])) for key in ("steps", "seconds", "examples_per_second")
        )
        rows.append([group.label, int(took[0].get("parameters", 0)), f"{steps:,.0f}", f"{seconds:,.1f} s", f"{speed:,.0f}"])
    return section("cost", "What training took", table(["system", "parameters", "steps", "time", "examples/s"], rows))


def _settings(groups: Sequence[Group]) -> PageSection | None:
    found = settings_that_differ(groups)
    if not found:
        return None
    rows: list[list[Child]] = [
        [key, *(shown(value) if not isinstance(value, dict) else str(value) for value in values)] for key, values in found.items()
    ]
    return section("settings", "Settings that differ", table(["setting", *(group.label for group in groups)], rows))


def _links(groups: Sequence[Group], folder: Path) -> PageSection:
    rows: list[list[Child]] = []
    for group in groups:
        for run in group.runs:
            target = Path(run.path) / "report.html"
            link: Child = (
                tag("a", run.path, href=quote(os.path.relpath(target, folder).replace(os.sep, "/"))) if target.exists() else run.path
            )
            rows.append([link, group.label, str(run.metrics.get("seed", "?"))])
    return section("runs", "The runs", table(["run", "system", "seed"], rows))

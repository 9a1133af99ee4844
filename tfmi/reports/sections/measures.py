"""Test metrics with intervals, beside simple baselines, and of slices."""

from __future__ import annotations

from collections.abc import Mapping

from tfmi.reports.figures.bars import Bar, bar_chart
from tfmi.reports.figures.frame import figure, table
from tfmi.reports.markup import Child, Markup, join, tag
from tfmi.reports.numbers import interval, shown
from tfmi.reports.page import PageSection, section
from tfmi.reports.run_values import RunValues, lower_is_better
from tfmi.reports.sections.names import METRICS, system_name

BASELINE, OWN = 1, 0


def measures(run: RunValues) -> PageSection:
    """The section of test metrics."""
    tables = [_at_cutoffs(run), _others(run)]
    figures = [_beside_baselines(run, metric) for metric in _compared(run)]
    return section(
        "metrics",
        "Test metrics, beside simple baselines",
        tag("p", "Measured once, on users or rows that training has not seen. In brackets: 95 % intervals of a bootstrap over the users."),
        tag("div", [each for each in figures if each], class_="figures"),
        _why_missing(run),
        tables,
    )


def _compared(run: RunValues) -> list[str]:
    """The headline, and one more metric that tells another side."""
    last = run.longest_cutoff
    wished = [run.compared_metric, run.headline, f"ndcg@{last}", "log_loss" if "log_loss" in run.test else f"recall@{last}"]
    return [name for name in dict.fromkeys(wished) if name in run.test][:2]


def _beside_baselines(run: RunValues, metric: str) -> Markup | None:
    others = {name: values for name, values in run.baseline_metrics().items() if metric in values and name != run.metrics.get("system")}
    if not others and metric != run.compared_metric:
        return None  # a bar by itself says no more than the table
    intervals = (run.gathered.get("baselines") or {}).get("intervals", {})
    bars = [_bar("this model", run.test[metric], run.metrics.get("test_intervals", {}).get(metric), OWN)]
    bars += [_bar(system_name(name), values[metric], intervals.get(name, {}).get(metric), BASELINE) for name, values in others.items()]
    bars.sort(key=lambda bar: bar.value, reverse=not lower_is_better(metric))
    less = " (less is better)" if lower_is_better(metric) else ""
    return figure(
        f"{metric}{less}",
        bar_chart(f"{metric} of this model and of simple baselines", bars, x_label=metric),
        header=["system", metric, "95 % interval"],
        rows=[[bar.name, bar.value, "" if bar.low is None else interval((bar.low, bar.high or 0.0))] for bar in bars],
        legend=[("this model", OWN), ("simple baselines", BASELINE)],
    )


def _bar(name: str, value: float, bounds: list[float] | None, style: int) -> Bar:
    low, high = bounds or (None, None)
    return Bar(name, float(value), low, high, style)


def _why_missing(run: RunValues) -> Child:
    missing = (run.gathered.get("baselines") or {}).get("missing", {})
    if not run.gathered:
        return tag("p", "Baselines were not measured with this run; what is below comes from its metrics alone.", class_="note")
    return [tag("p", f"Without {system_name(name)}: {why}.", class_="note") for name, why in missing.items()]


def _at_cutoffs(run: RunValues) -> Child:
    names = [name for name in run.test if name.rpartition("@")[2].isdigit()]
    if not names:
        return None
    cutoffs = sorted({int(name.rpartition("@")[2]) for name in names})
    metrics = list(dict.fromkeys(name.rpartition("@")[0] for name in names))
    intervals = run.metrics.get("test_intervals", {})
    rows: list[list[Child]] = [
        [_named(metric), *(_with_range(run.test.get(f"{metric}@{n}"), intervals.get(f"{metric}@{n}")) for n in cutoffs)]
        for metric in metrics
    ]
    return table(["metric", *(f"@{n}" for n in cutoffs)], rows, caption="Test metrics of lists of N")


def _others(run: RunValues) -> Child:
    names = [name for name in run.test if not name.rpartition("@")[2].isdigit() and name != "users"]
    if not names:
        return None
    intervals = run.metrics.get("test_intervals", {})
    rows: list[list[Child]] = [[_named(name), _with_range(run.test[name], intervals.get(name))] for name in names]
    return table(["metric", "test"], rows, caption="Test metrics of rows")


def _named(metric: str) -> Child:
    said = METRICS.get(metric.partition(":")[0])
    return join(metric, tag("span", f" – {said}", class_="tag small") if said else None)


def _with_range(value: float | None, bounds: list[float] | None) -> Child:
    return join(shown(None if value is None else float(value)), tag("span", f"({interval(bounds)})", class_="range") if bounds else None)


def slices(run: RunValues) -> PageSection | None:
    """The section of slices: the same metric for groups of users or rows."""
    found: Mapping[str, Mapping[str, float]] = run.metrics.get("test_slices", {})
    metric = run.headline
    known = {name: values for name, values in found.items() if metric in values}
    if not known:
        return None
    groups: dict[str, list[str]] = {}
    for name in known:
        groups.setdefault(name.partition(":")[0], []).append(name)
    charts = []
    for group, names in groups.items():
        bars = [Bar(name.partition(":")[2] + _size(known[name]), float(known[name][metric])) for name in names]
        charts.append(
            figure(
                f"{metric} by {SLICES.get(group, group)}",
                bar_chart(f"{metric} by {SLICES.get(group, group)}", bars, x_label=metric),
                header=["slice", "users or rows", metric],
                rows=[
                    [name.partition(":")[2], int(known[name].get("users", known[name].get("rows", 0))), known[name][metric]]
                    for name in names
                ],
            )
        )
    return section(
        "slices",
        "Slices: for whom it works",
        tag("p", "The same lists, measured on groups. In brackets: how many users or rows. Small groups move by chance."),
        tag("div", charts, class_="figures"),
    )


SLICES = {
    "history": "length of the history",
    "categories": "categories in the history",
    "target": "whether the target is in the history",
    "items": "how often the item was shown",
    "users": "whether the user is known",
}


def _size(values: Mapping[str, float]) -> str:
    count = values.get("users", values.get("rows"))
    return "" if count is None else f" ({int(count):,})"

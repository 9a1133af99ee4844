"""The data card: what was read, rejected, left out, and how it spreads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tfmi.reports.figures.bars import Bar, bar_chart, column_chart
from tfmi.reports.figures.frame import figure, table
from tfmi.reports.figures.lines import Line, line_chart
from tfmi.reports.markup import Child, tag
from tfmi.reports.numbers import shown
from tfmi.reports.page import PageSection, section
from tfmi.reports.run_values import RunValues
from tfmi.reports.sections.names import spelled_out

REJECTED = "rejected_by_reason"
# Colours that are told apart; of more curves the others are in the table of counts.
STYLES = (0, 2, 3, 4, 5, 6, 7)


def data(run: RunValues) -> PageSection:
    """The section of the data."""
    report: Mapping[str, Any] = run.metrics.get("data", {})
    card: Mapping[str, Any] = run.gathered.get("data", {})
    figures = [*_popularity(card), *_lengths(card), *_rejected(report)]
    missing = [f"{spelled_out(name)}: {why}" for name, why in card.get("missing", {}).items()]
    if not card:
        missing.append("how events spread over items and users: it was not gathered with this run")
    return section(
        "data",
        "Data card",
        tag("p", _where(run)),
        tag("div", figures, class_="figures") if figures else None,
        [tag("p", f"Not here: {each}.", class_="note") for each in missing],
        _features(card),
        tag("details", tag("summary", "All counts of reading and splitting"), table(["count", "value"], list(_rows(report)))),
    )


def _where(run: RunValues) -> str:
    settings, report = run.config.get("data", {}), run.metrics.get("data", {})
    parts = [f"Data set {run.metrics.get('dataset', '?')}"]
    if settings.get("path"):
        parts.append(f"read from {settings['path']}")
    first, last = _find(report, "first_time"), _find(report, "last_time")
    if first and last:
        parts.append(f"events from {first} to {last} (UTC)")
    if isinstance(report.get("split"), str):
        parts.append(f"split {spelled_out(report['split'])}")
    sizes = ", ".join(f"{shown(report[key])} {key}" for key in ("items", "users", "events", "tags") if isinstance(report.get(key), int))
    rejected = _rejects(report)
    said = f" {sum(rejected.values()):,} rows were rejected." if rejected else ""
    return f"{', '.join(parts)}. {sizes}.{said}" if sizes else f"{', '.join(parts)}.{said}"


def _find(report: Any, key: str) -> Any:
    """The first value of a key anywhere in a nested report."""
    if not isinstance(report, Mapping):
        return None
    if report.get(key) is not None:
        return report[key]
    return next((found for value in report.values() if (found := _find(value, key)) is not None), None)


def _rejects(report: Any) -> dict[str, int]:
    """Rejected rows by reason, of all files together."""
    found: dict[str, int] = {}
    if isinstance(report, Mapping):
        for key, value in report.items():
            each = value if key == REJECTED else _rejects(value)
            if isinstance(each, Mapping):
                for reason, count in each.items():
                    if isinstance(count, int):
                        found[reason] = found.get(reason, 0) + count
    return found


def _rejected(report: Mapping[str, Any]) -> list[Child]:
    rejected = _rejects(report)
    if not rejected:
        return []
    bars = [
        Bar(spelled_out(reason), float(count), style=2, said=f"{count:,}")
        for reason, count in sorted(rejected.items(), key=lambda each: -each[1])
    ]
    chart = bar_chart("rejected rows by reason", bars, x_label="rows")
    return [figure("Rejected rows by reason", chart, header=["reason", "rows"], rows=[[bar.name, int(bar.value)] for bar in bars])]


def _popularity(card: Mapping[str, Any]) -> list[Child]:
    curves: Mapping[str, Any] = card.get("popularity", {})
    known = {name: curve for name, curve in curves.items() if curve["ranks"]}
    if not known:
        return []
    lines = [Line(name, curve["ranks"], curve["counts"], style) for style, (name, curve) in zip(STYLES, known.items(), strict=False)]
    shares = [
        Line(name, curve["ranks"], [100 * share for share in curve["share"]], style)
        for style, (name, curve) in zip(STYLES, known.items(), strict=False)
    ]
    legend = [(line.name, line.style) for line in lines] if len(lines) > 1 else []
    notes = [f"{name}: the most frequent tenth has {curve['tenth']:.0%}; {curve['none']:,} have none" for name, curve in known.items()]
    what = "item" if not any("positives" in name for name in known) else "tag"
    rows = [
        [f"{rank:,}", name, count] for name, curve in known.items() for rank, count in zip(curve["ranks"], curve["counts"], strict=True)
    ]
    return [
        figure(
            f"Popularity curve: events of each {what}",
            line_chart(
                f"events of each {what} by its rank", lines, x_label=f"rank of the {what}", y_label="events", x_log=True, y_log=True
            ),
            header=["rank", "of", "events"],
            rows=rows,
            legend=legend,
            note="; ".join(notes) + ".",
        ),
        figure(
            f"Share of all events up to each {what}",
            line_chart(
                f"share of all events up to each {what}",
                shares,
                x_label=f"rank of the {what}",
                y_label="% of events",
                x_log=True,
                zero=True,
            ),
            header=["rank", "of", "share"],
            rows=[[f"{rank:,}", line.name, f"{share:.1f} %"] for line in shares for rank, share in zip(line.xs, line.ys, strict=True)],
            legend=legend,
        ),
    ]


def _lengths(card: Mapping[str, Any]) -> list[Child]:
    charts: list[Child] = []
    for style, (name, each) in enumerate(card.get("lengths", {}).items()):
        if not each["names"]:
            continue
        charts.append(
            figure(
                f"Lengths: {name}",
                column_chart(
                    f"lengths: {name}", each["names"], each["counts"], x_label="length", y_label="how many", style=(0, 3, 2)[style % 3]
                ),
                header=["length", "how many"],
                rows=[[length, count] for length, count in zip(each["names"], each["counts"], strict=True)],
                note=f"{each['rows']:,} rows, median {each['median']:g}, mean {each['mean']:.1f}, longest {each['longest']:,}.",
            )
        )
    return charts


def _features(card: Mapping[str, Any]) -> Child:
    said = [f"{spelled_out(whose)}: {', '.join(names)}" for whose, names in card.get("features", {}).items() if names]
    rates = [f"{part} {rate:.1%}" for part, rate in card.get("click_rates", {}).items()]
    return [
        tag("p", f"Known {'; '.join(said)}. Which of it the model reads stands in its configuration.") if said else None,
        tag("p", f"Share of clicked rows: {', '.join(rates)}.") if rates else None,
    ]


def _rows(report: Mapping[str, Any], prefix: str = "") -> Iterator[list[Child]]:
    for key, value in report.items():
        name = f"{prefix}{spelled_out(str(key))}"
        if isinstance(value, Mapping):
            yield from _rows(value, f"{name} · ")
        elif isinstance(value, list):
            yield [name, ", ".join(shown(each) for each in value)]
        else:
            yield [name, value if isinstance(value, int | float) and not isinstance(value, bool) else shown(value)]

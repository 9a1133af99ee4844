"""The tables, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.comparison.summary import Row

ABSENT = "–"


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """One Markdown table."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows) + "\n"


def spread(row: Row, figures: Mapping[str, Any], name: str) -> str:
    """Mean ± standard deviation of one of ``figures``' metrics, or a dash."""
    if name not in figures["mean"]:
        return ABSENT
    deviation = f" ± {figures['deviation'][name]:.4f}" if row["seeds"] > 1 else ""
    return f"{figures['mean'][name]:.4f}{deviation}"


def results_table(rows: Sequence[Row], metrics: Sequence[str], latency: Mapping[str, Mapping[str, Any]], reference: str) -> str:
    """Quality, size and speed of one dataset's rows.

    Args:
        rows: Of one dataset.
        metrics: Columns.
        latency: By label, see ``compare_latency``; empty where it was not measured.
        reference: The label whose latency is 1.
    """
    header = ["configuration", "runs", *metrics, "parameters", "examples/s", "training s"]
    if latency:
        header += ["recommend ms (1 user)", f"times {reference}", "recommend ms (8 users)", f"times {reference}"]
    lines = []
    for row in rows:
        cells = [row["config"], str(row["seeds"]), *(spread(row, row, metric) for metric in metrics)]
        cells += [f"{row['parameters']:,}", f"{row['examples_per_second']:,.0f}", f"{row['seconds']:.0f}"]
        if latency:
            cells += _latency_cells(latency.get(row["config"]))
        lines.append(cells)
    return markdown(header, lines)


def _latency_cells(measured: Mapping[str, Any] | None) -> list[str]:
    if measured is None:
        return [ABSENT] * 4
    cells = []
    for figures in measured.values():
        cells.append(f"{figures['p50_ms']:.2f} (p95 {figures['p95_ms']:.2f})")
        cells.append(f"{figures['ratio']:.2f}" if figures["ratio"] is not None else ABSENT)
    return cells


def slices_table(rows: Sequence[Row], metric: str) -> str:
    """One metric by slice of one dataset's users, or rows, and the coverage of all recommendations; empty if no row has slices."""
    users = {name: figures["users"] for row in rows for name, figures in row["slices"].items()}
    if not users:
        return ""
    _, has_cutoff, cutoff = metric.partition("@")
    coverage = [f"coverage@{cutoff}"] if has_cutoff else []
    header = ["configuration", f"all: {metric}", *(f"{name} ({count:,})" for name, count in users.items()), *coverage]
    lines = [
        [
            row["config"],
            spread(row, row, metric),
            *(_slice_cell(row, name, metric) for name in users),
            *(spread(row, row, name) for name in coverage),
        ]
        for row in rows
        if row["slices"]
    ]
    return markdown(header, lines)


def _slice_cell(row: Row, name: str, metric: str) -> str:
    return spread(row, row["slices"][name], metric) if name in row["slices"] else ABSENT


def interests_table(rows: Sequence[Row]) -> str:
    """What the interests are like (``tfmi.evaluation.diagnostics``); empty if no row knows."""
    figures = list(dict.fromkeys(name for row in rows for name in row["interests"] if name != "users"))
    if not figures:
        return ""
    lines = [
        [row["config"], *(spread(row, {"mean": row["interests"], "deviation": row["interests_deviation"]}, name) for name in figures)]
        for row in rows
        if row["interests"]
    ]
    return markdown(["configuration", *(name.replace("_", " ") for name in figures)], lines)


def trials_table(trials: Sequence[Mapping[str, Any]]) -> str:
    """Every trial, with the chosen ones in bold."""
    header = ["data", "configuration", "trial", "settings", "monitor", "validation", "seconds"]
    lines = []
    for trial in trials:
        without = "ended early" if trial.get("ended_early") else "failed"
        value = without if trial["value"] is None else f"{trial['value']:.4f}"
        seconds = ABSENT if trial["seconds"] is None else f"{trial['seconds']:.0f}"
        settings = ", ".join(trial["settings"]) or "as it is"
        cells = [trial["dataset"], trial["config"], str(trial["trial"]), settings, trial["monitor"], value, seconds]
        lines.append([f"**{cell}**" for cell in cells] if trial["chosen"] else cells)
    return markdown(header, lines)


def sweeps_table(sweeps: Mapping[str, Mapping[str, Any]]) -> str:
    """What the best λ of each sweep of ``diversity_sweep.py`` does; empty without sweeps."""
    if not sweeps:
        return ""
    first = next(iter(sweeps.values()))
    n, bound = first["num_results"], first["max_loss"]
    header = ["configuration", f"best λ losing at most {bound:.0%} on validation", f"test recall@{n} lost", f"test diversity@{n} added"]
    lines = [[label, f"{each['best_lambda']:g}", f"{each['test_loss']:.1%}", f"{each['test_gain']:.1%}"] for label, each in sweeps.items()]
    return markdown(header, lines)

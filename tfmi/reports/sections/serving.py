"""What was exported, how exact and fast it answers, and the commands that serve it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from tfmi.core.files import readable_size
from tfmi.reports.figures.frame import table
from tfmi.reports.markup import Child, tag
from tfmi.reports.numbers import shown
from tfmi.reports.page import PageSection, section
from tfmi.reports.run_values import RunValues


def how_to_serve(run: RunValues) -> PageSection:
    """The section of the export."""
    export = run.export
    if not export:
        return section(
            "serving",
            "Serving",
            tag("p", "This run has exported nothing. A finished run is exported without training again by"),
            tag("pre", f"python training/train.py --resume --output {shlex.quote(run.path)}"),
        )
    steps, exported = run.metrics.get("train", {}).get("steps"), export.get("steps")
    older = None
    if exported is not None and steps != exported:
        older = tag("p", f"Exported after step {exported:,}; the run has been trained on since.", class_="verdict even")
    return section("serving", "Serving", older, table(["exported", "value"], _facts(export)), _latency(export), _commands(run, export))


def _facts(export: Mapping[str, Any]) -> list[list[Child]]:
    index, widths = export.get("index") or {}, export.get("widths") or {}
    rows: list[list[Child]] = [["version", export["path"]], ["size on disk", readable_size(int(export.get("bytes", 0)))]]
    if index:
        rows.append(["index", str(index.get("kind", "?"))])
    if index.get("recall"):
        recall = index["recall"]
        rows.append(
            [f"recall@{recall['at']} against exact search", f"{shown(float(recall['value']))} on {recall['queries']:,} {recall['of']}"]
        )
    parameters = {**{name: value for name, value in (index.get("parameters") or {}).items() if name != "kind"}, **widths}
    rows += [[str(name).replace("_", " "), shown(value)] for name, value in parameters.items() if value is not None]
    if export.get("stages"):
        rows.append(["stages", ", ".join(export["stages"])])
    if export.get("signatures"):
        rows.append(["signatures", ", ".join(export["signatures"])])
    rows.append(["created (UTC)", str(export.get("created", "?"))])
    return rows


def _latency(export: Mapping[str, Any]) -> Child:
    latency: Mapping[str, Any] = export.get("latency") or {}
    if not latency:
        return tag("p", "The latency of this version was not measured.", class_="note")
    rows: list[list[Child]] = [[name, f"{each['p50']:.2f} ms", f"{each['max']:.2f} ms", each["requests"]] for name, each in latency.items()]
    return [
        table(["signature", "median", "slowest", "requests"], rows, caption="Latency of one small request"),
        tag(
            "p",
            "In the exporting process, one request at a time, on the machine as it was then; a server adds its protocol and its load.",
            class_="note",
        ),
    ]


def _commands(run: RunValues, export: Mapping[str, Any]) -> Child:
    version = PurePath(export["path"])
    model, name = shlex.quote(str(version.parent)), shlex.quote(version.parent.name)
    signatures = export.get("signatures") or {}
    commands = [f"python serving/local_server.py --model-base-path {model} --model-name {name}"]
    if "recommend" in signatures:
        commands.append(f"python serving/client.py recommend --model {name} --history {_history(run)} --top 5")
        commands.append(f"python training/evaluate.py {shlex.quote(str(version))}")
    if "user_tags" in signatures:
        commands.append(f"python serving/client.py metadata --model {name}")
        commands.append(f"python serving/client.py tags --model {name} --user '{{}}' --top 5")
    return [
        tag("h3", "Serve it"),
        tag("pre", "\n".join(commands)),
        tag("p", "In production: TensorFlow Serving, with the configuration in serving/tf_serving.", class_="note"),
    ]


def _history(run: RunValues) -> str:
    ids = run.gathered.get("example_items") or ["ITEM", "ITEM"]
    return shlex.quote(",".join(ids))

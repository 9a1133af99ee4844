"""How long the explorer's page waits for its answers: held-out users of an exported model, with n and λ changing as sliders do.

A question is what the page asks after every change: the merged answer, the interests and their places on the map, three requests to the
local server over REST, with titles. The explorer, the server and this program share one process; questions go over HTTP as the page's do.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import benchmark_arguments, report

TARGET_MILLISECONDS = 100.0
SLIDER_STEPS = 10


def question(address: str, path: str, body: Any = None) -> Any:
    """The JSON that the explorer answers."""
    data = None if body is None else json.dumps(body).encode("utf-8")
    with urllib.request.urlopen(urllib.request.Request(f"{address.rstrip('/')}{path}", data), timeout=30) as response:
        return json.load(response)


def measure(address: str, model: str, histories: list[list[str]], repeats: int) -> dict[str, float]:
    """Wall-clock milliseconds per question about each history in turn."""
    times = []
    for number in range(-SLIDER_STEPS, repeats):
        wishes = {"n": 10 + number % SLIDER_STEPS, "diversity": 0.01 * (number % SLIDER_STEPS)}
        body = {"model": model, "history": histories[number % len(histories)], **wishes}
        start = time.perf_counter()
        question(address, "/api/explore", body)
        if number >= 0:
            times.append(1000 * (time.perf_counter() - start))
    return {"median": statistics.median(times), "p95": statistics.quantiles(times, n=20)[-1], "longest": max(times)}


def main(arguments: list[str] | None = None) -> None:
    """Measure and report."""
    parser = benchmark_arguments(__doc__ or "", repeats=200)
    parser.add_argument("model", type=Path, help="folder of an exported model, such as savedmodels/mind")
    options = parser.parse_args(arguments)
    from tfmi.cli.explorer import build_parser, models_of, serving

    flags = build_parser().parse_args(["--port", "0", "--versions", "1", "--model-base-path", str(options.model)])
    with serving(flags, models_of(flags)) as address:
        described = question(address, "/api/models")["models"][0]
        model = described["key"]
        users = [question(address, f"/api/users?model={model}&user={place}") for place in range(min(len(described["users"]), 20))]
        histories = [[item["id"] for item in user["history"]] for user in users]
        milliseconds = measure(address, model, histories, options.repeats)
    targets = {f"p95 below {TARGET_MILLISECONDS:g} ms": milliseconds["p95"] < TARGET_MILLISECONDS}
    report("explorer_latency", {"model": model, "repeats": options.repeats, "milliseconds": milliseconds}, targets)


if __name__ == "__main__":
    main()

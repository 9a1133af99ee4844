"""What reasons cost: ``explain_tags`` of an exported model of user tags beside ``user_tags`` of the same users, those of its own data.

Contenders take turns in one process; with one thread, times are those of processor time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.common import benchmark_arguments, limit_threads, median_processor_seconds, median_seconds, report
from tfmi.bulk.trained_users import load_trained_users
from tfmi.export import ExportedModel
from tfmi.export.publishing import newest_version

MOST_MILLISECONDS = 10.0


def _ask(model: ExportedModel, signature: str, requests: Sequence[Mapping[str, Any]], call: int) -> object:
    return model.predict(signature, requests[call])


def main() -> None:
    """Ask, measure, report."""
    parser = benchmark_arguments(__doc__ or "", repeats=100)
    parser.add_argument("model", type=Path, help="folder of an exported model of user tags, such as savedmodels/mvke")
    parser.add_argument("--users", type=int, nargs="+", default=[1, 8], help="rows of a request")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    version = newest_version(arguments.model)
    model = ExportedModel(version)
    users = load_trained_users(model, version).users
    asked = model.metadata["signatures"]["explain_tags"]["inputs"]
    milliseconds = {}
    for rows in arguments.users:
        fields = []
        for start in range(0, rows * arguments.repeats, rows):
            request = users.rows(start % (len(users) - rows), start % (len(users) - rows) + rows).request
            fields.append({name: values for name, values in request.items() if name in asked})
        # Every user is asked about the tag that suits them best.
        answers = [model.predict("user_tags", each) for each in fields]
        (name, *_) = sorted(name for name in answers[0] if name.endswith("_tags"))
        questions = [{**each, "tags": np.array(answer[name][:, 0], dtype=object)} for each, answer in zip(fields, answers, strict=True)]
        contenders: dict[str, Callable[[int], object]] = {
            "explain_tags": partial(_ask, model, "explain_tags", questions),
            "user_tags": partial(_ask, model, "user_tags", fields),
        }
        measure = median_processor_seconds if arguments.threads == 1 else median_seconds
        seconds = measure(contenders, arguments.repeats, warm_up=5)
        milliseconds[str(rows)] = {name: round(1e3 * value, 2) for name, value in seconds.items()}
    a_row = {rows: round(each["explain_tags"] / int(rows), 2) for rows, each in milliseconds.items()}
    report(
        "explanation_latency",
        {
            "model": model.metadata["system"],
            "threads": arguments.threads,
            "milliseconds": milliseconds,
            "explain_tags_a_row": a_row,
            "times_user_tags": {rows: round(each["explain_tags"] / each["user_tags"], 2) for rows, each in milliseconds.items()},
        },
        {f"explain_tags takes at most {MOST_MILLISECONDS:g} ms a row": max(a_row.values()) <= MOST_MILLISECONDS},
    )


if __name__ == "__main__":
    main()

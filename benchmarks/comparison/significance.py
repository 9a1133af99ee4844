"""Which differences of a comparison are more than chance among the users it was tested on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.comparison.jobs import Job
from benchmarks.comparison.summary import Notes, Row
from benchmarks.comparison.tables import markdown
from tfmi.evaluation.bootstrap import differences_from, read_user_metrics


def add_differences(rows: Sequence[Row], jobs: Sequence[Job], metric: str, notes: Notes) -> None:
    """Compare every row of one dataset with the one that is best on validation, user by user.

    Each user counts with the mean over a row's seeds. Adds ``difference`` to the rows: what they are compared with (``reference``), mean,
    interval and the p-value, corrected for as many comparisons as there are (Holm); None for the reference and where a run's users are not
    known.
    """
    found = {row["config"]: _mean_of_seeds([job for job in jobs if job.label == row["config"]], metric) for row in rows}
    users = {label: values for label, values in found.items() if values is not None}
    for row in rows:
        row["difference"] = None
    known = [row for row in rows if row["config"] in users and metric in row["valid"]]
    if len(rows) > 1:
        notes.missing("differences user by user", (row for row in rows if row not in known))
    if len(known) < 2:
        return
    reference = max(known, key=lambda row: float(row["valid"][metric]))
    best = users[reference["config"]]
    others = [row for row in known if row is not reference and len(users[row["config"]]) == len(best)]
    differences = differences_from(best, {row["config"]: users[row["config"]] for row in others})
    for row in others:
        row["difference"] = {**differences[row["config"]]._asdict(), "reference": reference["config"], "metric": metric}


def _mean_of_seeds(jobs: Sequence[Job], metric: str) -> np.ndarray | None:
    """float64 [U]: the metric of each user, mean over finished runs; None if one of them lacks it."""
    runs: list[np.ndarray] = []
    for job in jobs:
        if job.finished:
            values = read_user_metrics(job.folder.test_users).get(metric) if job.folder.test_users.exists() else None
            if values is None:
                return None
            runs.append(values)
    if not runs or any(len(values) != len(runs[0]) for values in runs):
        return None
    mean: np.ndarray = np.mean(runs, axis=0)
    return mean


def differences_table(rows: Sequence[Row]) -> str:
    """The differences that ``add_differences`` has found; empty if there are none."""
    compared = [row for row in rows if row.get("difference")]
    if not compared:
        return ""
    first = compared[0]["difference"]
    header = ["configuration", f"{first['metric']} less {first['reference']}'s", "95 % interval", "p (Holm)"]
    lines = [
        [row["config"], f"{each['mean']:+.4f}", f"{each['low']:+.4f} .. {each['high']:+.4f}", f"{each['p_value']:.3f}"]
        for row in compared
        for each in [row["difference"]]
    ]
    return markdown(header, lines)

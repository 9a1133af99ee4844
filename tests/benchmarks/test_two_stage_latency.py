"""The benchmark of two stages runs at toy sizes, explains itself, and ends in one JSON object."""

from __future__ import annotations

import pytest

from tests.benchmarks.test_index_and_evaluation_benchmarks import last_line, run


@pytest.mark.slow
@pytest.mark.long
def test_two_stages_are_timed_beside_retrieval_alone() -> None:
    sizes = ("--items", "300", "--results", "5", "--pool", "3", "--repeats", "3", "--users", "2", "--index", "exact")
    result = last_line(run("two_stage_latency.py", *sizes, "--ranker", "deepfm"))
    assert result["benchmark"] == "two_stage_latency"
    assert (result["pool"], result["backbone"]) == (15, "deepfm")
    (milliseconds,) = result["milliseconds"].values()
    assert set(milliseconds) == {"retrieval", "two_stage", "rank"}
    assert min(milliseconds.values()) > 0
    assert result["times_retrieval_alone"] == {"2": pytest.approx(milliseconds["two_stage"] / milliseconds["retrieval"], rel=0.05)}


@pytest.mark.slow
def test_help_names_the_sizes() -> None:
    output = run("two_stage_latency.py", "--help")
    assert "--items" in output
    assert "--pool" in output

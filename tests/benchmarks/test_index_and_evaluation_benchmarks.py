"""The benchmarks run at toy sizes, explain themselves, and end in one JSON object; their speed targets are for real sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.programs import run_program

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def run(name: str, *options: str) -> str:
    with mock.patch("benchmarks.common.limit_threads"):  # which has to come before the first op of a process
        done = run_program(BENCHMARKS / name, *options)
    assert done.code == 0, done.err
    return done.out


def last_line(output: str) -> dict[str, Any]:
    return json.loads(output.splitlines()[-1])


@pytest.mark.slow
def test_evaluation_speed_finds_the_hit_rates_of_tfrs() -> None:
    result = last_line(run("evaluation_speed.py", "--users", "40", "--items", "300", "--dimension", "8", "--repeats", "1"))
    assert result["benchmark"] == "evaluation_speed"
    assert result["targets"]["the same hit rates"]
    assert 0 < result["hit_rates"]["10"] < result["hit_rates"]["50"] < 1
    assert set(result["seconds"]) == {"tfmi", "tfrs_128", "tfrs_4096", "tfrs_16384"}


@pytest.mark.slow
def test_index_recall_latency_measures_recall_against_exact() -> None:
    options = ("--items", "6000", "--dimension", "16", "--interests", "3", "--results", "20", "--repeats", "5", "--batches", "4")
    result = last_line(run("index_recall_latency.py", *options))
    assert result["parameters"]["scoring"] == "asymmetric_hashing"
    assert 0.9 < result["recall"] <= 1
    assert set(result["milliseconds"]) == {"tfmi_scann", "scann_alone", "tfmi_exact", "tfmi_partitioned"}
    assert 0.9 < result["partitioned"]["recall"] <= 1
    assert set(result["milliseconds_of_batches"]["4"]) == {"tfmi_scann", "tfmi_exact", "tfmi_partitioned"}
    assert 6000 * 16 * 4 / 1e6 <= result["megabytes"]["partitioned"] < 2


@pytest.mark.slow
def test_filtered_search_measures_every_share() -> None:
    options = ("--items", "6000", "--dimension", "16", "--interests", "2", "--results", "20", "--repeats", "5", "--shares", "0.1")
    result = last_line(run("filtered_search.py", *options))
    for kind in ("exact", "scann", "partitioned"):
        assert result["recall"][kind] == {"10.0%": 1.0, "far 50.0%": 1.0}  # fewer than are scored exactly at once
        assert set(result["milliseconds"][kind]) == {"10.0%", "far 50.0%", "unrestricted"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["evaluation_speed.py", "filtered_search.py", "index_recall_latency.py"])
def test_help_names_the_sizes(name: str) -> None:
    output = run(name, "--help")
    assert "--items" in output
    assert "--repeats" in output

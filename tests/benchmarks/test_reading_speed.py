"""The benchmark of reading runs at toy size over every form, and every form holds the same events."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.reading_speed import FORMS, write_forms
from tests.programs import run_program
from tfmi.config import LogConfig
from tfmi.data.reading.log import read_log

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "reading_speed.py"


def test_every_form_holds_the_same_events(tmp_path: Path) -> None:
    write_forms(tmp_path, rows=200, seed=1)
    tables = {form: read_log(tmp_path / form, LogConfig(**options), tmp_path / "r.jsonl") for form, options in FORMS.items()}
    expected = tables["numbers.csv"]
    assert expected.timestamps is not None
    for form, table in tables.items():
        assert table.report["rejected"] == 0, form
        assert table.timestamps is not None
        shift = 7200 if form == "offsets.tsv" else 0
        assert (table.timestamps + shift).tolist() == expected.timestamps.tolist(), form
        assert table.user_codes.tolist() == expected.user_codes.tolist(), form


@pytest.mark.slow
def test_the_last_line_is_one_object() -> None:
    done = run_program(PROGRAM, "--rows", "300", "--repeats", "1")
    assert done.code == 0, done.err
    result = json.loads(done.out.splitlines()[-1])
    assert result["benchmark"] == "reading_speed"
    assert set(result["results"]) == set(FORMS)
    assert all("tfmi" in contenders and len(contenders) > 1 for contenders in result["results"].values())

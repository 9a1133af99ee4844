"""The demo trains, exports, serves and shows, and what it prints can be read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import run_program

DEMO = Path(__file__).resolve().parents[2] / "training" / "demo.py"
SETTINGS = (
    "data.embedded.users=200",
    "data.embedded.items=100",
    "model.dimension=8",
    "training.batch_size=64",
    "training.tensorboard=false",
    "evaluation.report=false",
    "export.num_results=20",
    "export.explain_interests=false",
    "export.warmup_batch_sizes=[1]",
)


@pytest.mark.slow
def test_the_demo_shows_recommendations_that_can_be_read(tmp_path: Path) -> None:
    run, models = tmp_path / "run", tmp_path / "models"
    flags = [flag for setting in SETTINGS for flag in ("--set", setting)]
    command = [sys.executable, str(DEMO), "--users", "2", "--output", str(run), "--savedmodels", str(models)]
    command += ["--max-steps", "20", "--index", "exact", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.partition("3. Ask it for 2 users")[2].partition("Where everything lies")[0]
    assert len(re.findall(r"^User \d+, age_band \S+, region \S+.*: \d+ events, the newest \d+:$", shown, re.MULTILINE)) == 2
    assert len(re.findall(r"^    [1-9]\. -?\d\.\d{3}  interest \d  \S", shown, re.MULTILINE)) == 18
    assert re.search(r"^    interest \d: [A-Z]\w+ \d+", shown, re.MULTILINE)
    assert max(map(len, shown.splitlines())) <= 100
    for user in shown.split("\nUser ")[1:]:
        history, _, recommended = user.partition("is recommended")
        titles = {line.strip() for line in history.splitlines() if line.startswith("    ") and "interest" not in line}
        assert len(titles) == 8
        assert not any(title in recommended for title in titles)
    assert os.path.relpath(models / "mind" / "1") in done.stdout
    assert f"{os.path.relpath(run / 'plots')} (routing.png, training.png)" in done.stdout
    noise = re.compile(r"INFO:tensorflow|absl|WARNING|oneDNN|cuda|external/local_xla", re.IGNORECASE)
    assert not [line for line in (done.stdout + done.stderr).splitlines() if noise.search(line)]


@pytest.mark.slow
def test_a_failed_training_ends_the_demo(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    done = run_program(DEMO, "--output", str(tmp_path / "run"), "--set", "model.dimension=0")
    assert done.code == 1
    said = done.err + capfd.readouterr().err  # the demo's own words, and those of the programs that it starts
    assert "model.dimension" in said
    assert "Traceback" not in said

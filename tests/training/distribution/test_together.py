"""Training on several replicas and in several processes is the same training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
LAUNCH = [sys.executable, str(ROOT / "training" / "launch_local.py")]
RUN = ["--no-export", "--set", "training.batch_size=64", "--set", "training.evaluate_every=10", "--set", "data.embedded.users=1000"]


def environment() -> dict[str, str]:
    return {**{name: value for name, value in os.environ.items() if name != "TF_CONFIG"}, "PYTHONPATH": str(ROOT)}


@pytest.mark.slow
def test_two_replicas_learn_what_one_learns_of_the_whole_batch() -> None:
    program = [sys.executable, str(Path(__file__).parent / "two_replicas.py")]
    finished = subprocess.run(program, capture_output=True, text=True, check=False, env=environment())
    assert finished.returncode == 0, finished.stderr[-3000:]
    said = json.loads(finished.stdout)
    assert len(said["alone"]) == 50
    np.testing.assert_allclose(said["together"], said["alone"], rtol=1e-4, atol=1e-4)
    assert said["alone"][-1] < said["alone"][0] - 0.1
    assert said["weights"] < 1e-3
    assert said["steps"] == [50, 50]


def trained(folder: Path, *arguments: str, launch: tuple[str, ...] = (), killed: str | None = None) -> tuple[int, str, dict[str, Any]]:
    """Run the launcher; ``killed`` names the helper that is killed after the first validation."""
    command = [*LAUNCH, *launch, "--", *RUN, "--output", str(folder), *arguments]
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment()) as process:
        assert process.stdout is not None
        watchdog = threading.Timer(400, process.kill)
        watchdog.start()
        for line in process.stdout:
            lines.append(line)
            if killed is not None and line.startswith("step ") and " 10 of " in line:
                os.kill(process_of(killed, process.pid), signal.SIGKILL)
                killed = None
        watchdog.cancel()
    output = "".join(lines)
    metrics = folder / "metrics.json"
    return process.returncode, output, json.loads(metrics.read_text()) if metrics.exists() else {}


def process_of(helper: str, launcher: int) -> int:
    """The child of the launcher with the role and index of ``helper``, by its TF_CONFIG."""
    role, index = helper.split()
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        for pair in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            if pair.startswith(b"TF_CONFIG="):
                task = json.loads(pair.partition(b"=")[2])["task"]
                if (task["type"], task["index"]) == (role, int(index)):
                    return int(child)
    raise AssertionError(f"no process is {helper}")


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    ("launch", "arguments"),
    [(("--workers", "2"), ["--system", "sasrec"]), (("--workers", "2", "--parameter-servers", "2"), ["--system", "mind"])],
)
def test_checkpoints_of_each_strategy_load_in_the_others(tmp_path: Path, launch: tuple[str, ...], arguments: list[str]) -> None:
    folder = tmp_path / "run"
    code, output, metrics = trained(folder, *arguments, "--max-steps", "20", launch=launch)
    assert code == 0, output
    assert metrics["train"]["steps"] == 20
    alone = [sys.executable, str(ROOT / "training" / "train.py"), "--resume", "--output", str(folder), "--max-steps", "30"]
    savedmodels = ["--savedmodels", str(tmp_path / "savedmodels"), "--index", "exact"]
    finished = subprocess.run([*alone, *savedmodels], capture_output=True, text=True, check=False, env=environment())
    assert finished.returncode == 0, finished.stderr
    assert "Resuming at step 20 of 30" in finished.stdout
    assert (tmp_path / "savedmodels" / arguments[1] / "1" / "saved_model.pb").exists()
    code, output, metrics = trained(folder, "--resume", "--max-steps", "40", launch=launch)
    assert code == 0, output
    assert "Resuming at step 30 of 40" in output
    assert metrics["train"]["steps"] == 40


@pytest.mark.long
@pytest.mark.slow
def test_synchronous_training_goes_on_from_the_last_validation_when_a_worker_is_killed(tmp_path: Path) -> None:
    arguments = ["--system", "sasrec", "--max-steps", "40"]
    code, output, metrics = trained(tmp_path / "run", *arguments, launch=("--workers", "2", "--restarts", "1"), killed="worker 1")
    assert code == 0, output
    assert "starting again from the last validation (1 of 1)" in output
    assert "Resuming at step" in output
    assert metrics["train"]["steps"] == 40


@pytest.mark.long
@pytest.mark.slow
def test_parameter_servers_go_on_without_a_worker_that_is_killed(tmp_path: Path) -> None:
    arguments = ["--system", "mind", "--max-steps", "200"]
    launch = ("--workers", "2", "--parameter-servers", "1")
    code, output, metrics = trained(tmp_path / "run", *arguments, launch=launch, killed="worker 1")
    assert code == 0, output
    assert "worker 1 is gone; the others go on" in output
    assert metrics["train"]["steps"] == 200


@pytest.mark.long
@pytest.mark.slow
def test_a_softmax_over_a_table_in_parts_is_refused(tmp_path: Path) -> None:
    arguments = ["--system", "mind", "--set", "model.objective={name: full_softmax}", "--max-steps", "20"]
    code, output, _ = trained(tmp_path / "run", *arguments, launch=("--workers", "1", "--parameter-servers", "2"))
    assert code == 1, output
    assert "every step of this model would read all of it" in output
    assert "Traceback" not in output

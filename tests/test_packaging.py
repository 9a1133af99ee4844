"""What setup.py, the lock file and the Makefile promise."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def _metadata(folder: Path) -> Path:
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    return folder / "tfmi.egg-info"


def test_installed_programs_and_extras_exist(tmp_path: Path) -> None:
    metadata = _metadata(tmp_path)
    programs = re.findall(r"^(\S+) = (\S+):(\S+)$", (metadata / "entry_points.txt").read_text(), re.MULTILINE)
    assert {name for name, _, _ in programs} == {"tfmi-train", "tfmi-evaluate"}
    assert all(callable(getattr(import_module(module), function)) for _, module, function in programs)
    extras = re.findall(r"^Provides-Extra: (\S+)$", (metadata / "PKG-INFO").read_text(), re.MULTILINE)
    assert {"dev", "bench"} <= set(extras)


def test_scann_is_locked_for_linux_only() -> None:
    (line,) = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line.startswith("scann")]
    assert line.endswith('; sys_platform == "linux"')


def test_cleaning_keeps_runs_and_models() -> None:
    dry = subprocess.run(["make", "-n", "clean"], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout
    assert ".venv" in dry
    assert not {"runs", "savedmodels"} & set(dry.split())
    assert "rm -rf runs" in subprocess.run(["make", "-n", "clean-runs"], cwd=ROOT, check=True, capture_output=True, text=True).stdout

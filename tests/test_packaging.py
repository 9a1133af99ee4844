"""What setup.py, the lock file and the Makefile promise."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import tfmi
from tfmi.cli import evaluate

ROOT = Path(__file__).resolve().parents[1]


def _metadata(folder: Path) -> Path:
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    return folder / "tfmi.egg-info"


def test_installed_programs_and_extras_exist(tmp_path: Path) -> None:
    metadata = _metadata(tmp_path)
    programs = re.findall(r"^(\S+) = (\S+):(\S+)$", (metadata / "entry_points.txt").read_text(), re.MULTILINE)
    with_main = {f"tfmi.cli.{path.stem}" for path in (ROOT / "tfmi" / "cli").glob("*.py") if "\ndef main(" in path.read_text()}
    assert {module for _, module, _ in programs} == with_main | {"tfmi.serving.local_server", "tfmi.serving.client"}
    assert all(name.startswith("tfmi-") for name, _, _ in programs)
    assert all(callable(getattr(import_module(module), function)) for _, module, function in programs)
    extras = re.findall(r"^Provides-Extra: (\S+)$", (metadata / "PKG-INFO").read_text(), re.MULTILINE)
    assert {"dev", "bench", "docs", "tune"} <= set(extras)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of what goes into it, so that the checkout gets no build folder."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "tfmi", folder / "tfmi", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "setup.py", "-q", "bdist_wheel", "--dist-dir", str(folder / "dist")]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
    (built,) = (folder / "dist").glob("*.whl")
    return zipfile.ZipFile(built)


@pytest.mark.slow
def test_the_wheel_holds_everything_but_the_checkout(wheel: zipfile.ZipFile) -> None:
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    sources = {
        path.relative_to(ROOT).as_posix()
        for suffix in ("py", "pyi", "yaml", "html", "css", "js", "svg")
        for path in (ROOT / "tfmi").rglob(f"*.{suffix}")
    }
    assert held == {*sources, "tfmi/py.typed"}
    assert {"tfmi/serving/client.py", "tfmi/serving/local_server.py", "tfmi/models/recipes/mind.yaml"} <= held


def test_what_the_wheel_installs_runs_on_its_own(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    code = "import tfmi, tfmi.serving.client as c, sys; print(tfmi.__file__); assert 'tensorflow' not in sys.modules; c.main(['-h'])"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    shown = done.stdout
    assert shown.startswith(str(tmp_path))
    assert "usage:" in shown


def test_scann_is_locked_for_linux_only() -> None:
    (line,) = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line.startswith("scann")]
    assert line.removesuffix(" \\").replace("'", '"').endswith('; sys_platform == "linux"')


def test_everything_locked_has_one_version_and_its_hashes() -> None:
    text = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip())
    assert len(entries) > 50
    for entry in entries:
        assert re.match(r"[A-Za-z0-9_.-]+==[^ ;]+( ; [^\\]+)? \\\n", entry), f"{entry[:80]}: run make lock"
        assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", entry)) >= 1, f"{entry[:80]}: run make lock"


def test_cleaning_keeps_runs_and_models() -> None:
    dry = subprocess.run(["make", "-n", "clean"], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout
    assert ".venv" in dry
    assert not {"runs", "savedmodels"} & set(dry.split())
    assert "rm -rf runs" in subprocess.run(["make", "-n", "clean-runs"], cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(("started", "shown"), [("/bin/tfmi-evaluate", "tfmi-evaluate"), ("evaluate.py", "python training/evaluate.py")])
def test_help_speaks_of_the_program_that_was_started(monkeypatch: pytest.MonkeyPatch, started: str, shown: str) -> None:
    monkeypatch.setattr(sys, "argv", [started])
    shown_help = evaluate.build_parser().format_help()
    assert f"{shown} savedmodels/mind/3 --split valid" in shown_help
    assert f"usage: {shown.removeprefix('python ')}" in shown_help


def test_the_client_is_one_file_that_can_be_copied() -> None:
    client = ROOT / "serving" / "client.py"
    assert client.resolve() == ROOT / "tfmi" / "serving" / "client.py"
    assert not re.search(r"^\s*(from|import) tfmi", client.read_text(encoding="utf-8"), re.MULTILINE)


def _tracked(pattern: str) -> set[str]:
    """Tracked files below the root; the test is skipped where this is no checkout."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    listed = subprocess.run(["git", "ls-files", pattern], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    return {name for name in listed if not (ROOT / name).is_symlink() and (ROOT / name).exists()}


def test_every_tracked_python_file_is_read_by_ruff() -> None:
    tracked = _tracked("*.py")
    assert len(tracked) > 500
    ruff = shutil.which("ruff") or str(Path(sys.executable).with_name("ruff"))
    command = [ruff, "check", "--show-files", "."]
    read = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    assert tracked - {Path(name).relative_to(ROOT).as_posix() for name in read} == set()


def test_the_checks_of_a_commit_and_of_ci_are_the_makefiles() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    commands = [hook["entry"] for hook in hooks] + [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    made = [words[1:] for words in map(str.split, commands) if words[0] == "make"]
    assert made
    assert {target for words in made for target in words} <= targets
    assert [command for command in commands if not command.startswith("make ")] == []


def test_versions_and_licences_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == tfmi.__version__
    assert citation["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert f"## {tfmi.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

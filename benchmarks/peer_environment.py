"""A virtual environment for a peer whose dependencies would not live beside ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

from tfmi.core.errors import TfmiError
from tfmi.core.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
DEEPMATCH_REQUIREMENTS = ROOT / "benchmarks" / "deepmatch_requirements.txt"
DEEPMATCH_PYTHON = "3.11"
TORCH_REQUIREMENTS = ROOT / "benchmarks" / "torch_requirements.txt"
TORCH_PYTHON = "3.11"


def peer_python(folder: Path, requirements: Path, python_version: str) -> Path:
    """The interpreter of a virtual environment with the ``requirements``, made at the first call and again when they change.

    Args:
        folder: Where the environment is or will be.
        requirements: A pip requirements file.
        python_version: The version that the requirements are for, such as "3.11".

    Raises:
        TfmiError: There is no such Python, or pip could not install.
    """
    interpreter = folder / "bin" / "python"
    # Written last, so that an environment whose making was interrupted is made again.
    stamp = folder / requirements.name
    if stamp.exists() and stamp.read_text(encoding="utf-8") == requirements.read_text(encoding="utf-8"):
        return interpreter
    print(f"making an environment for {requirements.name} in {folder} (once; it downloads what the file names) ...", flush=True)
    _make_environment(folder, python_version)
    command = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", str(requirements)]
    installed = subprocess.run(command, check=False, capture_output=True, text=True)
    if installed.returncode:
        reason = (installed.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise TfmiError(f"{requirements}: pip could not install the peer ({reason}); --no-peer measures without it")
    write_atomically(stamp, requirements.read_text(encoding="utf-8"))
    return interpreter


def _make_environment(folder: Path, python_version: str) -> None:
    if "{}.{}".format(*sys.version_info) == python_version:
        venv.create(folder, clear=True, with_pip=True)
        return
    other = shutil.which(f"python{python_version}")
    if other is None:
        raise TfmiError(f"the peer needs Python {python_version}, and there is no python{python_version}; --no-peer measures without it")
    subprocess.run([other, "-m", "venv", "--clear", str(folder)], check=True)

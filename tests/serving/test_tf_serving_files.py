"""The configuration for TensorFlow Serving: it parses, agrees with itself, and the start script does what it says."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tfmi.config import ExportConfig

FOLDER = Path(__file__).resolve().parents[2] / "serving" / "tf_serving"


def test_models_config_is_read_by_tensorflow_servings_schema() -> None:
    config = text_format.Parse((FOLDER / "models.config").read_text(), model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("mind", "/models/mind", "tensorflow")
    assert model.model_version_policy.latest.num_versions == 1


def batching_settings() -> dict[str, list[str]]:
    lines = [line for line in (FOLDER / "batching.config").read_text().splitlines() if line and not line.startswith("#")]
    settings: dict[str, list[str]] = {}
    for line in lines:
        match = re.fullmatch(r"(\w+)(?:: (\w+)| \{ value: (\d+) \})", line)
        assert match, line
        settings.setdefault(match[1], []).append(match[2] or match[3])
    return settings


def test_batching_never_pads_and_its_sizes_rise_to_the_largest() -> None:
    settings = batching_settings()
    assert settings["pad_variable_length_inputs"] == ["false"]
    sizes = [int(size) for size in settings["allowed_batch_sizes"]]
    assert sizes == sorted(set(sizes))
    assert [str(sizes[-1])] == settings["max_batch_size"]
    assert set(ExportConfig().warmup_batch_sizes) <= set(sizes)


def test_compose_opens_loopback_only_and_mounts_read_only() -> None:
    service = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["serving"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    (volume,) = service["volumes"]
    source, target, mode = volume.split(":")
    assert (FOLDER / source).resolve() == FOLDER.parents[1] / "savedmodels"
    assert (target, mode) == ("/models", "ro")


def test_dockerfile_copies_files_that_exist() -> None:
    copied = re.findall(r"[\w.]+\.(?:config|sh)", " ".join(re.findall(r"^COPY (.*)$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)))
    assert sorted(copied) == ["batching.config", "models.config", "monitoring.config", "start.sh"]
    assert all((FOLDER / name).is_file() for name in copied)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A models folder with a ScaNN export in version 9 and an exact one in version 10."""
    for version, graph in (("9", b"..Scann>ScannSearchBatched.."), ("10", b"..MatMul.."), ("tmp-11", b"..Scann>..")):
        (tmp_path / "models" / "mind" / version).mkdir(parents=True)
        (tmp_path / "models" / "mind" / version / "saved_model.pb").write_bytes(graph)
    return tmp_path / "models"


def start(tmp_path: Path, models: Path, server_text: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the start script with a server that prints its arguments."""
    server = tmp_path / "bin" / "tensorflow_model_server"
    server.parent.mkdir(exist_ok=True)
    server.write_text(f'#!/bin/sh\n# {server_text}\nprintf "%s\\n" "$@"\n')
    server.chmod(0o755)
    environment |= {"PATH": f"{server.parent}:{os.environ['PATH']}", "TFMI_MODELS": str(models), "TFMI_CONFIG": str(FOLDER)}
    return subprocess.run([FOLDER / "start.sh", "--v=1"], env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_start_passes_files_that_exist(tmp_path: Path, models: Path) -> None:
    result = start(tmp_path, models)
    assert result.returncode == 0, result.stderr
    flags = dict(line.removeprefix("--").split("=", 1) for line in result.stdout.split())
    assert (flags["port"], flags["rest_api_port"], flags["v"]) == ("8500", "8501", "1")
    assert all(Path(value).is_file() for name, value in flags.items() if name.endswith("_file"))
    assert "enable_batching" not in flags


def test_start_turns_batching_on(tmp_path: Path, models: Path) -> None:
    flags = start(tmp_path, models, TFMI_BATCHING="1").stdout.split()
    assert "--enable_batching=true" in flags
    assert f"--batching_parameters_file={FOLDER}/batching.config" in flags


def test_start_refuses_a_scann_model_on_a_server_without_its_ops(tmp_path: Path, models: Path) -> None:
    (models / "mind" / "10" / "saved_model.pb").write_bytes(b"..Scann>ScannSearchBatched..")
    result = start(tmp_path, models)
    assert result.returncode == 1
    assert f"{models}/mind/10 searches with ScaNN" in result.stderr
    assert "--index exact" in result.stderr
    assert start(tmp_path, models, server_text="Scann>ScannSearchBatched").returncode == 0


def test_start_with_no_model_yet(tmp_path: Path) -> None:
    (tmp_path / "models" / "mind").mkdir(parents=True)
    assert start(tmp_path, tmp_path / "models").returncode == 0
    assert start(tmp_path, tmp_path / "nothing").returncode == 0


def test_start_without_a_server(tmp_path: Path, models: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "TFMI_MODELS": str(models)}
    result = subprocess.run([FOLDER / "start.sh"], env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 1
    assert "tensorflow_model_server is not on the PATH" in result.stderr

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


def test_the_canary_example_is_read_by_tensorflow_servings_schema() -> None:
    config = text_format.Parse((FOLDER / "canary.config").read_text(), model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert sorted(model.model_version_policy.specific.versions) == [1, 2]
    assert dict(model.version_labels) == {"stable": 1, "canary": 2}


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


def write_version(folder: Path, graph: bytes = b"..MatMul..") -> Path:
    """The files that the start script looks for."""
    for name, content in {
        "saved_model.pb": graph,
        "variables/variables.index": b"index",
        "variables/variables.data-00000-of-00001": b"data",
        "assets.extra/tf_serving_warmup_requests": b"requests",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A models folder with a ScaNN export in version 9 and an exact one in version 10."""
    for version, graph in (("9", b"..Scann>ScannSearchBatched.."), ("10", b"..MatMul.."), ("tmp-11", b"..Scann>..")):
        write_version(tmp_path / "models" / "mind" / version, graph)
    return tmp_path / "models"


def write_config(folder: Path, *paths: Path) -> Path:
    """A configuration folder for models in these folders."""
    folder.mkdir(exist_ok=True)
    for name in ("batching.config", "monitoring.config"):
        (folder / name).write_text((FOLDER / name).read_text())
    blocks = "".join(f'  config {{ name: "{path.name}" base_path: "{path}" model_platform: "tensorflow" }}\n' for path in paths)
    (folder / "models.config").write_text(f'# base_path: "/commented/out"\nmodel_config_list {{\n{blocks}}}\n')
    return folder


def test_start_looks_at_the_versions_that_the_configuration_asks_for(tmp_path: Path, models: Path) -> None:
    canary = (FOLDER / "canary.config").read_text().replace("/models/mind", str(models / "mind"))

    def started() -> subprocess.CompletedProcess[str]:
        return start(tmp_path, models_config=canary)

    result = started()
    assert result.returncode == 1
    assert result.stderr.count(f"asks for version 1, and there is no folder {models}/mind/1\n") == 1
    for version in ("1", "2"):
        write_version(models / "mind" / version)
    assert started().returncode == 0  # version 9, which nobody asks for, needs ScaNN
    (models / "mind" / "1" / "saved_model.pb").unlink()
    result = started()
    assert result.returncode == 1
    assert "mind/1/saved_model.pb is missing" in result.stderr
    assert "mind/2" not in result.stderr


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("config {{ name: \"mind\" base_path: '{path}' }}", None),
        ('config: {{ model_version_policy {{ specific {{ versions: [10, 12] }} }} base_path: "{path}" }}', "asks for version 12,"),
        ('config\n{{ model_version_policy {{ specific {{ versions: 10\r\nversions: 13 }} }} base_path: "{path}" }}', "for version 13,"),
        ('config {{ name: "mind" base_path: "models/mind" }}', "base_path models/mind of {config} is not absolute"),
        ('{{ name: "mind" base_path: "{path}" }}', "names no model"),
    ],
)
def test_start_reads_a_configuration_as_the_server_does(tmp_path: Path, models: Path, block: str, said: str | None) -> None:
    text = f"model_config_list {{\n{block.format(path=models / 'mind')}\n}}\n"
    result = start(tmp_path, models_config=text)
    assert result.returncode == (0 if said is None else 1)
    assert len(result.stderr.splitlines()) == (0 if said is None else 1)
    assert (said or "").format(config=tmp_path / "config" / "models.config") in result.stderr


def start(
    tmp_path: Path, *paths: Path, server_text: str = "", models_config: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the start script with a server that prints its arguments and its arenas."""
    server = tmp_path / "bin" / "tensorflow_model_server"
    server.parent.mkdir(exist_ok=True)
    server.write_text(f'#!/bin/sh\n# {server_text}\nprintf "%s\\n" "$@"\necho "--arenas=$MALLOC_ARENA_MAX"\n')
    server.chmod(0o755)
    config = write_config(tmp_path / "config", *paths)
    if models_config is not None:
        (config / "models.config").write_text(models_config)
    environment = {"TFMI_CONFIG": str(config), "PATH": f"{server.parent}:{os.environ['PATH']}", **environment}
    return subprocess.run([FOLDER / "start.sh", "--v=1"], env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_start_passes_files_that_exist(tmp_path: Path, models: Path) -> None:
    result = start(tmp_path, models / "mind")
    assert result.returncode == 0, result.stderr
    flags = dict(line.removeprefix("--").split("=", 1) for line in result.stdout.split())
    assert (flags["port"], flags["rest_api_port"], flags["v"]) == ("8500", "8501", "1")
    assert all(Path(value).is_file() for name, value in flags.items() if name.endswith("_file"))
    assert "enable_batching" not in flags


def test_start_keeps_one_bad_version_from_holding_up_all_models(tmp_path: Path, models: Path) -> None:
    flags = dict(line.removeprefix("--").split("=", 1) for line in start(tmp_path, models / "mind").stdout.split())
    assert int(flags["num_load_threads"]) >= 2
    assert int(flags["max_num_load_retries"]) * int(flags["load_retry_interval_micros"]) <= 60e6
    assert flags["allow_version_labels_for_unavailable_models"] == "true"
    assert flags["arenas"] == "1"


def test_start_turns_batching_on(tmp_path: Path, models: Path) -> None:
    flags = start(tmp_path, models / "mind", TFMI_BATCHING="1").stdout.split()
    assert "--enable_batching=true" in flags
    assert f"--batching_parameters_file={tmp_path}/config/batching.config" in flags


def test_start_refuses_a_scann_model_on_a_server_without_its_ops(tmp_path: Path, models: Path) -> None:
    write_version(models / "mind" / "11", b"..Scann>ScannSearchBatched..")
    result = start(tmp_path, models / "mind")
    assert result.returncode == 1
    assert f"{models}/mind/11 searches with ScaNN" in result.stderr
    assert "--index exact" in result.stderr
    assert start(tmp_path, models / "mind", server_text="Scann>ScannSearchBatched").returncode == 0
    assert start(tmp_path, models / "mind", TFMI_SCANN_OPS="1").returncode == 0


def test_start_says_of_every_model_what_is_missing(tmp_path: Path, models: Path) -> None:
    (models / "empty").mkdir()
    half = write_version(models / "half" / "3")
    (half / "variables" / "variables.data-00000-of-00001").unlink()
    (half / "saved_model.pb").write_bytes(b"")
    result = start(tmp_path, models / "mind", models / "nothing", models / "empty", models / "half")
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == ["model nothing", "model empty", "model half", "model half"]
    assert f"there is no folder {models}/nothing" in lines[0]
    assert "holds no version" in lines[1]
    assert "saved_model.pb is missing or empty" in lines[2]
    assert "holds no variables.data-*" in lines[3]


def test_start_without_models_or_configuration(tmp_path: Path, models: Path) -> None:
    assert "names no model" in start(tmp_path).stderr
    assert "models.config cannot be read" in start(tmp_path, models / "mind", TFMI_CONFIG="/nothing").stderr


def test_start_without_a_server(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin"}
    result = subprocess.run([FOLDER / "start.sh"], env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 1
    assert "tensorflow_model_server is not on the PATH" in result.stderr

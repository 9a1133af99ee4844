"""A run of a model of tags: what it leaves, that it learns, repeats itself, continues exactly and loads again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfmi.cli.train import main
from tfmi.config import RunConfig
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.tags.tag_batches import StateGatherer, tag_batches
from tfmi.kinds.runner import describe_metrics, run
from tfmi.kinds.user_tags import UserTagsKind
from tfmi.models.systems import load_config
from tfmi.training.run_folder import RunFolder

pytestmark = pytest.mark.slow

SMALL = (
    "data.embedded.users=100",
    "data.embedded.items=60",
    "data.tagging.max_values=8",
    "data.tagging.min_value_count=1",
    "model.user_tags.dimension=8",
    "training.batch_size=64",
    "training.evaluate_every=40",
    "training.max_steps=20",
    "training.tensorboard=false",
    "evaluation.report=false",
    "optimizer.learning_rate=1e-2",
)


def small(system: str = "utpm", *settings: str) -> RunConfig:
    return load_config(system=system, settings=[*SMALL, *settings])


def _run(config: RunConfig, path: Path, resume: bool = False) -> dict[str, Any]:
    folder = RunFolder(path)
    if resume:
        folder.resume(config)
    else:
        folder.start(config)
    result = run(config, folder, None, resume)
    assert result.metrics is not None
    return result.metrics


# A graph of few fields and experts is made in no time.
STEPS = (
    "training.max_steps=80",
    "model.user_tags.encoder={name: virtual_kernel, num_experts: 3, body: {name: deepfm, hidden: [8]}}",
    "model.user_tags.fields=[tags, region]",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run of MVKE, whose experts can be looked at."""
    path = tmp_path_factory.mktemp("mvke") / "run"
    return path, _run(small("mvke", *STEPS, "evaluation.report=true"), path)


def without_times(metrics: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metrics.items() if key not in ("train", "versions")}


def test_a_run_leaves_everything_in_its_folder(finished: tuple[Path, dict[str, Any]]) -> None:
    path, metrics = finished
    folder = RunFolder(path)
    assert json.loads(folder.metrics.read_text()) == metrics
    assert {"auc", "log_loss", "auc:clicked", "precision@5", "recall@10", "ndcg@20"} <= metrics["test"].keys()
    assert metrics["test_tags"].keys() == {"clicked", "bought"}
    assert metrics["test_tags"]["clicked"]["all"].keys() == {"model", "popular_tags", "own_tags"}
    assert metrics["data"]["split"] == "by_time"
    assert metrics["exact_by_inner_product"]
    assert 0 < metrics["train"]["encoder_parameters"] < metrics["train"]["parameters"]
    assert len(json.loads(folder.curves.read_text())) == 2
    assert {file.name for file in folder.plots.iterdir()} == {"training.png", "experts.png"}
    page = folder.report.read_text(encoding="utf-8")
    for shown in (
        "Experts",
        "Cosine of every pair of kernels",
        "own tags",
        "Later tags, task by task",
        "Worst and best users",
        "Data card",
    ):
        assert shown in page
    low, high = metrics["test_intervals"]["recall@10"]
    assert low < metrics["test"]["recall@10"] < high


def test_experts_are_described(finished: tuple[Path, dict[str, Any]]) -> None:
    experts = finished[1]["experts"]
    assert 0 <= experts["clicked"]["gate_entropy"] <= 1.0001
    assert sum(experts["clicked"]["shares"].values()) == pytest.approx(1)
    assert experts["clicked"]["shares"].keys() == {"0", "1"}
    assert experts["bought"]["shares"].keys() == {"1", "2"}
    assert experts["kernel_cosine"]["largest"] >= experts["kernel_cosine"]["mean"]


def test_metrics_are_for_people_too(finished: tuple[Path, dict[str, Any]]) -> None:
    text = describe_metrics(small("mvke"), finished[1])
    assert "auc:clicked" in text
    assert "clicked: new later tags" in text
    assert "own_tags" in text


def test_it_loads_again_with_the_best_weights(finished: tuple[Path, dict[str, Any]]) -> None:
    path, metrics = finished
    loaded = UserTagsKind().load_finished(path)
    rows = loaded.dataset.test
    batches = tag_batches(rows, StateGatherer(loaded.dataset.states), batch_size=256).in_order()
    logits = np.concatenate([loaded.model.logits(batch).numpy() for batch in batches])  # [rows, A]
    loss = np.mean(np.logaddexp(0, logits) - rows.labels * logits)
    assert loss == pytest.approx(metrics["test"]["log_loss"], abs=1e-5)


def test_it_learns(finished: tuple[Path, dict[str, Any]]) -> None:
    assert finished[1]["test"]["auc"] > 0.6


def test_a_run_that_was_stopped_ends_with_the_same_metrics(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    _run(small("mvke", *STEPS, "training.max_steps=13"), tmp_path / "parts")
    parts = _run(small("mvke", *STEPS), tmp_path / "parts", resume=True)
    assert without_times(parts) == without_times(finished[1])


def test_other_data_is_refused(finished: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfmi.kinds.user_tags.tagging_fingerprint", lambda dataset: "another")
    with pytest.raises(DataError, match="has changed"):
        UserTagsKind().load_finished(finished[0])


def test_a_run_of_another_kind_is_refused(tmp_path: Path) -> None:
    RunFolder(tmp_path).start(load_config())
    with pytest.raises(ConfigError, match="model of tags"):
        UserTagsKind().load_finished(tmp_path)


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    RunFolder(tmp_path).start(small())
    with pytest.raises(ConfigError, match="not come to its end"):
        UserTagsKind().load_finished(tmp_path)


@pytest.mark.slow
def test_the_program_trains_and_publishes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [flag for setting in SMALL for flag in ("--set", setting)] + ["--index", "exact", "--savedmodels", str(tmp_path / "models")]
    assert main(["--system", "tag_two_tower", *flags, "--max-steps", "5", "--output", str(tmp_path / "run")]) == 0
    assert "clicked: all later tags" in capsys.readouterr().out
    assert (tmp_path / "models" / "tag_two_tower" / "1" / "saved_model.pb").exists()

"""A user's own files all the way: from CSV with mistakes in it to a model that answers, in memory and streamed from disk."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfmi.cli.train import main
from tfmi.export.exported_model import ExportedModel
from tfmi.training.run_folder import RunFolder

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
USERS, ITEMS, KINDS = 200, 60, 4
# More than two epochs of about 20 steps.
STREAMED_STEPS = 50
STREAMED = ["--set", "data.log.streaming=true", "--set", "data.log.shards=3"]
WITHOUT_PROFILES = ["--set", "data.log.profile_columns=[]", "--set", "data.log.profile_numbers=[]"]


def item_id(number: int) -> str:
    return f"Ä-{number:02}"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder of ``log.csv``, ``catalogue.csv`` and ``users.csv``: users keep to one of four kinds of items; some rows are bad."""
    rng = np.random.default_rng(5)
    events = [
        [f"c{user}", item_id(int(rng.integers(0, ITEMS // KINDS)) * KINDS + user % KINDS), 1.7e9 + float(rng.integers(0, 10**6)), 1]
        for user in range(USERS)
        for _ in range(int(rng.integers(6, 16)))
    ]
    rng.shuffle(events)
    events[40:40] = [["", item_id(1), 1.7e9, 1], ["c1", item_id(1), "yesterday", 1], ["c1", item_id(1), 1.7e9, -3]]
    kinds = ["boots", "tents", "книги", "lamps"]
    items = [[item_id(number), f"Item {number}", kinds[number % KINDS], 5 + number] for number in range(ITEMS)]
    items.insert(3, [item_id(0), "again", "boots", 1])
    users = [[f"c{user}", "north" if user % 2 else "south", 20 + user % 50] for user in range(USERS)]
    users.insert(7, ["c9", "east", "old"])
    folder = tmp_path / "shop"
    folder.mkdir()
    for name, header, rows in (
        ("log.csv", ["customer", "sku", "at", "amount"], events),
        ("catalogue.csv", ["sku", "name", "category", "price"], items),
        ("users.csv", ["customer", "region", "age"], users),
    ):
        with (folder / name).open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, delimiter=";").writerows([header, *rows])
    return folder


@pytest.fixture
def flags(shop: Path) -> list[str]:
    """Command-line flags that describe the shop's files to a small run."""
    settings = (
        "data.log.delimiter=;",
        "data.log.columns={user: customer, item: sku, time: at, weight: amount}",
        "data.log.catalogue_columns={item: sku, title: name, numbers: [price]}",
        "data.log.user_column=customer",
        "data.log.profile_columns=[region]",
        "data.log.profile_numbers=[age]",
        f"data.cache={shop.parent / 'cache'}",
        "data.history_length=8",
        "export.num_results=10",
        "export.exclusion_width=4",
        "export.warmup_batch_sizes=[1]",
    )
    return ["--dataset", "log", "--data", str(shop), *(flag for setting in settings for flag in ("--set", setting))]


def training_flags(max_steps: int) -> list[str]:
    settings = (
        "model.dimension=8",
        "optimizer.learning_rate=0.01",
        "training.batch_size=64",
        "training.evaluate_every=10",
        "training.monitor=ndcg@20",
        "training.patience=100",
        "training.tensorboard=false",
        "evaluation.report=false",
    )
    return ["--max-steps", str(max_steps), *(flag for setting in settings for flag in ("--set", setting))]


def metrics_of(output: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads(RunFolder(output).metrics.read_text(encoding="utf-8"))
    return metrics


def share_of_own_kind(models: Path, name: str) -> float:
    """For a user of each kind who saw three items of it: how many of the five best items are of the same kind. By chance a quarter."""
    (version,) = (models / name).iterdir()
    model = ExportedModel(version)
    history = [[item_id(kind), item_id(kind + KINDS), item_id(kind + 2 * KINDS), *[""] * 5] for kind in range(KINDS)]
    answer = model.predict("serving_default", {"history": np.array(history, dtype=object)})
    best = np.array([[int(item.decode().removeprefix("Ä-")) % KINDS for item in row[:5]] for row in answer["item_ids"]])
    return float((best == np.arange(KINDS)[:, None]).mean())


def test_files_with_mistakes_become_a_model_that_answers(tmp_path: Path, flags: list[str]) -> None:
    output, models = tmp_path / "run", tmp_path / "models"
    places = ["--output", str(output), "--savedmodels", str(models), "--index", "exact"]
    assert main([*flags, *training_flags(60), "--system", "mind", *places]) == 0
    metrics = metrics_of(output)
    assert metrics["data"]["dataset"] == "log"
    assert metrics["data"]["read"]["rejected_by_reason"] == {"empty_user": 1, "not_a_time": 1, "not_positive": 1}
    (rejects,) = (tmp_path / "cache" / "rejects").iterdir()
    reasons = {
        file.name: sorted(json.loads(line)["reason"] for line in file.read_text(encoding="utf-8").splitlines())
        for file in rejects.iterdir()
    }
    assert reasons == {
        "log.jsonl": ["empty_user", "not_a_time", "not_positive"],
        "catalogue.jsonl": ["repeated_item"],
        "users.jsonl": ["not_a_number"],
    }
    assert share_of_own_kind(models, "mind") >= 0.8


@pytest.mark.long
def test_a_streamed_run_that_is_killed_and_resumed_equals_one_that_is_not(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    start = [*flags, *STREAMED, *training_flags(STREAMED_STEPS), "--no-export"]
    assert main([*start, "--output", str(whole)]) == 0
    program = [sys.executable, str(ROOT / "training" / "train.py")]
    process = subprocess.Popen([*program, *start, "--output", str(broken)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = RunFolder(broken).state
    deadline = time.monotonic() + 120
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    stopped_at = json.loads(state.read_text(encoding="utf-8"))["step"]
    assert 0 < stopped_at < STREAMED_STEPS
    assert not RunFolder(broken).metrics.exists()
    capsys.readouterr()
    assert main(["--resume", "--no-export", "--output", str(broken)]) == 0
    assert f"Resuming at step {stopped_at} of {STREAMED_STEPS}" in "".join(capsys.readouterr())
    first, second = metrics_of(whole), metrics_of(broken)
    assert first["data"]["streamed"]
    assert first["test"]["ndcg@20"] > 0
    assert (first["test"], first["valid"]) == (second["test"], second["valid"])


def test_a_heuristic_system_reads_a_streamed_log(tmp_path: Path, flags: list[str]) -> None:
    output, models = tmp_path / "run", tmp_path / "models"
    places = ["--output", str(output), "--savedmodels", str(models)]
    assert main([*flags, *STREAMED, *WITHOUT_PROFILES, "--system", "item_knn", *places]) == 0
    metrics = metrics_of(output)
    assert metrics["data"]["streamed"]
    assert metrics["data"]["read"]["rejected"] == 3
    assert metrics["test"]["recall@20"] > 0.5
    # Nobody ever saw items of two kinds.
    assert share_of_own_kind(models, "item_knn") == 1.0

"""A search by Optuna: the same tries for all, kept in a journal, poor runs ended early, the best settings reported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare_systems import main
from benchmarks.comparison import jobs, search
from benchmarks.comparison.entries import Entry
from benchmarks.comparison.jobs import Task
from benchmarks.comparison.search import DEFAULT_SPACE, Range, Search, kind_in_spaces, ranges_of, read_ranges
from tfmi.cli import train as cli
from tfmi.core.errors import ConfigError
from tfmi.models.kind_settings import settings_yaml
from tfmi.models.systems import load_config

SMALL = ["data.embedded.users=60", "data.embedded.items=30", "evaluation.cutoffs=[5]"]


def space(folder: Path, text: str) -> Path:
    path = folder / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def in_this_process(task: Task, environment: Mapping[str, str]) -> int:
    """What each program does, without starting another Python."""
    del environment
    program, arguments = Path(task.command[1]).name, list(task.command[2:])
    return {"search.py": search.main, "train.py": cli.main}[program](arguments)


def test_a_system_is_searched_where_it_reads_and_has_a_parameter() -> None:
    spaces = read_ranges(DEFAULT_SPACE, [])
    found = {}
    for name in ("item_knn", "popularity", "mind", "gsasrec", "din"):
        config = load_config(system=name)
        found[name] = (kind_in_spaces(config), set(ranges_of(spaces, Entry.of_system(name), config)))
    assert found["item_knn"] == ("counts", {f"model.heuristic.{each}" for each in ("decay", "power", "shrink")})
    assert found["popularity"] == ("counts", set())
    assert found["mind"][0] == "prefixes"
    assert "model.temperature" in found["mind"][1]
    assert found["gsasrec"][0] == "sequences"
    assert {"model.extractor.encoder.dropout", "optimizer.learning_rate"} <= found["gsasrec"][1]
    assert found["din"][1] == {"optimizer.learning_rate"}


def test_ranges_of_a_system_win_over_those_of_its_kind(tmp_path: Path) -> None:
    path = space(
        tmp_path,
        "kinds: {prefixes: {model.temperature: {low: 0.05, high: 0.2, log: true}, optimizer.learning_rate: [0.01]}}\n"
        "systems: {mind: {model.temperature: [], model.extractor.num_interests: {low: 2, high: 8}}}",
    )
    entry = Entry.of_system("mind")
    found = ranges_of(read_ranges(path, [entry]), entry, load_config(system="mind"))
    assert found == {"optimizer.learning_rate": Range(choices=(0.01,)), "model.extractor.num_interests": Range(2, 8)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: {}", "expected the parts 'kinds' and 'systems'"),
        ("kinds: {prefix: {}}", r"kinds\.prefix: no such kind .did you mean 'prefixes'"),
        ("systems: {mynd: {}}", "no such system .did you mean 'mind'"),
        ("kinds: {counts: {a.b: 3}}", r"kinds\.counts: a\.b: expected a list of values, or \{low"),
        ("kinds: {counts: {a.b: {low: 2, high: 1}}}", "expected low below high"),
        ("kinds: {counts: {a.b: {low: 0, high: 1, log: true}}}", "above 0 for a logarithm"),
    ],
)
def test_a_wrong_space_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_ranges(space(tmp_path, text), [])


def test_tune_needs_a_number_of_tries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--systems", "item_knn", "--data", "a=-", "--dataset", "embedded", "--output", str(tmp_path), "--tune"]
    assert main(arguments) == 1
    assert "--trials N" in capsys.readouterr().err


def test_a_search_goes_on_where_it_was_stopped_and_its_best_settings_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna", reason="the extra tune is not installed")
    monkeypatch.setattr(jobs, "run_logged", in_this_process)
    ranges = space(
        tmp_path, "kinds: {counts: {model.heuristic.decay: {low: 0.1, high: 1.0}, model.heuristic.neighbours: {low: 1, high: 9}}}"
    )
    arguments = ["--systems", "item_knn", "popularity", "--data", "shop=-", "--dataset", "embedded", "--output", str(tmp_path / "out")]
    arguments += ["--tune", "--space", str(ranges), "--metrics", "recall@5", "--no-plots", "--jobs", "1", "--seeds", "1"]
    arguments += [part for setting in SMALL for part in ("--set", setting)]

    def searched(trials: int) -> list[dict[str, Any]]:
        assert main([*arguments, "--trials", str(trials)]) == 0
        found: list[dict[str, Any]] = json.loads((tmp_path / "out" / "tuning.json").read_text())["trials"]
        return found

    first = searched(3)
    folder = tmp_path / "out" / "shop" / "search" / "item_knn"
    (folder / "trial-0" / "metrics.json").unlink()  # nothing is run twice, so nobody misses it
    more = searched(5)
    assert more[:3] == [row | {"chosen": more[place]["chosen"]} for place, row in enumerate(first[:3])]
    assert not (folder / "trial-0" / "metrics.json").exists()
    of_counts = [row for row in more if row["config"] == "item_knn"]
    assert [row["trial"] for row in of_counts] == [0, 1, 2, 3, 4]
    assert of_counts[0]["settings"] == []
    assert len({tuple(row["settings"]) for row in of_counts}) == 5
    assert all(0.1 <= float(row["settings"][0].partition("=")[2]) <= 1.0 for row in of_counts[1:])
    assert [row["trial"] for row in more if row["config"] == "popularity"] == [0]  # nothing to search
    (chosen,) = [row for row in of_counts if row["chosen"]]
    assert chosen["value"] == max(row["value"] for row in of_counts)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    (reported,) = [row for row in results["results"] if row["config"] == "item_knn"]
    assert reported["settings"] == chosen["settings"]
    assert reported["valid"]["recall@5"] == pytest.approx(chosen["value"])
    assert "p (Holm)" in capsys.readouterr().out

    ranges.write_text(ranges.read_text().replace("0.1", "0.2"))
    assert main([*arguments, "--trials", "5"]) == 1
    assert "an earlier search is here" in capsys.readouterr().err


def test_a_run_below_the_median_of_those_before_it_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    optuna = pytest.importorskip("optuna", reason="the extra tune is not installed")
    monkeypatch.setattr(search, "_RUNS_BEFORE_PRUNING", 1)
    monkeypatch.setattr(search, "_VALIDATIONS_BEFORE_PRUNING", 0)
    config = load_config(
        system="youtube_dnn",
        settings=[*SMALL, "model.dimension=4", "training.max_epochs=2", "training.monitor=recall@5", "training.tensorboard=false"],
    )
    # After the first run no learning rate teaches anything: its validations are held against that of one that does.
    looking = Search(
        "youtube_dnn", settings_yaml(config), {"optimizer.learning_rate": Range(1e-9, 2e-9)}, (), 2, "recall@5", tmp_path / "search"
    )
    search.run_search(looking)
    first, second = looking.open_study().get_trials()
    assert first.state == optuna.trial.TrialState.COMPLETE
    assert second.state == optuna.trial.TrialState.PRUNED
    assert (tmp_path / "search" / "trial-0" / "metrics.json").exists()
    assert not (tmp_path / "search" / "trial-1" / "metrics.json").exists()
    assert len(second.intermediate_values) < len(first.intermediate_values) + 1

"""Comparing two versions before a rollout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.export.fake_recommenders import AGE, NUM_RESULTS, REGION, NextInLine, TableRecommender, make_catalogue, make_profiles
from tfmi.cli import compare_versions
from tfmi.config import ExportConfig, IndexConfig
from tfmi.core.errors import ConfigError, ExportError
from tfmi.data.dataset import Sequences
from tfmi.export import export_savedmodel
from tfmi.rollout.compare import ComparisonLimits, violations
from tfmi.rollout.drift import best_rotation, neighbour_overlap
from tfmi.rollout.measures import category_shares, category_shift, overlap, score_shift
from tfmi.rollout.requests import sample_users, users_in_file
from tfmi.rollout.sides import Answer, open_side
from tfmi.serving.local_server import LocalServer, discover_models

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loaded_once")]


def _answers(*lists: str) -> list[Answer]:
    return [Answer(list(items), [float(-place) for place in range(len(items))]) for items in lists]


class TestMeasures:
    def test_overlap_is_the_share_of_the_old_best(self) -> None:
        old, new = _answers("abcd", "ab", "", "abc"), _answers("bxay", "cd", "ab", "abc")
        assert overlap(old, new, 4).tolist() == [0.5, 0.0, 1.0, 1.0]
        assert overlap(old, new, 1).tolist() == [0.0, 0.0, 1.0, 1.0]

    def test_score_shift_is_in_deviations_of_the_old_scores(self) -> None:
        old = [Answer(["a", "b"], [1.0, 3.0])]  # deviation 1
        new = [Answer(["b", "a", "c"], [3.5, 0.0, -9.0])]
        assert score_shift(old, new) == {"mean": pytest.approx(-0.25), "size": pytest.approx(0.75), "items": 2}
        assert np.isnan(score_shift(old, [Answer(["z"], [1.0])])["mean"])

    def test_category_shift_is_a_distance_of_distributions(self) -> None:
        categories = {"a": "one", "b": "one", "c": "two", "d": ""}
        old = category_shares(_answers("abc", "cd"), categories, 3)
        assert old == {"one": 0.5, "two": 0.5}
        assert category_shift(old, category_shares(_answers("abz"), categories, 3)) == 0.5
        assert category_shift(old, old) == 0
        assert category_shift({"one": 1.0}, {"two": 1.0}) == 1.0

    def test_rotation_and_scale_are_no_drift(self) -> None:
        rng = np.random.default_rng(1)
        before = rng.normal(size=(50, 6))
        before /= np.linalg.norm(before, axis=1, keepdims=True)
        turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
        chosen = np.arange(50)
        assert neighbour_overlap(before, before @ turn, chosen, 5).min() == 1.0
        np.testing.assert_allclose(best_rotation(before, before @ turn), before @ turn, atol=1e-9)
        assert neighbour_overlap(before, rng.normal(size=(50, 6)), chosen, 5).mean() < 0.4

    def test_limits_name_what_passes_them(self) -> None:
        report: dict[str, Any] = {
            "overlap": {"@10": {"mean": 0.4, "p5": 0.0}},
            "score_shift": {"mean": 0.0, "size": float("nan"), "items": 0},
            "empty": {"old": 0.0, "new": 0.1},
            "latency_ms": {"ratio": 1.6},
        }
        said = violations(report, ComparisonLimits(min_overlap=0.5, max_score_shift=1.0, max_empty_share=0.05))
        assert [text.split(" is ")[0].rsplit(" ", 1)[0] for text in said] == [
            "overlap@10",
            "score shift",
            "latency ratio",
            "share of users without an answer",
        ]
        assert violations(report, ComparisonLimits(0.4, None, None, 1.6, 0.1)) == []


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder: 1 and 2 alike, 3 with other vectors and fewer items, 4 a heuristic."""
    directory = tmp_path_factory.mktemp("rollout") / "fake"
    profiles = make_profiles()
    random = np.random.default_rng(4)
    histories = Sequences(np.arange(0, 37, 6), random.integers(2, 32, 36).astype(np.int32), None, None, np.arange(1, 7, dtype=np.int32))
    export = ExportConfig(num_results=NUM_RESULTS, exclusion_width=2, warmup_batch_sizes=[1], explain_interests=False)
    for version, seed, items in ((1, 0, 40), (3, 9, 30)):
        catalogue = make_catalogue(items)
        recommender = TableRecommender(catalogue, (REGION, AGE), seed=seed)
        export_savedmodel(
            recommender,
            catalogue,
            directory,
            export=export,
            index=IndexConfig(kind="exact"),
            profiles=profiles,
            histories=histories,
            metadata={"system": "fake"},
            version=version,
        )
    shutil.copytree(directory / "1", directory / "2")
    catalogue = make_catalogue(40)
    export_savedmodel(NextInLine(catalogue), catalogue, directory, export=export, histories=histories, metadata={"system": "next"})
    return directory


def _run(*arguments: str) -> int:
    return compare_versions.main([*arguments, "--latency-requests", "0", "--cutoffs", "3,6"])


def test_equal_versions_pass(versions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(str(versions / "1"), str(versions / "2"), "--report", str(tmp_path / "r.json"), "--min-overlap", "1") == 0
    report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert report["users"] == 6
    assert report["overlap"] == {"@3": {"mean": 1.0, "p5": 1.0}, "@6": {"mean": 1.0, "p5": 1.0}}
    assert report["categories"]["shift"] == 0.0
    assert report["vectors"]["both"] == 40
    assert report["vectors"]["neighbour_overlap"] == 1.0
    assert report["vectors"]["cosine_after_rotation"] == pytest.approx(1.0)
    assert "Within all limits." in capsys.readouterr().out


def test_another_version_fails_and_says_why(versions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(str(versions / "1"), str(versions / "3"), "--min-overlap", "0.9", "--report", str(tmp_path / "r.json")) == 1
    assert "overlap@3 0." in capsys.readouterr().out
    drift = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["vectors"]
    assert (drift["both"], drift["new"], drift["gone"]) == (30, 0, 10)
    assert drift["neighbour_overlap"] < 0.9
    assert len(drift["moved_most"]) == 10


def test_a_heuristic_has_no_vectors_to_compare(versions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(str(versions / "1"), str(versions), "--min-overlap", "none", "--max-category-shift", "none") == 0
    assert "item vectors  not compared" in capsys.readouterr().out


def test_a_served_version_is_asked_by_its_address(versions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    served = shutil.copytree(versions / "1", tmp_path / "models" / "fake" / "1").parents[1]
    with LocalServer(lambda: discover_models(served), rest_port=0, grpc_port=0, poll_seconds=60) as server:
        address = f"{server.rest_address}/v1/models/fake/versions/1"
        assert _run(address, str(versions / "2"), "--min-overlap", "1") == 0
        assert compare_versions.main([address, address, "--latency-requests", "2"]) == 1
        assert "give --requests FILE" in capsys.readouterr().err
        with pytest.raises(ExportError, match="versions/99"):
            open_side(f"{server.rest_address}/v1/models/fake/versions/99").answer(sample_users(versions / "1", most=1))


def test_users_of_a_file_and_of_an_export(versions: Path, tmp_path: Path) -> None:
    sampled = sample_users(versions / "1", most=4)
    assert len(sampled) == 4
    assert all(user.history and user.profile[REGION] in {"nord", "süd"} for user in sampled)
    path = tmp_path / "users.jsonl"
    lines = [{"user_id": "a", "history": ["item-1", "item-2"], REGION: "nord"}, {"user_id": "b", "history": []}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (user,) = users_in_file(path, {REGION: "categorical", AGE: "number"}, most=9)
    assert (user.history, user.profile) == (["item-1", "item-2"], {REGION: "nord"})
    assert _run(str(versions / "1"), str(versions / "2"), "--requests", str(path), "--min-overlap", "1") == 0


def test_latency_is_timed_in_turns(versions: Path, tmp_path: Path) -> None:
    command = [str(versions / "1"), str(versions / "2"), "--latency-requests", "3", "--max-latency-ratio", "none"]
    assert compare_versions.main([*command, "--report", str(tmp_path / "r.json")]) == 0
    took = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["latency_ms"]
    assert took["requests"] == 3
    assert took["ratio"] == pytest.approx(took["new"]["p50"] / took["old"]["p50"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cutoffs", "x"], "--cutoffs x: expected numbers of at least 1"),
        (["--min-overlap", "-1"], "--min-overlap -1: expected a number of at least 0, or none"),
        (["--users", "0"], "--users has to be at least 1"),
    ],
)
def test_bad_options_are_one_message(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare_versions.main(["old", "new", *arguments]) == 1
    assert said in capsys.readouterr().err


def test_an_odd_address_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected an address such as"):
        open_side("http://127.0.0.1:8501/mind")

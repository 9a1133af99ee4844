"""A component from outside is found by training, loading and exporting, and named by what they leave behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import tfmi
from tests.api.tables import shop
from tfmi.cli.train import main as train
from tfmi.core.registry import Registry
from tfmi.export import load_metadata
from tfmi.models.heuristics.heuristic import HEURISTICS

MODULE = "own_heuristics.heuristics"
CODE = """
from tfmi.models.heuristics.heuristic import HEURISTICS, Popularity

@HEURISTICS.register("own_popularity")
class OwnPopularity(Popularity):
    def __init__(self, min_history: int = 1) -> None:
        super().__init__("targets", min_history)
"""
RECIPE: dict[str, Any] = {"system": "mine", "model": {"kind": "heuristic", "heuristic": {"name": "own_popularity"}}}


def forget(registry: Registry[Any], name: str) -> None:
    registry._components.pop(name, None)
    for module in [each for each in sys.modules if each.startswith("own_heuristics")]:
        del sys.modules[module]


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "elsewhere"
    (folder / "own_heuristics").mkdir(parents=True)
    (folder / "own_heuristics" / "__init__.py").touch()
    (folder / "own_heuristics" / "heuristics.py").write_text(CODE)
    monkeypatch.syspath_prepend(folder)
    yield folder
    forget(HEURISTICS, "own_popularity")


@pytest.mark.slow
def test_the_library_names_it_and_says_when_it_is_missing(plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(tfmi.ConfigError, match=r"unknown heuristic 'own_popularity'.*plugins: \[my_package\.my_module\]"):
        tfmi.Recommender(RECIPE)
    dataset = tfmi.Dataset.from_events(shop()[0], split="leave_one_out")
    model = tfmi.Recommender(RECIPE, plugins=[MODULE]).fit(dataset)
    run = model.save(tmp_path / "run")
    version = model.export(tmp_path / "models" / "mine")
    assert load_metadata(version)["configuration"]["plugins"] == [MODULE]
    forget(HEURISTICS, "own_popularity")
    pd.testing.assert_frame_equal(tfmi.load(run).recommend(["user-1"]), model.recommend(["user-1"]))
    forget(HEURISTICS, "own_popularity")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(plugin)])
    sys.path_importer_cache.pop(str(plugin), None)
    with pytest.raises(tfmi.ConfigError, match=r"plugins: there is no module 'own_heuristics\.heuristics' in this environment"):
        tfmi.load(run)
    answers = tfmi.load(version).recommend(histories=[["a1"]], n=3)  # what is exported needs no code
    assert len(answers) == 3


@pytest.mark.slow
def test_the_program_finds_it(plugin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop()[0].to_parquet(tmp_path / "events.parquet")
    data = {"dataset": "log", "path": str(tmp_path / "events.parquet"), "cache": str(tmp_path / "cache")}
    described = {**RECIPE, "plugins": [MODULE], "data": data}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(described))
    output = ["--output", str(tmp_path / "run"), "--savedmodels", str(tmp_path / "models")]
    assert train(["--config", str(tmp_path / "mine.yaml"), *output]) == 0
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["plugins"] == [MODULE]
    assert (tmp_path / "models" / "mine" / "1" / "saved_model.pb").exists()
    (tmp_path / "absent.yaml").write_text(yaml.safe_dump({**described, "plugins": ["own_absent"]}))
    assert train(["--config", str(tmp_path / "absent.yaml")]) == 1
    assert "error: plugins: there is no module 'own_absent' in this environment" in capsys.readouterr().err


def test_one_that_an_installed_package_announces_is_named_too(plugin: Path) -> None:
    __import__(MODULE)  # as an entry point does
    assert tfmi.Recommender(RECIPE).config.plugins == [MODULE]
    assert tfmi.Recommender(RECIPE, plugins=["own_heuristics"]).config.plugins == ["own_heuristics"]
    assert tfmi.Recommender("popularity").config.plugins == []

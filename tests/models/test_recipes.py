"""Every named system has a row in the list of systems, and is written out by the program; configurations say how they are run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tfmi.cli.train import main
from tfmi.models.systems import SYSTEMS, load_config

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "training" / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("name", SYSTEMS)
def test_is_listed_with_its_recipe(name: str) -> None:
    rows = (ROOT / "docs" / "systems" / "README.md").read_text(encoding="utf-8").splitlines()
    own = [row for row in rows if row.startswith(f"| `{name}` |")]
    assert len(own) == 1
    assert f"[{name}.yaml](../../tfmi/models/recipes/{name}.yaml)" in own[0]
    assert (ROOT / "tfmi" / "models" / "recipes" / f"{name}.yaml").is_file()


@pytest.mark.parametrize("name", SYSTEMS)
def test_is_written_out_by_the_program(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--print-config", name]) == 0
    written = capsys.readouterr().out
    assert written.startswith(f"# {name}: {SYSTEMS[name].summary}\n")
    path = tmp_path / "mine.yaml"
    path.write_text(written, encoding="utf-8")
    assert load_config(path) == load_config(system=name)


def test_what_is_written_out_has_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--print-config", "mind", "--dataset", "sessions", "--data", "here", "--set", "model.dimension=8"]) == 0
    written = yaml.safe_load(capsys.readouterr().out)
    assert (written["data"]["dataset"], written["data"]["path"], written["model"]["dimension"]) == ("sessions", "here", 8)
    assert "ranker" not in written["model"]
    assert main(["--system", "popularity", "--print-config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["system"] == "popularity"
    assert main(["--print-config", "mnd"]) == 1
    assert "did you mean 'mind'" in capsys.readouterr().err


def test_no_configuration_repeats_a_recipe() -> None:
    repeated = [path.stem for path in CONFIGS if path.stem in SYSTEMS and load_config(path) == load_config(system=path.stem)]
    assert repeated == []


def test_links_of_the_list_lead_somewhere() -> None:
    folder = ROOT / "docs" / "systems"
    text = (folder / "README.md").read_text(encoding="utf-8")
    targets = [part.partition(")")[0].partition("#")[0] for part in text.split("](")[1:]]
    assert targets
    assert [target for target in targets if not (folder / target).exists()] == []


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_every_configuration_begins_with_how_it_is_run(path: Path) -> None:
    words = " ".join(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")).split()
    assert words[:1] == ["#"]
    assert {path.relative_to(ROOT).as_posix(), "benchmarks/README.md"} & set(words)


def test_the_page_of_papers_names_every_recipe_and_files_that_exist() -> None:
    page = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tfmi/[\w/]+\.(?:py|yaml))`", page))
    assert all((ROOT / name).is_file() for name in named)
    assert {f"tfmi/models/recipes/{path.name}" for path in (ROOT / "tfmi" / "models" / "recipes").glob("*.yaml")} <= named

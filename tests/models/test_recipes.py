"""Every named system has a configuration that is the same run written out, and a row in the list of systems."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfmi.models.systems import SYSTEMS

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "training" / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("name", SYSTEMS)
def test_is_listed_with_a_configuration(name: str) -> None:
    rows = (ROOT / "docs" / "systems" / "README.md").read_text(encoding="utf-8").splitlines()
    own = [row for row in rows if row.startswith(f"| `{name}` |")]
    assert len(own) == 1
    assert f"[{name}.yaml](../../training/configs/{name}.yaml)" in own[0]
    assert (ROOT / "training" / "configs" / f"{name}.yaml").is_file()


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

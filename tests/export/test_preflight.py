"""What is refused before training starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfmi.config import IndexConfig
from tfmi.core.errors import ConfigError, ExportError, IndexBuildError
from tfmi.export import check_export, preflight

EXACT, SCANN = IndexConfig(kind="exact"), IndexConfig(kind="scann")


def test_a_folder_that_can_be_made_passes_and_nothing_is_left(tmp_path: Path) -> None:
    check_export(EXACT, tmp_path / "savedmodels" / "mind", True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mind").mkdir()
    check_export(EXACT, tmp_path / "mind", True)
    assert list((tmp_path / "mind").iterdir()) == []


def test_a_relative_folder_is_looked_for_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_export(EXACT, Path("savedmodels/mind"), True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a b", "-mind", "mind?", "misé", ".hidden"])
def test_names_that_cannot_be_served_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"export\.name: .*expected ASCII letters"):
        check_export(EXACT, tmp_path / name, True)


@pytest.mark.parametrize("below", ["mind", "deeper/mind"])
def test_a_file_in_the_way_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ExportError, match=r"cannot be written here: .*--savedmodels"):
        check_export(EXACT, tmp_path / "file" / below, True)


def test_scann_is_asked_for_only_where_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise IndexBuildError("index 'scann' needs the package 'scann'")

    monkeypatch.setattr(preflight, "load_scann_ops", missing)
    check_export(EXACT, tmp_path / "m", True)
    check_export(SCANN, tmp_path / "m", False)
    with pytest.raises(ConfigError, match=r"index\.kind: .*--index exact"):
        check_export(SCANN, tmp_path / "m", True)

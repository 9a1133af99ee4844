"""Components from outside of the package are found by the module that a configuration names, or by an installed entry point."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tfmi.core import plugins
from tfmi.core.errors import ConfigError
from tfmi.core.plugins import import_installed_plugins, import_plugins
from tfmi.core.registry import Registry, outside_modules

COLOURS: Registry[object] = Registry("colour", "tfmi.evaluation")

MODULE = f"""
from {__name__} import COLOURS

@COLOURS.register("{{name}}")
class Colour:
    pass
"""


@pytest.fixture(autouse=True)
def nothing_stays_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    import_installed_plugins.cache_clear()
    yield
    import_installed_plugins.cache_clear()
    for name in set(sys.modules) - before:
        if name.startswith(("own_", "broken_")):
            del sys.modules[name]


def test_a_named_module_registers_its_components(tmp_path: Path) -> None:
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "colours.py").write_text(MODULE.format(name="mauve"))
    import_plugins(["own_package.colours"])
    assert COLOURS.get("mauve").__module__ == "own_package.colours"
    described = {"model": {"parts": [{"name": "mauve"}, {"name": "of nobody"}]}, "name": "mauve"}
    assert outside_modules(described) == {"own_package.colours"}
    assert outside_modules({"model": {"extractor": {"name": "capsule_routing"}}}) == set()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("own_absent.layers", None, "there is no module 'own_absent.layers' in this environment (no 'own_absent')"),
        ("broken_needs", "import own_absent_dependency", "'broken_needs' needs the module 'own_absent_dependency', which is not installed"),
        ("broken_raises", "raise RuntimeError('no licence')", "'broken_raises' cannot be imported: RuntimeError: no licence"),
        ("broken_syntax", "def", "'broken_syntax' cannot be imported: SyntaxError"),
    ],
)
def test_what_cannot_be_imported_is_one_message(tmp_path: Path, name: str, content: str | None, expected: str) -> None:
    if content is not None:
        (tmp_path / f"{name}.py").write_text(content)
    with pytest.raises(ConfigError) as error:
        import_plugins([name])
    assert str(error.value).startswith(f"plugins: {expected}")
    assert "\n" not in str(error.value)


def test_installed_distributions_announce_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "own_announced.py").write_text(MODULE.format(name="teal"))
    points = [
        importlib.metadata.EntryPoint("mine", "own_announced", plugins.ENTRY_POINT_GROUP),
        importlib.metadata.EntryPoint("gone", "own_gone", plugins.ENTRY_POINT_GROUP),
    ]
    monkeypatch.setattr(plugins.importlib.metadata, "entry_points", lambda group: points if group == "tfmi.plugins" else [])
    fresh: Registry[object] = Registry("colour", "tfmi.evaluation")
    assert fresh.names() == []
    assert COLOURS.get("teal").__module__ == "own_announced"
    assert "there is no module 'own_gone'" in caplog.text
    with pytest.raises(ConfigError, match=r"unknown colour 'lilac'.*plugins: .*An installed plugin: there is no module 'own_gone'"):
        COLOURS.get("lilac")

"""What docs/architecture.md says of the packages and their order is so."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tfmi"
DOCUMENT = ROOT / "docs" / "architecture.md"


def documented() -> list[str]:
    """The packages of the table, from its top."""
    return re.findall(r"^\| `tfmi/(\w+)/` \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and module of whatever a file imports of this package, inside of functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module] if node.module != "tfmi" else [f"tfmi.{alias.name}" for alias in node.names]
            yield from ((node.lineno, name) for name in names)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)


def test_every_package_is_in_the_table() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert sorted(documented()) == sorted(folders)


def test_a_package_imports_only_those_above_it() -> None:
    place = {name: position for position, name in enumerate(documented())}
    upwards = []
    for name, position in place.items():
        for path in sorted((PACKAGE / name).rglob("*.py")):
            for line, module in imported(path):
                root, _, rest = module.partition(".")
                other = rest.partition(".")[0]
                # What is no package is a public name of `tfmi` itself, which stands on all of them.
                if root == "tfmi" and other and place.get(other, len(place)) > position:
                    upwards.append(f"{path.relative_to(ROOT)}:{line} imports {module}, which stands below tfmi/{name}")
    assert upwards == []


def test_spark_is_imported_by_its_own_programs_alone() -> None:
    """Whoever has not installed it misses nothing else."""
    users = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        roots = {module.partition(".")[0] for _, module in imported(path)} | {".".join(m.split(".")[:2]) for _, m in imported(path)}
        if roots & {"pyspark", "py4j", "tfmi.spark"}:
            users.add(path.relative_to(PACKAGE).as_posix())
    assert {path for path in users if not path.startswith("spark/")} == {
        "cli/spark_options.py",
        "cli/spark_prepare.py",
        "cli/spark_recommend.py",
    }


def test_layers_and_losses_name_no_settings() -> None:
    """They raise ``ValueError``; who builds them from a configuration says where to look (``settings_at``)."""
    named = []
    for name in ("layers", "losses"):
        for path in sorted((PACKAGE / name).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            raised = [node for node in ast.walk(tree) if isinstance(node, ast.Raise)]
            texts = [part for node in raised for part in ast.walk(node) if isinstance(part, ast.Constant)]
            for text in texts:
                if re.search(r"\b(model|data|index|training|evaluation|export|optimizer)\.[a-z_]+\b", str(text.value)):
                    named.append(f"{path.relative_to(ROOT)}:{text.lineno} {text.value!r}")
    assert named == []


# What every program has, whichever it is.
PROGRAM = {"main", "build_parser"}


def test_a_name_is_of_one_thing() -> None:
    places: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for name in public_names(path):
            places.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert {name: where for name, where in places.items() if len(where) > 1 and name not in PROGRAM} == {}


def public_names(path: Path) -> Iterator[str]:
    """The public classes, functions and aliases of types that a module defines."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names: list[str] = []
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names = [node.name]
        elif isinstance(node, ast.Assign) and not isinstance(node.value, ast.Call):  # calls make type variables and registries
            names = [target.id for target in node.targets if isinstance(target, ast.Name) and re.search("[a-z]", target.id)]
        yield from (name for name in names if not name.startswith("_"))


# What pages and code called by other words than the field does, or than people do today.
OUTDATED = re.compile(
    r"\b(exposures?|counting (system|model|baseline)s?|named (data ?set|set)s?|hears? from|heard from|what asks|mends?|mended"
    r"|foresees?|anew|afresh)\b"
)


def test_code_and_pages_use_the_terms_of_the_field() -> None:
    paths = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.yaml")]
    lines = ((path, number, line) for path in sorted(paths) for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1))
    found = [f"{path.relative_to(ROOT)}:{number} {match.group()}" for path, number, line in lines if (match := OUTDATED.search(line))]
    assert found == []

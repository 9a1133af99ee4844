"""What the site has that the folder does not: a page of the API for each public package, and words for links that leave the folder.

The public names of a package stand once, in the stub beside it (``tfmi/layers/__init__.pyi``); its page shows the docstring of each.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
# Each page of the API: its stub, its title, and what it says first.
PAGES = {
    "tfmi": (
        "tfmi/__init__.pyi",
        "tfmi",
        "A dataset, a class for each kind of model, and `load`; see [the tour](../library.md).",
    ),
    "layers": ("tfmi/layers/__init__.pyi", "tfmi.layers", "Keras layers, one idea each, and where components of your own register."),
    "losses": ("tfmi/losses/__init__.pyi", "tfmi.losses", "Objectives, weightings, regularizers and the losses of tasks."),
    "metrics": ("tfmi/metrics.pyi", "tfmi.metrics", "Metrics of rankings and of predicted clicks."),
    "indexes": ("tfmi/index/__init__.pyi", "tfmi.index", "Nearest-neighbour search, merging of interests, exclusions and diversity."),
}
_LINK = re.compile(r"\[([^\]\n]+)\]\(((?:\.\./)+[^)#\s]*)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the API."""
    for name, (stub, title, about) in PAGES.items():
        files.append(File.generated(config, f"api/{name}.md", content=api_page(ROOT / stub, title, about)))
    return files


def api_page(stub: Path, title: str, about: str) -> str:
    """Markdown with a heading for each module's names, in the stub's order, and their docstrings; constants are listed."""
    parts = [f"# {title}", about]
    constants: list[str] = []
    for statement in ast.parse(stub.read_text(encoding="utf-8")).body:
        if not isinstance(statement, ast.ImportFrom) or statement.module in (None, "tfmi"):
            continue
        for alias in statement.names:
            if alias.name.isupper():
                constants.append(f"- `{title}.{alias.name}`, of `{statement.module}`")
            else:
                parts.append(f"::: {_definition(f'{statement.module}', alias.name)}")
    if constants:
        parts += ["## Constants", "Registries: `X.register(name)` is the decorator of a component of your own.", "\n".join(constants)]
    return "\n\n".join(parts) + "\n"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to files of the repository outside of docs/ become their paths: the site does not hold these files."""

    def said(match: re.Match[str]) -> str:
        source = (ROOT / "docs" / page.file.src_uri).parent
        target = (source / match[2]).resolve()
        if target.is_relative_to(ROOT / "docs") and target.suffix in (".md", ".png", ".svg", ".html"):
            return match[0]
        if not target.is_relative_to(ROOT) or not target.exists():
            raise PluginError(f"docs/{page.file.src_uri}: the link {match[2]} leads nowhere")
        path = target.relative_to(ROOT).as_posix()
        return match[1] if match[1].strip("`") == path else f"{match[1]} (`{path}`)"

    return _LINK.sub(said, markdown)


def _definition(module: str, name: str) -> str:
    """Where a name is defined, if ``module`` itself imports it from elsewhere."""
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for statement in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.ImportFrom) and statement.module and any(alias.name == name for alias in statement.names):
            return _definition(statement.module, name)
    return f"{module}.{name}"

"""Public names that are imported on first use, so that ``import tfmi`` loads no TensorFlow.

A module lists what it re-exports once, in the stub beside it (``__init__.pyi``), as ordinary imports. Type checkers, editors and the
documentation read the stub; at run time ``lazy_exports`` does. The pattern is SPEC 1 of the scientific Python ecosystem.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def lazy_exports(module: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a module, from the stub beside it.

    Args:
        module: The module's ``__name__``.
        file: The module's ``__file__``; the stub has the same name with the suffix ``.pyi``.

    Returns:
        The three, to be assigned at the module's top level. A name is looked up once and then stays in the module.
    """
    sources = _imported_names(Path(file).with_suffix(".pyi"))

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name not in sources:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        package, original = sources[name]
        # A submodule of the package itself is not an attribute of it before it is imported.
        submodule = package == module
        value = importlib.import_module(f"{package}.{original}") if submodule else getattr(importlib.import_module(package), original)
        setattr(sys.modules[module], name, value)
        return value

    def __dir__() -> list[str]:  # noqa: N807
        return sorted({*vars(sys.modules[module]), *sources})

    return __getattr__, __dir__, sorted(sources)


def _imported_names(stub: Path) -> dict[str, tuple[str, str]]:
    """By public name, where it comes from: module and name there."""
    statements = ast.parse(stub.read_text(encoding="utf-8")).body
    return {
        alias.asname or alias.name: (statement.module, alias.name)
        for statement in statements
        if isinstance(statement, ast.ImportFrom) and statement.module
        for alias in statement.names
    }

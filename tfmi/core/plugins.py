"""Components from outside of this package: modules that register layers, losses or heuristics of a user's own when they are imported.

A configuration names them (``plugins: [my_package.layers]``), or an installed distribution announces them, in its own packaging, as entry
points of the group ``tfmi.plugins``::

    [project.entry-points."tfmi.plugins"]
    my_package = "my_package.layers"
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import logging
import sys
from collections.abc import Iterable

from tfmi.core.errors import ConfigError

log = logging.getLogger(__name__)

ENTRY_POINT_GROUP = "tfmi.plugins"


def import_plugins(modules: Iterable[str]) -> None:
    """Import the modules that a configuration names.

    Raises:
        ConfigError: A module is not there, or raises an error of its own when it is imported.
    """
    for module in modules:
        problem = _import(module)
        if problem is not None:
            raise ConfigError(f"plugins: {problem}")


@functools.cache
def import_installed_plugins() -> tuple[str, ...]:
    """Import what installed distributions announce, once per process.

    Returns:
        What went wrong, a sentence for each plugin that cannot be imported. It stops nobody who does not need that plugin.
    """
    found = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    problems = [problem for problem in (_import(point.module) for point in found) if problem is not None]
    for problem in problems:
        log.warning("Installed plugin: %s", problem)
    return tuple(problems)


def _import(module: str) -> str | None:
    """Import a module; returns what is wrong with it, or None."""
    if module in sys.modules:
        return None
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            return (
                f"there is no module {module!r} in this environment (no {error.name!r}); install its package, or put the folder that holds "
                "it on PYTHONPATH"
            )
        return f"{module!r} needs the module {error.name!r}, which is not installed"
    except Exception as error:  # whatever a module of somebody else's does
        return f"{module!r} cannot be imported: {type(error).__name__}: {error}"
    return None


def is_outside(module: str) -> bool:
    """Whether a component's module belongs to somebody else, and can be imported by its name in another process."""
    return module.partition(".")[0] not in ("tfmi", "__main__")

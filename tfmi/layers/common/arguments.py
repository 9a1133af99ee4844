"""Checks of constructor arguments, with messages that a configuration's author can act on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def require_at_least(minimum: float, **arguments: float | None) -> None:
    """Raise ``ValueError`` naming the first of ``arguments`` that is below ``minimum`` or not a number; None passes."""
    for name, value in arguments.items():
        if value is not None and not value >= minimum:
            raise ValueError(f"{name}: expected a number of at least {minimum}, got {value}")


def require_above(limit: float, **arguments: float) -> None:
    """Raise ``ValueError`` naming the first of ``arguments`` that is not above ``limit``, or not a number."""
    for name, value in arguments.items():
        if not value > limit:
            raise ValueError(f"{name}: expected a number above {limit}, got {value}")


def require_choice(choices: Sequence[str], **arguments: Any) -> None:
    """Raise ``ValueError`` naming the first of ``arguments`` that is not one of ``choices``."""
    for name, value in arguments.items():
        if value not in choices:
            raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")

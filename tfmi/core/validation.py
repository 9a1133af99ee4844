"""What pydantic found wrong, in the words of a configuration: what was expected, what stands there, and the nearest right spelling."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tfmi.core.errors import nearest


def describe_value_problem(problem: Mapping[str, Any]) -> str:
    """One of ``ValidationError.errors()`` without its place: ``"expected ..., got ..."``."""
    message = problem["msg"].removeprefix("Value error, ")
    value = problem["input"]
    if problem["type"] == "literal_error" and isinstance(value, str):
        choices = re.findall("'([^']*)'", problem["ctx"]["expected"])
        return f"{message}, got {value!r}{nearest(value, choices)}"
    return f"{message}, got {value!r}"

"""What pydantic found wrong, in the words of a configuration: what was expected, what stands there, and the nearest right spelling."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from tfmi.core.errors import nearest
from tfmi.core.text import shown_name

LONGEST_VALUE = 200


def describe_value_problem(problem: Mapping[str, Any]) -> str:
    """One of ``ValidationError.errors()`` without its place: ``"expected ..., got ..."``."""
    message = problem["msg"].removeprefix("Value error, ")
    value = problem["input"]
    if problem["type"] == "literal_error" and isinstance(value, str):
        choices = re.findall("'([^']*)'", problem["ctx"]["expected"])
        return f"{message}, got {value!r}{nearest(value, choices)}"
    shown = shown_name(repr(value), LONGEST_VALUE)
    if problem["type"] == "string_type":
        if isinstance(value, bool):
            return f"{message}, got {shown}: YAML reads on, off, yes, no, true and false as truth values; put quotes around it, e.g. 'on'"
        if value is None or isinstance(value, float):
            return f"{message}, got {shown}; put quotes around it if this is meant as a text, e.g. '1.0'"
    return f"{message}, got {shown}"


def as_texts(value: Any, annotation: Any) -> Any:
    """A value in which whole numbers are texts where ``annotation`` wants texts and no numbers: alone, in lists, as keys."""
    if type(value) is int:
        return str(value) if _wants_text(annotation) else value
    if isinstance(value, list):
        elements = [get_args(each)[0] for each in _alternatives(annotation) if get_origin(each) is list]
        return [as_texts(element, elements[0]) for element in value] if len(elements) == 1 else value
    if isinstance(value, Mapping):
        pairs = [get_args(each) for each in _alternatives(annotation) if get_origin(each) is dict]
        if len(pairs) == 1:
            return {as_texts(key, pairs[0][0]): as_texts(element, pairs[0][1]) for key, element in value.items()}
    return value


def _wants_text(annotation: Any) -> bool:
    alternatives = _alternatives(annotation)
    return str in alternatives and not {int, float, bool, Any} & {each for each in alternatives if isinstance(each, type) or each is Any}


def _alternatives(annotation: Any) -> list[Any]:
    """The types of a union, without the constraints on them."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return [each for alternative in get_args(annotation) for each in _alternatives(alternative)]
    return [annotation]

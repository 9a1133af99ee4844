"""Users' fields as requests of an exported user-tag model: for programs that ask it in bulk, from values as files and people have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfmi.core.errors import DataError, ExportError, nearest
from tfmi.export.exported_model import ExportedModel
from tfmi.export.saving import Request
from tfmi.export.tags.export_user_tags import KIND


def require_user_tags(model: ExportedModel) -> ExportedModel:
    """Pass a model on if it is one of user tags, else raise ``ExportError``."""
    if model.metadata.get("kind") != KIND:
        system = model.metadata.get("system")
        raise ExportError(f"a model of the system {system!r} has no tags for users; expected one of a system such as utpm or mvke")
    return model


class UserFields:
    """The fields that a model reads.

    Args:
        profile_inputs: What the model's metadata says of them.

    Attributes:
        kinds: "categorical", "number" or "multi_valued", by the field's name.
    """

    def __init__(self, profile_inputs: Sequence[Mapping[str, Any]]) -> None:
        self._described = {each["feature"]: each for each in profile_inputs}
        self.kinds: dict[str, str] = {name: each["kind"] for name, each in self._described.items()}

    def request(self, columns: Mapping[str, Sequence[Any] | np.ndarray], rows: int) -> Request:
        """The request inputs of so many users.

        Args:
            columns: By field, one value per user: a string, "" for none; a number, NaN for none; or a list of (value, weight), of which
                the heaviest are kept. A field that is left out is unknown for all.
            rows: How many users.
        """
        request: Request = {}
        for name, described in self._described.items():
            key, kind = described["inputs"][0], described["kind"]
            if kind == "multi_valued":
                strings, weights = _table(columns.get(name, [[]] * rows), rows, int(described["width"]))
                request[key], request[described["inputs"][1]] = strings, weights
            elif kind == "number":
                request[key] = np.asarray(columns.get(name, np.full(rows, np.nan)), np.float32)
            else:
                request[key] = np.asarray(columns.get(name, [""] * rows), dtype=object)
        return request

    def request_of(self, user: Mapping[str, Any]) -> Request:
        """The request inputs of one user as JSON has it: a string, a number, a list of strings, or an object of string: weight.

        Raises:
            DataError: A field that the model does not have, or a value that is not of its kind.
        """
        return self.request(field_columns([user], self.kinds, "user"), 1)

    def column(self, name: str) -> str:
        """What a field is called in names of outputs."""
        return str(self._described[name]["inputs"][0]).removeprefix("profile_")


def _table(cells: Sequence[Any] | np.ndarray, rows: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Strings and weights [rows, width] of lists of (value, weight)."""
    strings, weights = np.full((rows, width), "", dtype=object), np.zeros((rows, width), np.float32)
    for row, cell in enumerate(cells):
        pairs = cell if len(cell) <= width else sorted(cell, key=lambda pair: -pair[1])[:width]
        for place, (value, weight) in enumerate(pairs):
            strings[row, place], weights[row, place] = value, weight
    return strings, weights


def field_columns(
    users: Sequence[Mapping[str, Any]], kinds: Mapping[str, str], argument: str, *, whole_numbers: bool = False
) -> dict[str, list[Any]]:
    """Users as JSON or Python has them, as columns for ``UserFields.request``.

    Args:
        users: From field to value: a string, a number, a list of strings, or a mapping of string to weight; None, NaN or no entry where
            it is unknown.
        kinds: "categorical", "number" or "multi_valued", by the field's name.
        argument: What to call the users in messages.
        whole_numbers: Take whole numbers for strings, as ids are often written.

    Raises:
        DataError: A field that the model does not have, or a value that is not of its kind.
    """
    for user in users:
        unknown = next((name for name in user if name not in kinds), None)
        if unknown is not None:
            has = ", ".join(sorted(kinds)) or "none"
            raise DataError(f"{argument}: the model has no field {unknown!r}{nearest(str(unknown), sorted(kinds))}; it has: {has}")
    taken = (str, int, np.integer) if whole_numbers else (str,)
    return {
        name: [_field_value(f"{argument}: field {name!r}", kind, user.get(name), taken) for user in users] for name, kind in kinds.items()
    }


def _field_value(field: str, kind: str, value: Any, strings: tuple[type, ...]) -> Any:
    missing = value is None or (isinstance(value, float) and np.isnan(value))
    if kind == "number":
        if missing:
            return float("nan")
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise DataError(f"{field} takes a number, got {value!r}")
        return float(value)
    if kind == "categorical":
        if missing:
            return ""
        if isinstance(value, bool) or not isinstance(value, strings):
            raise DataError(f"{field} takes a string, got {value!r}")
        return str(value)
    if missing:
        return []
    pairs: Sequence[Any] | None = None
    if isinstance(value, Mapping):
        pairs = list(value.items())
    elif isinstance(value, list | tuple | np.ndarray):
        pairs = [(each, 1.0) for each in value]
    if pairs is None or not all(isinstance(key, str) and isinstance(weight, int | float | np.number) for key, weight in pairs):
        raise DataError(f"{field} takes a list of strings, or a mapping of string to weight, got {value!r}")
    return pairs

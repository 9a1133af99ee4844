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
        unknown = sorted(set(user) - set(self.kinds))
        if unknown:
            has = ", ".join(sorted(self.kinds))
            raise DataError(f"user: no field {unknown[0]!r}{nearest(unknown[0], sorted(self.kinds))}; the model has: {has}")
        return self.request({name: [_parsed(name, self.kinds[name], value)] for name, value in user.items() if value is not None}, 1)

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


def _parsed(name: str, kind: str, value: Any) -> Any:
    if kind == "number":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(f"user: field {name!r} takes a number, got {value!r}")
        return value
    if kind == "categorical":
        if not isinstance(value, str):
            raise DataError(f"user: field {name!r} takes a string, got {value!r}")
        return value
    pairs = value.items() if isinstance(value, Mapping) else [(each, 1.0) for each in value] if isinstance(value, list) else None
    if pairs is None or not all(isinstance(key, str) and isinstance(weight, int | float) for key, weight in pairs):
        raise DataError(f"user: field {name!r} takes a list of strings, or an object of string: weight, got {value!r}")
    return list(pairs)

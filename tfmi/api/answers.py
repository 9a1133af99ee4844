"""From what people ask with, ids and fields, to requests; and from answers to tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tfmi.core.errors import DataError
from tfmi.export.tags.user_fields import field_columns


def id_list(values: Any, argument: str) -> list[str]:
    """Ids as a list of strings: of one id, or of a list, array or column of them; whole numbers are written out.

    Raises:
        DataError: Something else.
    """
    if isinstance(values, str | int | np.integer):
        values = [values]
    if isinstance(values, Mapping) or not hasattr(values, "__iter__"):
        raise DataError(f"{argument}: expected ids, got {values!r}")
    return [_id(value, argument) for value in values]


def lists_of_ids(values: Any, argument: str) -> list[list[str]]:
    """A list of ids for each user.

    Raises:
        DataError: Something else, such as one flat list.
    """
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        raise DataError(f"{argument}: expected a list of ids for each user, got {values!r}")
    rows = list(values)
    for row in rows:
        if isinstance(row, str | bytes | Mapping) or not hasattr(row, "__iter__"):
            raise DataError(f"{argument}: expected a list of ids for each user, [['a', 'b'], ['c']]; got {row!r} in place of a list")
    return [[_id(value, argument) for value in row] for row in rows]


def per_user_ids(values: Any, argument: str, users: int) -> list[list[str]]:
    """Ids for each user: one list for all of them, or a list of lists.

    Raises:
        DataError: There are lists, but not one for each user.
    """
    if values is None:
        return [[] for _ in range(users)]
    rows = [values] if isinstance(values, str) else list(values)
    if all(isinstance(row, str | int | np.integer) for row in rows):
        return [id_list(rows, argument)] * users
    lists = lists_of_ids(rows, argument)
    if len(lists) != users:
        raise DataError(f"{argument}: expected one list for all users, or one for each of {users}; got {len(lists)}")
    return lists


def _id(value: Any, argument: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise DataError(f"{argument}: expected ids (strings), got {value!r}")
    return str(value)


def check_count(n: Any, argument: str = "n") -> int:
    """A number of answers of at least 1; raises ``DataError`` otherwise."""
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise DataError(f"{argument}: expected a whole number of at least 1, got {n!r}")
    return int(n)


def profile_columns(profiles: Any, kinds: Mapping[str, str], users: int) -> dict[str, list[Any]]:
    """Users' fields by name, as requests take them.

    Args:
        profiles: A mapping from field to value for each user, or a table with a column for each field. Missing fields are unknown.
        kinds: "categorical", "number" or "multi_valued", by the field's name.
        users: How many users there are.

    Raises:
        DataError: Another number of users, a field that the model does not have, or a value that is not of its kind.
    """
    if profiles is None:
        return {}
    if isinstance(profiles, pd.DataFrame):
        profiles = profiles.to_dict("records")
    rows = [profiles] if isinstance(profiles, Mapping) else list(profiles)
    if len(rows) != users:
        raise DataError(f"profiles: expected one for each of {users} users, got {len(rows)}")
    for row in rows:
        if not isinstance(row, Mapping):
            raise DataError(f"profiles: expected a mapping from field to value for each user, got {row!r}")
    known = [{name: None if value is pd.NA else value for name, value in row.items()} for row in rows]
    return field_columns(known, kinds, "profiles", whole_numbers=True)


def ranked_frame(rows: Sequence[Any], found: np.ndarray, row_name: str, columns: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Answers as a table: a row for every answer that is there.

    Args:
        rows: What each of B rows of answers is for: users, items or tags.
        found: bool [B, n]: where there is an answer; the others are padding.
        row_name: The first column's name.
        columns: Further columns by name, [B, n] each; bytes become strings.
    """
    places = np.nonzero(found)
    ranks = np.cumsum(found, axis=1)[places]
    table: dict[str, Any] = {row_name: [rows[row] for row in places[0].tolist()], "rank": ranks}
    for name, values in columns.items():
        chosen = values[places]
        table[name] = [value.decode("utf-8") for value in chosen] if chosen.dtype == object else chosen
    return pd.DataFrame(table)

"""Column names that lead into lists and objects: ``user.id``, ``items[]``, ``events[].aid``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tfmi.core.errors import DataError

_PATH = re.compile(r"(?P<base>[^\[\].]+)(?P<outer>(\.[^\[\].]+)*)(?P<list>\[\])?(?P<inner>(\.[^\[\].]+)*)")


@dataclass(frozen=True)
class ColumnPath:
    """Where the values of a requested column are.

    Attributes:
        name: As the user wrote it.
        base: The file's column.
        outer: Keys to follow from the cell.
        is_list: Whether each element of the list found there is a row.
        inner: Keys to follow from each element.
    """

    name: str
    base: str
    outer: tuple[str, ...] = ()
    is_list: bool = False
    inner: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether it is a column of the file itself."""
        return not (self.outer or self.is_list)

    @classmethod
    def parse(cls, name: str) -> ColumnPath:
        """Read a path; a name that is none stands for a column of that name.

        Raises:
            DataError: It leads into a list of lists.
        """
        match = _PATH.fullmatch(name)
        if match is None:
            if name.count("[]") > 1:
                raise DataError(f"column {name!r}: one list can be followed, not a list within a list")
            return cls(name, name)
        outer, inner = (tuple(match[group].split(".")[1:]) for group in ("outer", "inner"))
        if match["list"] is None:
            outer, inner = outer + inner, ()
        return cls(name, match["base"], outer, match["list"] is not None, inner)

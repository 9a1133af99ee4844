"""Whether two tables belong together: how much of one is found in the other, and, where it is not, the likely reason."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfmi.core.errors import DataError
from tfmi.core.text import shown_name

logger = logging.getLogger(__name__)

# So many ids that were not found are kept, to look for the reason.
SAMPLE = 1000

_REASONS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("spaces at the ends", str.strip),
    ("upper and lower case", str.casefold),
    ("leading zeros", lambda text: text.lstrip("0") or "0"),
    ("decimals", lambda text: re.sub(r"[.,]0*$", "", text)),
    ("characters that look alike", lambda text: unicodedata.normalize("NFKC", text)),
    ("a prefix", lambda text: re.sub(r"^[^0-9]+(?=[0-9]+$)", "", text)),
)


class Join:
    """Counts, chunk by chunk, how many rows' ids another table has.

    Args:
        what: What the ids are of, e.g. ``"items"``.
        known: The other table's ids.
        where: What the other table is called in messages, e.g. ``"the catalogue"``.

    Attributes:
        rows, found: Rows counted so far, and those whose id the other table has.
    """

    def __init__(self, what: str, known: Sequence[str], where: str) -> None:
        self.what, self.where = what, where
        self.rows = self.found = 0
        self._known = known
        self._value_set = pa.array(known, pa.large_string())
        self._missing: dict[str, None] = {}

    def count(self, ids: pa.Array, kept: np.ndarray | None = None) -> np.ndarray:
        """bool [rows]: whether each id is known. Only the rows where ``kept`` is True are counted."""
        known = pc.is_in(ids, value_set=self._value_set).to_numpy(zero_copy_only=False)
        kept = np.ones(len(ids), dtype=bool) if kept is None else kept
        self.rows += int(kept.sum())
        self.found += int((known & kept).sum())
        missing = ~known & kept
        if missing.any() and len(self._missing) < SAMPLE:
            for identifier in ids.filter(pa.array(missing)).unique()[:SAMPLE].to_pylist():
                self._missing[identifier] = None
        return known

    def tally(self) -> dict[str, Any]:
        """What has been counted, as JSON can hold it."""
        return {"rows": self.rows, "found": self.found, "missing": list(self._missing)}

    def add_tally(self, tally: Mapping[str, Any]) -> None:
        """Count what another process has counted in a later part of the table, too."""
        self.rows += tally["rows"]
        self.found += tally["found"]
        for identifier in tally["missing"] if len(self._missing) < SAMPLE else ():
            self._missing[identifier] = None

    @property
    def share(self) -> float:
        """The share of the rows whose id was found; 1 if there were none."""
        return self.found / self.rows if self.rows else 1.0

    def finish(self, source: str | Path, min_share: float) -> None:
        """Log the share, with an example if it is not everything.

        Args:
            source: The table whose rows were counted, for messages.
            min_share: What the share has to be.

        Raises:
            DataError: It is smaller: with an example pair and the likely reason.
        """
        message = f"{source}: {self.found:,} of {self.rows:,} events ({self.share:.1%}) are of {self.what} in {self.where}"
        if self.share < 1:
            message += f"; {likely_reason(self._missing, self._known)}"
        if self.share < min_share:
            raise DataError(
                f"{message}. That is less than data.log.min_join_share = {min_share:g}: the two hardly belong together. Write the "
                "ids alike in both, name the other columns, or lower data.log.min_join_share if it is meant so"
            )
        logger.log(logging.INFO if self.share == 1 else logging.WARNING, "%s", message)


def likely_reason(missing: Iterable[str], known: Sequence[str]) -> str:
    """Why ids are not found: an example pair that differs in spaces, case, leading zeros or the like, or one of each side."""
    missing = list(missing)
    if not missing or not known:
        return "no ids to compare"
    best: tuple[int, str, str, str] | None = None
    everything = ("several of spaces, case, zeros and the like", _all_of_them)
    for name, plain in (*_REASONS, everything):
        by_plain = {plain(identifier): identifier for identifier in known}
        pairs = [(identifier, by_plain[plain(identifier)]) for identifier in missing if plain(identifier) in by_plain]
        if pairs and (best is None or len(pairs) > best[0]):
            best = (len(pairs), name, *pairs[0])
    if best is None:
        return f"e.g. {shown_name(missing[0])!r} is not there; ids there look like {shown_name(known[0])!r}"
    _, name, here, there = best
    return f"e.g. {shown_name(here)!r} here and {shown_name(there)!r} there differ in {name}"


def _all_of_them(text: str) -> str:
    for _, plain in _REASONS:
        text = plain(text)
    return text

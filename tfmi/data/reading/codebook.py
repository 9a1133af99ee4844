"""Strings as codes, in the order in which they appear."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


class CodeBook:
    """Distinct strings and their codes 0, 1, 2 ... in order of first appearance."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    @property
    def strings(self) -> list[str]:
        """The distinct strings, a code being a position."""
        return list(self._codes)

    def encode(self, text: pa.Array) -> np.ndarray:
        """int64 [rows] codes; new strings get new ones."""
        encoded = text.dictionary_encode()
        codes, strings = self._codes, encoded.dictionary.to_pylist()
        found = list(map(codes.get, strings))
        for place, code in enumerate(found if None in found else ()):
            if code is None:
                codes[strings[place]] = found[place] = len(codes)
        return np.array(found, dtype=np.int64)[encoded.indices.to_numpy()] if len(text) else np.empty(0, np.int64)

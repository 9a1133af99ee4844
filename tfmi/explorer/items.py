"""What the page says of items: titles and columns from a version folder, and a search in them."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tfmi.core.errors import ConfigError, nearest
from tfmi.core.text import shorten
from tfmi.export.item_details import FEATURE, ITEMS_PATH, WEIGHTS, read_items
from tfmi.export.item_map import MAP_PATH, ItemMap, read_map

# Columns that tell items apart at a glance, beside the category.
SHOWN_COLUMNS = 2
MOST_FOUND = 20
# Of a text column, the most frequent values that are offered as filters.
OFFERED_VALUES = 200
MOST_TITLE, MOST_VALUE, MOST_URL = 300, 60, 2000
PICTURE_COLUMNS = ("image", "image_url", "picture", "picture_url", "thumbnail", "thumbnail_url")
PICTURE_SCHEMES = ("https://", "http://")
_COMBINING = range(0x300, 0x370)


class ExploredItems:
    """The items of a version, as far as its folder tells.

    Args:
        folder: The version folder.
        pictures: The column of pictures' addresses; "auto" takes the first that is called so; None shows none.

    Raises:
        ExportError: The folder's tables are damaged. One that has none is fine: items are then known by their ids.
        ConfigError: The column of pictures is not there.
    """

    def __init__(self, folder: Path, pictures: str | None = None) -> None:
        table = _table(folder)
        self.ids: list[str] = [] if table is None else table["item_id"].to_pylist()
        self._rows = {item: row for row, item in enumerate(self.ids)}
        self.has_titles = table is not None and "title" in table.column_names
        self._titles: list[str] = table["title"].to_pylist() if table is not None and self.has_titles else self.ids
        self._columns = {} if table is None else _columns(table)
        self._category = next((name for name in ("category", *self._columns) if _is_text(self._columns.get(name))), None)
        others = [name for name in self._columns if name != self._category and not _is_list(self._columns[name])]
        self._pictures = _picture_column(pictures, self._columns, folder)
        self._shown = [name for name in others if name not in (self._pictures, *PICTURE_COLUMNS)][:SHOWN_COLUMNS]
        self._folded = [fold(f"{title}\n{item}") for title, item in zip(self._titles, self.ids, strict=True)]
        self._map = _map(folder)
        self._places = {} if self._map is None else dict(zip(self._map.item_ids, map_points(self._map.places.tolist()), strict=True))

    @property
    def map(self) -> ItemMap | None:
        """The items' places on the 2-D map, if the version has one."""
        return self._map

    @property
    def has_pictures(self) -> bool:
        """Whether items come with pictures' addresses."""
        return self._pictures is not None

    def describe(self, item: str) -> dict[str, Any]:
        """One item for the page: ``id``, ``title`` and ``known`` (None where nothing tells), and as far as they are known ``category``,
        ``details``, ``place`` and ``picture``.
        """
        row = self._rows.get(item)
        if row is None:
            return {"id": item, "title": shorten(item, MOST_TITLE), "known": False if self.ids else None}
        described: dict[str, Any] = {"id": item, "title": shorten(self._titles[row] or item, MOST_TITLE), "known": True}
        if self._category is not None:
            described["category"] = _text(self._value(self._category, row))
        details = [_text(self._value(name, row)) for name in self._shown]
        described["details"] = " · ".join(part for part in details if part)
        if item in self._places:
            described["place"] = self._places[item]
        if self._pictures is not None:
            address = self._value(self._pictures, row)
            if isinstance(address, str) and address.startswith(PICTURE_SCHEMES) and len(address) <= MOST_URL:
                described["picture"] = address
        return described

    def search(self, words: str, most: int = MOST_FOUND) -> list[dict[str, Any]]:
        """The first items, the popular ones first, in whose title or id every one of the words is found."""
        wanted = fold(words).split()
        if not wanted:
            return []
        found: list[dict[str, Any]] = []
        for item, text in zip(self.ids, self._folded, strict=True):
            if all(word in text for word in wanted):
                found.append(self.describe(item))
                if len(found) == most:
                    break
        return found

    def filter_values(self, column: str) -> dict[str, Any]:
        """What requests can filter a column by: ``values`` of texts, the frequent ones first; or ``min`` and ``max`` of numbers."""
        values = self._columns.get(column)
        if values is None:
            return {}
        if pa.types.is_floating(values.type) or pa.types.is_integer(values.type):
            numbers = [number for number in values.to_pylist() if number is not None and math.isfinite(number)]
            return {"min": min(numbers), "max": max(numbers)} if numbers else {}
        texts = values.to_pylist()
        counts = Counter(value for cell in texts for value in (cell if isinstance(cell, list) else [cell]) if value)
        return {"values": [value for value, _ in counts.most_common(OFFERED_VALUES)]}

    def _value(self, column: str, row: int) -> Any:
        return self._columns[column][row].as_py()


def fold(text: str) -> str:
    """``text`` for comparisons: without case, accents of letters and differences of width."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFC", "".join(letter for letter in decomposed if ord(letter) not in _COMBINING))


def map_points(places: Sequence[Sequence[float]]) -> list[list[float]]:
    """Coordinates with as many digits as a screen shows."""
    return [[round(x, 4), round(y, 4)] for x, y in places]


def _table(folder: Path) -> pa.Table | None:
    return read_items(folder) if (folder / ITEMS_PATH).exists() else None


def _map(folder: Path) -> ItemMap | None:
    return read_map(folder) if (folder / MAP_PATH).exists() else None


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return {
        name.removeprefix(FEATURE): table[name].combine_chunks()
        for name in table.column_names
        if name.startswith(FEATURE) and not name.endswith(WEIGHTS)
    }


def _is_text(values: pa.ChunkedArray | None) -> bool:
    return values is not None and (pa.types.is_string(values.type) or pa.types.is_large_string(values.type))


def _is_list(values: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_list(values.type))


def _picture_column(asked: str | None, columns: dict[str, pa.ChunkedArray], folder: Path) -> str | None:
    if asked is None:
        return None
    if asked == "auto":
        return next((name for name in PICTURE_COLUMNS if _is_text(columns.get(name))), None)
    if not _is_text(columns.get(asked)):
        known = ", ".join(columns) or "none"
        raise ConfigError(f"--allow-images {asked}: {folder} has no text column of that name{nearest(asked, columns)}; it has: {known}")
    return asked


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) else ""
    return shorten(str(value), MOST_VALUE)

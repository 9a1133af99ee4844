"""A newer catalogue, told in the terms of the one that a model was trained on: which items are known, new and gone, and their features."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfmi.core.errors import DataError
from tfmi.data.dataset import (
    FIRST_INDEX,
    PADDING_INDEX,
    Catalogue,
    CategoricalFeature,
    ItemFeature,
    MultiValuedFeature,
    NumericFeature,
    VectorFeature,
    Vocabulary,
)
from tfmi.data.reading.joins import likely_reason
from tfmi.data.tables import ItemTable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CatalogueChange:
    """What a newer catalogue changes.

    Attributes:
        catalogue: Known items in their former order, then new ones, then those that are gone: understood in histories, never answered.
        known, new, gone: How many of each.
        nameless: New items of which no feature is known; they are left out.
        kept_columns: Features that the newer catalogue does not have; known items keep theirs.
        unknown_values: By feature, how many cells hold a value that training has not seen.
    """

    catalogue: Catalogue
    known: int
    new: int
    gone: int
    nameless: list[str]
    kept_columns: list[str]
    unknown_values: dict[str, int] = field(default_factory=dict)


def change_catalogue(old: Catalogue, table: ItemTable, *, source: str, min_known_share: float) -> CatalogueChange:
    """Merge a newer catalogue into the one of training.

    Args:
        old: The items as the model knows them.
        table: The newer catalogue.
        source: Its name, for messages.
        min_known_share: The least share of the known items that have to be in it.

    Raises:
        DataError: Too few known items are in it, or a column holds only values that training has not seen.
    """
    row_of = {identifier: row for row, identifier in enumerate(table.item_ids)}
    former = old.vocabulary.ids if old.num_candidates is None else old.vocabulary.ids[: old.num_candidates]
    known = [identifier for identifier in former if identifier in row_of]
    back = [identifier for identifier in old.vocabulary.ids[len(former) :] if identifier in row_of]
    share = len(known) / max(len(former), 1)
    if share < min_known_share:
        missing = [identifier for identifier in former if identifier not in row_of][:1000]
        raise DataError(
            f"{source}: only {len(known):,} of the model's {len(former):,} items ({share:.1%}) are in it, less than {min_known_share:.0%}; "
            f"{likely_reason(missing, list(table.item_ids))}. Give the whole catalogue, or lower --min-known-share if so many are gone"
        )
    known += back
    present = set(old.vocabulary.ids)
    candidates_for_new = [identifier for identifier in table.item_ids if identifier not in present]
    columns = _columns(table)
    unknown_values: dict[str, int] = {}
    encoded = {name: _encode(name, old.features[name], columns[name], source, unknown_values) for name in old.features if name in columns}
    described = np.zeros(len(table.item_ids), dtype=bool)
    for name, feature in encoded.items():
        described |= _is_known(old.features[name], feature)
    new = [identifier for identifier in candidates_for_new if described[row_of[identifier]]]
    nameless = [identifier for identifier in candidates_for_new if not described[row_of[identifier]]]
    gone = [identifier for identifier in old.vocabulary.ids if identifier not in row_of]
    vocabulary = Vocabulary([*known, *new, *gone])
    old_rows = _rows(vocabulary.ids, {identifier: row for row, identifier in enumerate(old.vocabulary.ids, start=FIRST_INDEX)})
    new_rows = _rows(vocabulary.ids, row_of)
    features = {name: _merged(feature, encoded.get(name), old_rows, new_rows) for name, feature in old.features.items()}
    without_id = old_rows < 0
    without_id[:FIRST_INDEX] = False
    if old.without_id is not None:
        without_id |= np.where(old_rows >= 0, old.without_id[np.maximum(old_rows, 0)], False)
    return CatalogueChange(
        Catalogue(
            vocabulary,
            features,
            _titles(old, table, old_rows, new_rows),
            _picked(np.asarray(old.counts), old_rows, 0),
            num_candidates=len(known) + len(new),
            without_id=without_id if without_id.any() else None,
        ),
        known=len(known),
        new=len(new),
        gone=len(gone),
        nameless=nameless,
        kept_columns=sorted(set(old.features) - set(encoded)),
        unknown_values=unknown_values,
    )


def _columns(table: ItemTable) -> dict[str, Any]:
    columns: dict[str, Any] = {"category": table.categories, "brand": table.brands, "tags": table.tags}
    columns |= {**table.texts, **table.numbers, **table.vectors}
    return {name: values for name, values in columns.items() if values is not None}


def _encode(name: str, old: ItemFeature, values: Any, source: str, unknown: dict[str, int]) -> Any:
    """A column in the old feature's terms: indices, (indices, weights) per row, or numbers; values that it does not know count as none."""
    if isinstance(old, NumericFeature):
        return np.asarray(values, dtype=np.float32)
    if isinstance(old, VectorFeature):
        if values.shape[1] != old.values.shape[1]:
            raise DataError(f"{source}: the vectors {name!r} have {values.shape[1]} numbers each; the model reads {old.values.shape[1]}")
        return np.asarray(values, dtype=np.float32)
    index = {identifier: row for row, identifier in enumerate(old.vocabulary.ids, start=FIRST_INDEX)}
    single = isinstance(old, CategoricalFeature)
    cells = [[(value, 1.0)] if value else [] for value in values] if single else values
    given = sum(len(cell) for cell in cells)
    encoded = [[(index[value], weight) for value, weight in cell if value in index] for cell in cells]
    found = sum(len(cell) for cell in encoded)
    if given and not found:
        example = next(value for cell in cells for value, _ in cell)
        raise DataError(
            f"{source}: none of the {given:,} values of {name!r} is one that the model was trained with; "
            f"{likely_reason([example], old.vocabulary.ids)}. Write them as in the former catalogue, or take the column out"
        )
    if given > found:
        unknown[name] = given - found
    return encoded


def _is_known(old: ItemFeature, encoded: Any) -> np.ndarray:
    """bool [rows]: where a column says something."""
    if isinstance(old, NumericFeature):
        return np.isfinite(encoded)
    if isinstance(old, VectorFeature):
        return np.isfinite(encoded).all(axis=1)
    return np.array([bool(cell) for cell in encoded], dtype=bool)


def _merged(old: ItemFeature, encoded: Any, old_rows: np.ndarray, new_rows: np.ndarray) -> ItemFeature:
    """The feature by the merged vocabulary's rows: the newer catalogue's where it has the item, else the old."""
    if isinstance(old, NumericFeature):
        values = _picked(old.values, old_rows, np.nan)
        return NumericFeature(values if encoded is None else _overlaid(values, encoded, new_rows), old.mean, old.deviation)
    if isinstance(old, VectorFeature):
        values = _picked(old.values, old_rows, np.nan)
        return VectorFeature(values if encoded is None else _overlaid(values, encoded, new_rows), old.scale)
    if isinstance(old, CategoricalFeature):
        values = _picked(old.values, old_rows, PADDING_INDEX)
        if encoded is not None:
            codes = np.array([cell[0][0] if cell else PADDING_INDEX for cell in encoded], dtype=np.int32)
            values = _overlaid(values, codes, new_rows)
        return CategoricalFeature(old.vocabulary, values)
    values, weights = _picked(old.values, old_rows, PADDING_INDEX), _picked(old.weights, old_rows, 0.0)
    if encoded is not None:
        width = max(values.shape[1], max((len(cell) for cell in encoded), default=0))
        table, heavy = np.full((len(encoded), width), PADDING_INDEX, np.int32), np.zeros((len(encoded), width), np.float32)
        for row, cell in enumerate(encoded):
            for place, (code, weight) in enumerate(sorted(cell, key=lambda pair: -pair[1])):
                table[row, place], heavy[row, place] = code, weight
        padding = ((0, 0), (0, width - values.shape[1]))
        values = _overlaid(np.pad(values, padding), table, new_rows)
        weights = _overlaid(np.pad(weights, padding), heavy, new_rows)
    return MultiValuedFeature(old.vocabulary, values, weights)


def _titles(old: Catalogue, table: ItemTable, old_rows: np.ndarray, new_rows: np.ndarray) -> list[str] | None:
    if old.titles is None and table.titles is None:
        return None
    before: Sequence[str] = old.titles or [""] * old.num_rows
    titles = [before[row] if row >= 0 else "" for row in old_rows]
    if table.titles is not None:
        titles = [table.titles[row] or title if row >= 0 else title for row, title in zip(new_rows, titles, strict=True)]
    return titles


def _rows(ids: Sequence[str], row_of: Mapping[str, int]) -> np.ndarray:
    """int64 [rows]: the row of each of the vocabulary's items, -1 where there is none, and at padding and unknown."""
    return np.array([-1] * FIRST_INDEX + [row_of.get(identifier, -1) for identifier in ids], dtype=np.int64)


def _picked(values: np.ndarray, rows: np.ndarray, missing: float) -> np.ndarray:
    picked = np.full((len(rows), *values.shape[1:]), missing, dtype=values.dtype)
    picked[rows >= 0] = values[rows[rows >= 0]]
    return picked


def _overlaid(values: np.ndarray, newer: np.ndarray, rows: np.ndarray) -> np.ndarray:
    laid = values.copy()
    laid[rows >= 0] = newer[rows[rows >= 0]]
    return laid

"""From checked tables to feature arrays: value vocabularies, indices, weights, and the statistics that standardise numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd

from tfmi.core.errors import DataError
from tfmi.data.dataset import (
    FIRST_INDEX,
    PADDING_INDEX,
    UNKNOWN_INDEX,
    Catalogue,
    CategoricalFeature,
    Feature,
    ItemFeature,
    MultiValuedFeature,
    NumericFeature,
    UserProfiles,
    VectorFeature,
    Vocabulary,
)
from tfmi.data.tables import ItemTable, UserTable

# A multi-valued feature is a [rows, width] array: without a bound one item with a thousand tags would widen every row.
MAX_TAGS_PER_ITEM = 32
# The features of an item that are not numbers, and the key under which feature_arrays gives the weights of tags.
RESERVED_FEATURES = ("category", "brand", "tags", "tags_weights")

WeightedTags = Sequence[tuple[str, float]]
T = TypeVar("T")


def build_catalogue(vocabulary: Vocabulary, counts: np.ndarray, table: ItemTable | None) -> Catalogue:
    """Attach a catalogue's columns to the items of a vocabulary.

    Args:
        vocabulary: The items, in index order.
        counts: int64 [rows] occurrences in the training part; decides the order of the features' values.
        table: The catalogue, or None. Items that it lacks get no values; rows of items outside the vocabulary are ignored.

    Returns:
        The catalogue. Values of "category", "brand" and "tags" are ordered by falling frequency among the training events, ties by
        value; numbers are standardised over all items, since the catalogue is known before anything happens.

    Raises:
        DataError: A number column is called like one of ``RESERVED_FEATURES``.
    """
    if table is None:
        return Catalogue(vocabulary=vocabulary, features={}, titles=None, counts=counts)
    rows = _rows_by_id(vocabulary.ids, table.item_ids)
    features: dict[str, ItemFeature] = {}
    for name, column in (("category", table.categories), ("brand", table.brands)):
        if column is not None:
            features[name] = categorical_feature(_pick(column, rows, ""), counts)
    for name, texts in table.texts.items():
        features[name] = categorical_feature(_pick(texts, rows, ""), counts)
    if table.tags is not None:
        features["tags"] = multi_valued_feature(_pick(table.tags, rows, []), counts)
    for name, numbers in table.numbers.items():
        if name in RESERVED_FEATURES:
            raise DataError(f"the catalogue's number column {name!r} has the name of a feature of another kind; rename the column")
        features[name] = numeric_feature(_pick_numbers(numbers, rows))
    for name, vectors in table.vectors.items():
        if name in features or name in RESERVED_FEATURES:
            raise DataError(f"the catalogue's vectors {name!r} have the name of another feature; rename the column")
        features[name] = vector_feature(_pick_vectors(vectors, rows))
    titles = None if table.titles is None else _pick(table.titles, rows, "")
    return Catalogue(vocabulary=vocabulary, features=features, titles=titles, counts=counts)


def build_profiles(user_ids: Sequence[str], training_users: np.ndarray, table: UserTable) -> UserProfiles:
    """Attach profile columns to users.

    Args:
        user_ids: The users of rows 1, 2, ...; row 0, the user of whom nothing is known, is added.
        training_users: int [n] rows that train. Only they decide vocabularies, value order and standardisation; a value that no
            training user has becomes the unknown value (1).
        table: The profiles. Users that it lacks get no values.
    """
    rows = np.concatenate([[-1], _rows_by_id(user_ids, table.user_ids)[FIRST_INDEX:]])  # row 0: nobody
    counts = np.zeros(len(rows), dtype=np.int64)
    np.add.at(counts, training_users, 1)
    counts[0] = 0
    features: dict[str, Feature] = {}
    for name, column in table.columns.items():
        if isinstance(column, np.ndarray):
            features[name] = numeric_feature(_pick_numbers(column, rows), known=counts > 0)
        else:
            features[name] = categorical_feature(_pick(column, rows, ""), counts, only_counted=True)
    return UserProfiles(user_ids=["", *user_ids], features=features)


def categorical_feature(values: Sequence[str], counts: np.ndarray, only_counted: bool = False) -> CategoricalFeature:
    """One string per row ("" for none) as indices.

    Args:
        values: A string per row.
        counts: int [rows] how often each row occurs in training: a value's frequency is the sum over its rows.
        only_counted: Leave values that never occur in training out of the vocabulary: their index is 1, unknown.
    """
    codes, distinct = pd.factorize(np.asarray(values, dtype=object))
    vocabulary, index_of_code = _ordered_vocabulary(distinct, np.bincount(codes, counts, len(distinct)), only_counted)
    return CategoricalFeature(vocabulary=vocabulary, values=index_of_code[codes])


def multi_valued_feature(values: Sequence[WeightedTags], counts: np.ndarray) -> MultiValuedFeature:
    """Weighted strings per row as padded indices and weights, heaviest first; at most ``MAX_TAGS_PER_ITEM`` per row, the heaviest.

    A string that a row names twice counts once, with the sum of its weights.
    """
    row_of, weight_of, names = [], [], []
    for row, tags in enumerate(values):
        for name, weight in tags:
            row_of.append(row)
            weight_of.append(weight)
            names.append(name)
    codes, distinct = pd.factorize(np.asarray(names, dtype=object))
    pairs = pd.DataFrame({"row": np.asarray(row_of, dtype=np.int64), "code": codes, "weight": np.asarray(weight_of, dtype=np.float64)})
    pairs = pairs.groupby(["row", "code"], sort=False)["weight"].sum().reset_index()
    frequencies = np.bincount(pairs["code"], counts[pairs["row"]], len(distinct))
    vocabulary, index_of_code = _ordered_vocabulary(distinct, frequencies, only_counted=False)
    pairs["index"] = index_of_code[pairs["code"]]
    pairs = pairs.sort_values(["row", "weight", "index"], ascending=[True, False, True], kind="stable")
    pairs["place"] = pairs.groupby("row").cumcount()
    pairs = pairs[pairs["place"] < MAX_TAGS_PER_ITEM]
    width = int(pairs["place"].max()) + 1 if len(pairs) else 1
    indices = np.full((len(values), width), PADDING_INDEX, dtype=np.int32)  # [rows, width]
    weights = np.zeros((len(values), width), dtype=np.float32)  # [rows, width]
    indices[pairs["row"], pairs["place"]] = pairs["index"]
    weights[pairs["row"], pairs["place"]] = pairs["weight"]
    return MultiValuedFeature(vocabulary=vocabulary, values=indices, weights=weights)


def numeric_feature(values: np.ndarray, known: np.ndarray | None = None) -> NumericFeature:
    """A number per row (NaN where missing), with mean and deviation over the rows where ``known`` is True (all by default).

    The deviation is 1 where it would be 0, so that standardising never divides by zero.
    """
    usable = values[np.isfinite(values) & (True if known is None else known)].astype(np.float64)
    mean = float(usable.mean()) if len(usable) else 0.0
    deviation = float(usable.std()) if len(usable) else 0.0
    return NumericFeature(values=values.astype(np.float32), mean=mean, deviation=deviation or 1.0)


def vector_feature(values: np.ndarray) -> VectorFeature:
    """A vector per row float [rows, width], NaN rows where there is none, with the mean length of those that there are."""
    lengths = np.linalg.norm(values[np.isfinite(values).all(axis=1)].astype(np.float64), axis=1)
    return VectorFeature(values.astype(np.float32), float(lengths.mean()) or 1.0 if len(lengths) else 1.0)


def standardized(feature: NumericFeature) -> np.ndarray:
    """float32 [rows]: the feature with mean 0 and deviation 1 (only with mean 0 if it is constant); 0, the mean, where it is missing or
    infinite."""
    scaled = (feature.values - feature.mean) / (feature.deviation or 1.0)
    return np.nan_to_num(scaled, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)


def feature_arrays(features: Mapping[str, Feature]) -> dict[str, np.ndarray]:
    """The arrays that models read, row by row: ``{name: int32 [rows]}`` for a categorical feature, ``{name: float32 [rows]}``
    standardised for a number, ``{name: int32 [rows, M], name + "_weights": float32 [rows, M]}`` for a multi-valued one."""
    arrays: dict[str, np.ndarray] = {}
    for name, feature in features.items():
        if isinstance(feature, NumericFeature):
            arrays[name] = standardized(feature)
        else:
            arrays[name] = feature.values
        if isinstance(feature, MultiValuedFeature):
            arrays[f"{name}_weights"] = feature.weights
    return arrays


def _ordered_vocabulary(distinct: Sequence[str] | np.ndarray, frequencies: np.ndarray, only_counted: bool) -> tuple[Vocabulary, np.ndarray]:
    """The vocabulary of ``distinct`` by falling frequency (ties by value), and int32 [len(distinct)] the index of each."""
    names = np.asarray(distinct, dtype=object)
    kept = [code for code in range(len(names)) if names[code] != "" and (frequencies[code] > 0 or not only_counted)]
    kept.sort(key=lambda code: (-frequencies[code], names[code]))
    index_of_code = np.where(names == "", PADDING_INDEX, UNKNOWN_INDEX).astype(np.int32)
    index_of_code[kept] = np.arange(FIRST_INDEX, FIRST_INDEX + len(kept))
    return Vocabulary(names[kept]), index_of_code


def _rows_by_id(wanted: Sequence[str], available: Sequence[str]) -> np.ndarray:
    """int64 [len(wanted) + 2] the position in ``available`` of each index's id, -1 at indices 0 and 1 and where there is none."""
    position = {identifier: row for row, identifier in enumerate(available)}
    rows = np.full(len(wanted) + FIRST_INDEX, -1, dtype=np.int64)
    rows[FIRST_INDEX:] = [position.get(identifier, -1) for identifier in wanted]
    return rows


def _pick(column: Sequence[T], rows: np.ndarray, missing: T) -> list[T]:
    return [column[row] if row >= 0 else missing for row in rows]


def _pick_numbers(column: np.ndarray, rows: np.ndarray) -> np.ndarray:
    if not len(column):
        return np.full(len(rows), np.nan, dtype=np.float32)
    return np.where(rows >= 0, np.asarray(column, dtype=np.float32)[rows], np.float32(np.nan))


def _pick_vectors(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    picked = np.full((len(rows), vectors.shape[1]), np.nan, dtype=np.float32)
    picked[rows >= 0] = vectors[rows[rows >= 0]]
    return picked

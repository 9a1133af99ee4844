"""Trained weights, moved into a model of other data: rows of tables go with what they stand for, everything else is copied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.core.errors import ConfigError
from tfmi.data.dataset import FIRST_INDEX, Catalogue, ItemFeature, NumericFeature, UserProfiles, VectorFeature, Vocabulary
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval


@dataclass(frozen=True)
class Surroundings:
    """What the rows of a model's tables stand for."""

    catalogue: Catalogue
    profiles: UserProfiles | None


@dataclass(frozen=True)
class Moved:
    """Where one trained variable goes.

    Attributes:
        source, target: The trained variable and the new one.
        rows: int64 [target rows]: which row of the source each row of the target is, -1 for a new one; None: all of it, as it is.
    """

    source: tf.Variable
    target: tf.Variable
    rows: np.ndarray | None


def rows_of(old: Vocabulary, new: Vocabulary) -> np.ndarray:
    """int64 [new.num_rows]: the old row of every new one, -1 where the old vocabulary lacks it; padding and unknown stay."""
    found = old.indices(new.ids).astype(np.int64) if len(new) else np.zeros(0, np.int64)
    return np.concatenate([np.arange(FIRST_INDEX), np.where(found >= FIRST_INDEX, found, -1)])


def moves(old: InterestRetrieval, before: Surroundings, new: InterestRetrieval, after: Surroundings) -> list[Moved]:
    """Where every trained variable of the old model goes in the new one.

    Raises:
        ConfigError: The models are not of one configuration and one set of profile columns.
    """
    found = list(_tower_moves(old, before.catalogue.features, new, after.catalogue.features, rows_of(*_items(before, after))))
    found += _profile_moves(old, before.profiles, new, after.profiles)
    sources, targets = _others(old), _others(new)
    if [_shape(v) for v in sources] != [_shape(v) for v in targets]:
        item_rows = rows_of(*_items(before, after))
        if len(sources) != len(targets):
            raise ConfigError("the two models have other layers: both need the same configuration of the section model")
        for source, target in zip(sources, targets, strict=True):
            if _shape(source) == _shape(target):
                found.append(Moved(source, target, None))
            elif (source.shape[:1], target.shape[:1]) == ([old.num_rows], [new.num_rows]) and source.shape[1:] == target.shape[1:]:
                found.append(Moved(source, target, item_rows))
            else:
                raise ConfigError(
                    f"{target.name}: its shape was {_shape(source)} and is {_shape(target)} now; both need the same configuration of the "
                    "section model, and the same profile columns"
                )
        return found
    return [*found, *(Moved(source, target, None) for source, target in zip(sources, targets, strict=True))]


def transplant(moved: list[Moved]) -> None:
    """Copy the trained values. Rows that are new keep what they are."""
    for each in moved:
        each.target.assign(_moved_values(each.source, each.target, each.rows))


def transplant_slots(moved: list[Moved], old: tf.keras.optimizers.Optimizer, new: tf.keras.optimizers.Optimizer) -> None:
    """Copy what the optimizers remember of each variable; new rows begin with nothing."""
    for name in ("_momentums", "_velocities"):
        sources, targets = getattr(old, name), getattr(new, name)
        for each in moved:
            source = sources[old._index_dict[old._var_key(each.source)]]
            target = targets[new._index_dict[new._var_key(each.target)]]
            target.assign(_moved_values(source, target, each.rows))


def _moved_values(source: tf.Variable, target: tf.Variable, rows: np.ndarray | None) -> Any:
    if rows is None:
        return source
    values = target.numpy()
    kept = rows >= 0
    values[kept] = source.numpy()[rows[kept]]
    return values


def _items(before: Surroundings, after: Surroundings) -> tuple[Vocabulary, Vocabulary]:
    return before.catalogue.vocabulary, after.catalogue.vocabulary


def _tower_moves(
    old: InterestRetrieval,
    old_features: Mapping[str, ItemFeature],
    new: InterestRetrieval,
    new_features: Mapping[str, ItemFeature],
    item_rows: np.ndarray,
) -> Iterator[Moved]:
    sources, targets = old.item_tower.tables(), new.item_tower.tables()
    for name, target in targets.items():
        source = sources.get(name)
        if source is None:  # a feature that is new
            continue
        if name == "":
            yield Moved(source, target, item_rows)
        elif name == "numbers":
            names = [sorted(n for n, f in features.items() if isinstance(f, NumericFeature)) for features in (old_features, new_features)]
            place = {n: row for row, n in enumerate(names[0])}
            yield Moved(source, target, np.array([place.get(n, -1) for n in names[1]]))
        else:
            before, after = old_features[name], new_features[name]
            if isinstance(before, VectorFeature) or isinstance(after, VectorFeature):
                if _shape(source) != _shape(target):
                    raise ConfigError(f"the vectors {name!r} had {source.shape[0]} numbers each and have {target.shape[0]} now")
                yield Moved(source, target, None)
            else:
                yield Moved(source, target, rows_of(before.vocabulary, after.vocabulary))  # type: ignore[union-attr]


def _profile_moves(
    old: InterestRetrieval, before: UserProfiles | None, new: InterestRetrieval, after: UserProfiles | None
) -> Iterator[Moved]:
    if old.profile_encoder is None or new.profile_encoder is None:
        return
    assert before is not None  # noqa: S101 - what the encoder was made of
    assert after is not None  # noqa: S101
    sources = old.profile_encoder.tables()
    for name, target in new.profile_encoder.tables().items():
        if name in sources:
            yield Moved(sources[name], target, rows_of(before.features[name].vocabulary, after.features[name].vocabulary))  # type: ignore[union-attr]


def _others(model: InterestRetrieval) -> list[tf.Variable]:
    """The trained variables whose rows stand for nothing outside of the model."""
    tables = [*model.item_tower.tables().values()]
    if model.profile_encoder is not None:
        tables += model.profile_encoder.tables().values()
    taken = {variable.ref() for variable in tables}
    return [variable for variable in model.trainable_variables if variable.ref() not in taken]


def _shape(variable: tf.Variable) -> list[int]:
    return [int(size) for size in variable.shape]

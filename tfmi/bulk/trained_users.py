"""The users that an exported model was trained on, as known at the end of its data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfmi.bulk.recommendations import HISTORY, RetrieverFields
from tfmi.bulk.users import Users, UsersInMemory, UserSource
from tfmi.config import RunConfig, validate_config
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.loading import load_tables
from tfmi.data.reading.log import LogTables
from tfmi.data.splitting.explicit_negatives import separate_negatives
from tfmi.data.tags.tag_loading import load_tag_dataset
from tfmi.export.exported_model import ExportedModel
from tfmi.export.profile_inputs import profile_values
from tfmi.export.timestamp_inputs import TIMESTAMPS

USERS_AT_ONCE = 20_000


def trained_users(model: ExportedModel, folder: Path) -> UserSource:
    """The users of the data that a model's metadata names, for a model of either kind; raises as ``load_trained_users``."""
    if "user_tags" in model.signature_names:
        return load_trained_users(model, folder)
    config = _configuration(model, folder)
    # A ranker's data are impressions; a history is of clicks.
    tables = load_tables(config.data, clicks_alone=config.model.kind == "ranking")
    return UsersOfTables(config.data.dataset, tables, RetrieverFields(model.metadata))


class UsersOfTables:
    """Everybody in a log, with all that they did, and with their profile.

    Args:
        name: Of the data.
        tables: The log.
        fields: What the model is asked with.

    Raises:
        DataError: The log lacks the times, or a column of the profile, that the model reads.
    """

    def __init__(self, name: str, tables: LogTables, fields: RetrieverFields) -> None:
        events = separate_negatives(tables.events).positives
        if TIMESTAMPS in fields.kinds and events.timestamps is None:
            raise DataError(f"this model reads the time of each event, which the data {name!r} lacks")
        columns = {} if tables.users is None else tables.users.columns
        missing = sorted(set(fields.profile_names) - set(columns))
        if missing:
            raise DataError(f"this model reads the profile columns {missing}, which the data {name!r} lacks")
        times = np.zeros(len(events)) if events.timestamps is None else events.timestamps
        order = np.lexsort((times, events.user_codes))
        self._name, self._fields, self._events, self._times = name, fields, events, times[order]
        self._items = np.array(events.item_ids, dtype=object)[events.item_codes[order]]
        counts = np.bincount(events.user_codes, minlength=len(events.user_ids))
        self._users = np.flatnonzero(counts)  # those with nothing but what they turned down are not asked about
        self._ends = np.cumsum(counts)
        self._profile = {column: columns[column] for column in fields.profile_names}
        self._row_of = {} if tables.users is None else {user: row for row, user in enumerate(tables.users.user_ids)}

    def chunks(self) -> Iterator[Users]:
        """See ``UserSource``."""
        for start in range(0, len(self._users), USERS_AT_ONCE):
            rows = self._users[start : start + USERS_AT_ONCE]
            ids = [self._events.user_ids[row] for row in rows]
            begins = np.where(rows > 0, self._ends[rows - 1], 0)
            spans = [slice(begin, end) for begin, end in zip(begins, self._ends[rows], strict=True)]
            asked: dict[str, Any] = {HISTORY: [self._items[span].tolist() for span in spans]}
            if TIMESTAMPS in self._fields.kinds:
                asked[TIMESTAMPS] = [self._times[span] for span in spans]
            for name, values in self._profile.items():
                nothing: Any = np.nan if isinstance(values, np.ndarray) else ""
                asked[name] = [values[self._row_of[user]] if user in self._row_of else nothing for user in ids]
            yield Users(ids, self._fields.request(asked, len(ids)))

    def total(self) -> int | None:
        """See ``UserSource``."""
        return len(self._users)

    def fingerprint(self) -> dict[str, Any]:
        """See ``UserSource``."""
        return {"dataset": self._name, "users": len(self._users), "events": len(self._items)}


def _configuration(model: ExportedModel, folder: Path) -> RunConfig:
    if "configuration" not in model.metadata:
        raise ConfigError(f"{folder}: this model's metadata holds no run configuration; export it with training/train.py")
    return validate_config(model.metadata["configuration"])


def load_trained_users(model: ExportedModel, folder: Path) -> UsersInMemory:
    """Load the data that the metadata of a model of tags names.

    Args:
        model: The model.
        folder: Where it is, for messages.

    Raises:
        ConfigError: The metadata holds no configuration.
        DataError: The data cannot be read, or lacks a field.
    """
    dataset = load_tag_dataset(_configuration(model, folder).data)
    names = [each["feature"] for each in model.metadata["profile_inputs"]]
    missing = sorted(set(names) - set(dataset.states.fields))
    if missing:
        raise DataError(f"this model reads the fields {missing}, which the data {dataset.name!r} lacks")
    features = {name: dataset.states.fields[name] for name in names}
    return UsersInMemory(dataset.name, Users(list(dataset.users.ids), profile_values(features, dataset.users.states)))

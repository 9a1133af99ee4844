"""A dataset as people have it: tables in a notebook, a file, or a public data set by its name."""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tfmi.api.settings import nested, with_dotted
from tfmi.api.tables import arrow_table, numeric_columns, write_table
from tfmi.config import RunConfig, merge, validate_config
from tfmi.core.errors import ConfigError, DataError, TfmiError, nearest
from tfmi.data.impressions.impression_loading import clicked_events
from tfmi.data.loading import rejects_folder
from tfmi.data.reading.log import LogTables, read_log_files
from tfmi.data.reading.rows import text_of
from tfmi.data.tables import EventTable
from tfmi.kinds.base import TrainedKind, kind_named, kind_of

if TYPE_CHECKING:
    import tensorflow as tf

    from tfmi.api.estimator import Estimator

# The names of the files that a dataset from tables is kept in: those that a log in a folder is found by.
EVENTS, ITEMS, USERS = "events.parquet", "items.parquet", "users.parquet"
PARTS = ("train", "valid", "test")
CLICKED, NOT_CLICKED = ("1", "true"), ("0", "false")


@dataclass(frozen=True)
class Part:
    """The training, validation or test part of a dataset.

    Attributes:
        dataset: The whole.
        name: "train", "valid" or "test".
    """

    dataset: Dataset
    name: str

    @property
    def data(self) -> Any:
        """The part as models take it: sequences, users with histories and targets, impressions, or labelled rows."""
        return getattr(self.dataset.loaded(), self.name)

    def __len__(self) -> int:
        return len(self.data)


class Dataset:
    """Events, items and users, split into a training, a validation and a test part.

    Make one with ``from_events``, ``from_impressions``, ``from_tagged_events`` or ``load``. What is read is checked row by row as a file
    would be: rows that cannot be used are left out and listed in ``rejects``, and too many of them are an error.

    Attributes:
        settings: The configuration's section ``data``, as far as it was given; see docs/data.md.
    """

    def __init__(self, settings: Mapping[str, Any], kind: str, folder: Path | None = None, owned: Sequence[Any] = ()) -> None:
        self.settings: dict[str, Any] = dict(settings)
        self._kind = kind
        self._folder = folder
        self._owned = list(owned)  # temporary folders live as long as this object
        self._loaded: dict[str, Any] = {}

    # Where it comes from

    @classmethod
    def from_events(
        cls,
        events: Any,
        items: Any = None,
        users: Any = None,
        *,
        user: str = "user",
        item: str = "item",
        time: str | None = "time",
        event: str | None = None,
        weight: str | None = None,
        item_columns: Mapping[str, Any] | None = None,
        profile: Sequence[str] | None = None,
        split: str | Mapping[str, Any] = "auto",
        **settings: Any,
    ) -> Dataset:
        """A log of who did what, for models that retrieve.

        Args:
            events: A pandas or pyarrow table, one row per event.
            items: The catalogue, one row per item, or None. Columns ``title``, ``category``, ``brand`` and ``tags`` are read if they are
                there.
            users: User profiles, one row per user, with the users' ids in the column ``user``; or None.
            user, item, time, event, weight: The names of the columns of ``events``; ``time=None``: the rows' order is the time order.
            item_columns: The names of the catalogue's columns, as in ``data.log.catalogue_columns``: ``{"item": "sku", "numbers":
                ["price"]}``.
            profile: Which columns of ``users`` to read; None: all. Columns of numbers are numbers, all others values.
            split: A method, such as "leave_one_out", "by_user" or "by_time"; or a mapping of the keys of ``data.split``.
            **settings: Anything else of the configuration's section ``data`` by dotted key, ``**{"data.log.time_unit": "milliseconds"}``.

        Raises:
            DataError: It is no table, a column is missing, too many rows cannot be used, or nothing is left to learn from.
            ConfigError: A setting is wrong.

        Example:
            >>> import pandas as pd, tfmi
            >>> days = pd.date_range("2026-03-01", periods=4)
            >>> events = pd.DataFrame({"user": ["ann"] * 4 + ["bob"] * 4, "item": list("abcdbcda"), "time": [*days, *days]})
            >>> split = {"method": "leave_one_out", "min_user_events": 1, "min_item_events": 1}
            >>> dataset = tfmi.Dataset.from_events(events, split=split)
            >>> len(dataset.test), dataset.items
            (2, ['b', 'a', 'c', 'd'])
        """
        columns = {"user": user, "item": item, "time": time, "event": event, "weight": weight}
        return cls._from_tables(
            "interests",
            events,
            items,
            users,
            columns=columns,
            item_columns=item_columns,
            profile=profile,
            split=split,
            settings=settings,
        )

    @classmethod
    def from_impressions(
        cls,
        impressions: Any,
        items: Any = None,
        users: Any = None,
        *,
        clicked: str = "clicked",
        user: str = "user",
        item: str = "item",
        time: str | None = "time",
        item_columns: Mapping[str, Any] | None = None,
        profile: Sequence[str] | None = None,
        split: str | Mapping[str, Any] = "auto",
        **settings: Any,
    ) -> Dataset:
        """What users were shown and whether they clicked, for models that rank.

        Args:
            impressions: A pandas or pyarrow table, one row per item shown.
            clicked: The column with 1 or True where the item was clicked, 0 or False where not.
            items, users, user, item, time, item_columns, profile, split, **settings: As in ``from_events``.

        Raises:
            DataError, ConfigError: As ``from_events``; or ``clicked`` holds something else.
        """
        columns = {"user": user, "item": item, "time": time, "event": clicked, "weight": None}
        settings = {"data.impressions.positive_events": _clicked_values(impressions, clicked), **settings}
        return cls._from_tables(
            "ranking",
            impressions,
            items,
            users,
            columns=columns,
            item_columns=item_columns,
            profile=profile,
            split=split,
            settings=settings,
        )

    @classmethod
    def from_tagged_events(
        cls,
        events: Any,
        items: Any,
        users: Any = None,
        *,
        user: str = "user",
        item: str = "item",
        time: str | None = "time",
        event: str | None = None,
        weight: str | None = None,
        tasks: Mapping[str, float] | None = None,
        tag_columns: Sequence[str] | None = None,
        item_columns: Mapping[str, Any] | None = None,
        profile: Sequence[str] | None = None,
        split: str | Mapping[str, Any] = "auto",
        **settings: Any,
    ) -> Dataset:
        """A log of events with items that have tags, for models that know users by tags.

        Args:
            events: As in ``from_events``; needs times.
            items: The catalogue, with the tags of each item in one of its columns.
            tasks: By name, the least weight of an event of each task: ``{"watched": 0.5, "liked": 4.0}`` needs ``weight``. None: one task
                that every event is of.
            tag_columns: Which of "tags", "category" and "brand" hold tags; None: "tags".
            users, user, item, time, event, weight, item_columns, profile, split, **settings: As in ``from_events``; ``split`` is by time.

        Raises:
            DataError, ConfigError: As ``from_events``.
        """
        columns = {"user": user, "item": item, "time": time, "event": event, "weight": weight}
        tagging = {"tasks": None if tasks is None else dict(tasks), "tag_columns": None if tag_columns is None else list(tag_columns)}
        settings = {**{f"data.tagging.{key}": value for key, value in tagging.items() if value is not None}, **settings}
        return cls._from_tables(
            "user_tags",
            events,
            items,
            users,
            columns=columns,
            item_columns=item_columns,
            profile=profile,
            split=split,
            settings=settings,
        )

    @classmethod
    def load(cls, name: str, path: str | Path | None = None, *, kind: str = "interests", **settings: Any) -> Dataset:
        """A data set that tfmi knows by name: "log" (your own files), "embedded", "movielens", "lastfm" and others; see docs/data.md.

        Args:
            name: The name, as ``--dataset`` takes it.
            path: Its file or folder; None where it needs none.
            kind: The kind of model that the parts ``train``, ``valid`` and ``test`` are for: "interests", "ranking" or "user_tags". Models
                of any kind may be trained on it.
            **settings: Anything else of the configuration's section ``data`` by dotted key: ``**{"data.embedded.users": 500}``.

        Raises:
            DataError, ConfigError: The data or a setting cannot be used.
        """
        given: dict[str, Any] = {"dataset": name} if path is None else {"dataset": name, "path": str(path)}
        dataset = cls(merge(given, _data_settings(settings)), kind)
        dataset.loaded()
        return dataset

    @classmethod
    def _from_tables(
        cls,
        kind: str,
        events: Any,
        items: Any,
        users: Any,
        *,
        columns: Mapping[str, str | None],
        item_columns: Mapping[str, Any] | None,
        profile: Sequence[str] | None,
        split: str | Mapping[str, Any],
        settings: Mapping[str, Any],
    ) -> Dataset:
        temporary = tempfile.TemporaryDirectory(prefix="tfmi-data-")
        folder = Path(temporary.name)
        rejects = Path(tempfile.mkdtemp(prefix="tfmi-rejects-"))
        log: dict[str, Any] = {"columns": dict(columns)}
        if item_columns is not None:
            log["catalogue_columns"] = dict(item_columns)
        profiled: list[str] = []
        if users is not None:
            numbers, values = numeric_columns(users, "users")
            id_column = str(columns["user"])
            known = [name for name in (*numbers, *values) if name != id_column]
            chosen = known if profile is None else list(profile)
            log |= {"user_column": id_column, "profile_numbers": [name for name in chosen if name in numbers]}
            log["profile_columns"] = [name for name in chosen if name not in numbers]
            profiled = [id_column, *chosen]
        try:
            wanted = {**_data_settings(settings).get("log", {}).get("columns", {}), **columns}
            write_table(events, folder / EVENTS, "events", [name for name in wanted.values() if name is not None])
            if items is not None:
                write_table(items, folder / ITEMS, "items")
            if users is not None:
                write_table(users, folder / USERS, "users", profiled)
            given = {
                "dataset": "log",
                "path": str(folder),
                "cache": str(rejects),
                "log": log,
                "split": {"method": split} if isinstance(split, str) else dict(split),
            }
            dataset = cls(merge(given, _data_settings(settings)), kind, folder, [temporary])
            with dataset._speaking_of_tables():
                dataset.loaded()
        finally:
            _remove_if_empty(rejects)
        return dataset

    @classmethod
    def of_run(cls, config: RunConfig, own: Path | None = None) -> Dataset:
        """The data of a run, from its configuration. ``own`` is the folder of its own tables, if it has one."""
        return cls(config.data.model_dump(), config.model.kind, own)

    # What it holds

    @property
    def train(self) -> Part:
        """What models learn from."""
        return Part(self, "train")

    @property
    def valid(self) -> Part:
        """What weights and settings are chosen by."""
        return Part(self, "valid")

    @property
    def test(self) -> Part:
        """What is looked at once, at the end."""
        return Part(self, "test")

    @property
    def items(self) -> list[str]:
        """The ids of the items that can be recommended, the most frequent first; for models of tags, the tags."""
        return list(kind_named(self._kind).vocabulary(self.loaded()).ids)

    @property
    def report(self) -> Mapping[str, Any]:
        """How much was read, rejected and kept, as in ``metrics.json``."""
        report: Mapping[str, Any] = self.loaded().report
        return report

    @property
    def rejects(self) -> pd.DataFrame:
        """The rows that could not be used: their table, row (from 1), column, reason, what was expected, and what stood there."""
        folder = rejects_folder(self.config().data)
        found = [pd.read_json(file, lines=True, dtype=False) for file in sorted(folder.glob("*.jsonl"))] if folder.is_dir() else []
        names = ["file", "line", "column", "reason", "expected", "value"]
        frame = pd.concat(found, ignore_index=True)[names] if found else pd.DataFrame(columns=names)
        return frame.assign(file=[Path(str(file)).stem for file in frame["file"]]).rename(columns={"file": "table", "line": "row"})

    def __repr__(self) -> str:
        data = self.loaded()
        return f"<tfmi.Dataset {data.name}: {kind_named(self._kind).describe_data(data)}>"

    def config(self) -> RunConfig:
        """A configuration that reads this data for the dataset's own kind of model, everything else at its default."""
        return validate_config({"model": {"kind": self._kind}, "data": self.settings})

    def loaded(self, config: RunConfig | None = None) -> Any:
        """The data as a model's code takes it: indices and arrays, split.

        Args:
            config: Whose kind of model and section ``data`` it is for; None: the dataset's own.
        """
        config = config or self.config()
        # Neither changes what is loaded: histories are cut when batches are made.
        key = f"{config.model.kind} {config.data.model_dump(exclude={'history_length', 'examples'})}"
        if key not in self._loaded:
            with self._speaking_of_tables():
                self._loaded[key] = kind_of(config).load_data(config)
        return self._loaded[key]

    def batches(self, model: Estimator | None = None, *, batch_size: int | None = None, epochs: int | None = 1) -> tf.data.Dataset:
        """Training batches for ``recommender.model.fit``.

        Args:
            model: Whose settings they are made by: length of histories, batch size, seed. It has to be built on this dataset. None takes
                the defaults.
            batch_size: Examples per batch; None takes the model's.
            epochs: How many passes over the training examples; None never ends, so that ``fit`` needs ``steps_per_epoch``. Every batch
                is full: a pass ends with the batch that holds its last example.
        """
        config = self.config() if model is None else model.config_for(self)
        if batch_size is not None:
            config = config.model_copy(update={"training": config.training.model_copy(update={"batch_size": batch_size})})
        kind, data = kind_of(config), self.loaded(config)
        if not isinstance(kind, TrainedKind):
            raise ConfigError(f"batches: {config.system!r} counts, it is not trained by steps; call fit(dataset)")
        built = kind.build(config, data) if model is None else model.model
        task = kind.task(built, data, config)
        batches = task.batches.from_step(0)
        if epochs is None:
            return batches
        return batches.take(-(-task.num_examples * epochs // config.training.batch_size))

    # Users by their ids

    def histories(self, users: Sequence[str], config: RunConfig) -> dict[str, list[Any]]:
        """What is known of users by their ids, at the end of the data: one entry per user of ``history``, the items oldest first; of
        ``timestamps``, where the data has times; and of each profile column.

        Raises:
            DataError: The data names no users, or a user is unknown.
        """
        by_user = self._by_user(config)
        unknown = next((user for user in users if user not in by_user.rows), None)
        if unknown is not None:
            raise DataError(
                f"users: {unknown!r} is not in the data{nearest(unknown, list(by_user.rows)[:100_000])}, which has {len(by_user.rows):,} "
                "users; to ask for somebody new, give histories="
            )
        columns: dict[str, list[Any]] = {"history": [by_user.history(user) for user in users]}
        if by_user.events.timestamps is not None:
            columns["timestamps"] = [by_user.times(user) for user in users]
        columns.update({name: [by_user.profile(name, user) for user in users] for name in by_user.profile_names})
        return columns

    def _by_user(self, config: RunConfig) -> _EventsByUser:
        impressions = config.data.impressions
        tells_clicks = impressions.positive_events is not None or impressions.positive_weight is not None
        key = "clicks by user" if tells_clicks else "events by user"
        if key not in self._loaded:
            if config.data.dataset != "log":
                raise DataError(f"users: the data {config.data.dataset!r} keeps no ids of users; give histories= instead")
            with self._speaking_of_tables():
                tables = read_log_files(str(config.data.path), config.data.log, rejects_folder(config.data))
            chosen = clicked_events(tables.events, config.data) if tells_clicks else None
            self._loaded[key] = _EventsByUser(tables, chosen)
        by_user: _EventsByUser = self._loaded[key]
        return by_user

    # For other parts of tfmi.api

    @property
    def is_from_tables(self) -> bool:
        """Whether it was made from tables in memory, or from those that a run folder keeps."""
        return self._folder is not None

    def copy_tables(self, folder: Path) -> bool:
        """Copy the tables that this dataset was made from; False if it was made from files or a generator."""
        if self._folder is None:
            return False
        folder.mkdir(parents=True, exist_ok=True)
        for name in (EVENTS, ITEMS, USERS):
            if (self._folder / name).is_file():
                shutil.copy(self._folder / name, folder / name)
        return True

    @contextlib.contextmanager
    def _speaking_of_tables(self) -> Iterator[None]:
        """Messages name the tables that were given, not the files that they are kept in."""
        try:
            yield
        except TfmiError as error:
            if self._folder is None:
                raise
            message = str(error)
            files = {str(self._folder / name): name.removesuffix(".parquet") for name in (EVENTS, ITEMS, USERS)}
            for said, meant in {**files, **_ARGUMENTS}.items():
                message = message.replace(said, meant)
            raise type(error)(message) from None


# What messages about settings are called by who gives tables.
_ARGUMENTS = {
    "data.log.columns.time: null": "time=None",
    **{f"data.log.columns.{name}": f"the argument {name}" for name in ("user", "item", "time", "event", "weight")},
    "the file has: ": "the table has: ",
    "Fix the file": "Fix the table",
}


class _EventsByUser:
    """The events of a log, user by user in time order, with what the users say of themselves."""

    def __init__(self, tables: LogTables, chosen: np.ndarray | None) -> None:
        self.events: EventTable = tables.events
        events = tables.events
        places = np.arange(len(events)) if chosen is None else np.flatnonzero(chosen)
        if events.timestamps is not None:
            places = places[np.argsort(events.timestamps[places], kind="stable")]
        places = places[np.argsort(events.user_codes[places], kind="stable")]
        self._places = places
        self._ends = np.cumsum(np.bincount(events.user_codes[places], minlength=len(events.user_ids)))
        self.rows = {user: row for row, user in enumerate(events.user_ids)}
        self._profiles = tables.users
        self.profile_names = [] if tables.users is None else list(tables.users.columns)

    def _of(self, user: str) -> np.ndarray:
        row = self.rows[user]
        return self._places[self._ends[row - 1] if row else 0 : self._ends[row]]

    def history(self, user: str) -> list[str]:
        return [self.events.item_ids[code] for code in self.events.item_codes[self._of(user)]]

    def times(self, user: str) -> np.ndarray:
        assert self.events.timestamps is not None  # noqa: S101 - callers look first
        times: np.ndarray = self.events.timestamps[self._of(user)]
        return times

    def profile(self, name: str, user: str) -> Any:
        assert self._profiles is not None  # noqa: S101 - there are names only with profiles
        values = self._profiles.columns[name]
        row = self._profile_rows.get(user)
        if row is None:
            return float("nan") if isinstance(values, np.ndarray) else ""
        return values[row]

    @functools.cached_property
    def _profile_rows(self) -> dict[str, int]:
        return {} if self._profiles is None else {user: row for row, user in enumerate(self._profiles.user_ids)}


def _clicked_values(impressions: Any, column: str) -> list[str]:
    """The values of a column of clicks that stand for one, as text; a column that is not there is reported when the table is read."""
    table = arrow_table(impressions, "events", [column])
    if column not in table.column_names:
        return [CLICKED[0]]
    values = sorted({text_of(value) or "" for value in table.column(column).unique().to_pylist()})
    odd = [value for value in values if value.lower() not in (*CLICKED, *NOT_CLICKED)]
    if odd:
        raise DataError(f"events: column {column!r} holds {odd[0]!r}; expected 1 or 0, True or False")
    found = [value for value in values if value.lower() in CLICKED]
    if not found:
        raise DataError(f"events: column {column!r} holds no 1 or True; there has to be a click to learn from")
    return found


def _data_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The section ``data`` of settings by dotted key."""
    return nested(with_dotted(settings, "data")).get("data", {})


def _remove_if_empty(folder: Path) -> None:
    if not any(path.is_file() for path in folder.rglob("*")):
        shutil.rmtree(folder, ignore_errors=True)

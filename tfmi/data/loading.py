"""Loading a dataset by name: the embedded generator, a user's own log, or a public data set in its original files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tfmi.config import DataConfig, DatasetName
from tfmi.core.errors import ConfigError
from tfmi.data.dataset import InteractionDataset
from tfmi.data.public.comirec import load_comirec
from tfmi.data.public.download import MOVIELENS_URL, fetch_movielens
from tfmi.data.public.lastfm import load_lastfm
from tfmi.data.public.movielens import load_movielens
from tfmi.data.public.sequence_files import load_sequences, read_sequence_files
from tfmi.data.public.session_files import load_sessions
from tfmi.data.reading.log import LogTables, download_hint, read_log_files
from tfmi.data.splitting.everybody import everybody
from tfmi.data.splitting.splits import split_events
from tfmi.data.streaming.prepared import load_prepared
from tfmi.data.streaming.streamed_log import load_streamed_log
from tfmi.data.synthetic.shop import generate, with_truth

DEFAULT_CACHE = "data_cache"
_NAME_CHARACTERS = 50


def load_dataset(config: DataConfig) -> InteractionDataset:
    """Load the dataset that ``config.dataset`` names, split and indexed.

    Returns:
        The dataset. ``docs/data.md`` says what each is and how it is split with ``data.split.method: auto``.

    Raises:
        ConfigError: A dataset that needs a path has none, or the split method cannot be had from it.
        DataError: The data is missing or cannot be used.
    """
    return _LOADERS[config.dataset](config)


def load_everybody(config: DataConfig, *, clicks_alone: bool = False) -> InteractionDataset:
    """Everybody in a log or a file of sequences who has a history and a later event, to be tested by the rule of ``config.split``.

    Args:
        config: Where the data is, and the rule.
        clicks_alone: Of a log of impressions, take the clicks (``config.impressions``).

    Raises:
        ConfigError: Another dataset, no path, or clicks cannot be told.
        DataError: The data is missing or cannot be used, or nobody has two events.
    """
    if config.dataset not in ("log", "sequences"):
        raise ConfigError(
            f"--all-users: tests everybody in a log or a file of sequences, not in {config.dataset!r}; give --dataset log --data PATH"
        )
    tables = load_tables(config, clicks_alone=clicks_alone)
    name = config.name if config.dataset == "log" else "sequences"
    return everybody(name, tables.events, config.split, "by_user", items=tables.items, users=tables.users)


def load_tables(config: DataConfig, *, clicks_alone: bool = False) -> LogTables:
    """The events, items and users of data that names its users, neither filtered nor split.

    Args:
        config: A log, a file of sequences, or the embedded data.
        clicks_alone: Of a log of impressions, take the clicks (``config.impressions``).

    Raises:
        ConfigError: Another dataset, no path, or clicks cannot be told.
        DataError: The data is missing or cannot be used.
    """
    if config.dataset == "embedded":
        made = generate(config.embedded)
        return LogTables(made.events, made.items, made.users)
    if config.dataset == "sequences":
        return LogTables(*read_sequence_files(_required_path(config)), None)
    if config.dataset != "log":
        raise ConfigError(f"the data {config.dataset!r} keeps no users by their ids; a log, a file of sequences and the embedded data do")
    tables = read_log_files(_required_path(config), config.log, rejects_folder(config))
    if not clicks_alone:
        return tables
    from tfmi.data.impressions.impression_loading import clicked_events

    return replace(tables, events=tables.events.take(clicked_events(tables.events, config)))


def rejects_folder(config: DataConfig) -> Path:
    """Where the rejected rows of ``config.path`` go: a folder of the cache that belongs to this path alone."""
    return _cache(config) / "rejects" / _name_in_cache(config)


def shard_folder(config: DataConfig) -> Path:
    """Where the TFRecord shards of ``config.path`` go: a folder of the cache that belongs to this path alone."""
    return _cache(config) / "shards" / _name_in_cache(config)


def _name_in_cache(config: DataConfig) -> str:
    path = Path(config.path or config.dataset).resolve()
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    # A name may be as long as the file system lets it, and a pattern's holds characters that a folder's should not.
    name = re.sub(r"[^\w.-]+", "_", path.name)[:_NAME_CHARACTERS]
    return f"{name}-{digest}"


def _load_embedded(config: DataConfig) -> InteractionDataset:
    if config.path is not None:
        raise ConfigError(
            f"data.path: the embedded dataset is generated and reads no file; to read {config.path}, name what it is: --dataset log, "
            "movielens, lastfm, sequences, comirec or sessions"
        )
    log = generate(config.embedded)
    return with_truth(split_events("embedded", log.events, config.split, "by_user", items=log.items, users=log.users), log)


def _load_log(config: DataConfig) -> InteractionDataset:
    if config.log.streaming:
        return load_streamed_log(_required_path(config), config, shard_folder(config), rejects_folder(config))
    tables = read_log_files(_required_path(config), config.log, rejects_folder(config))
    return split_events(config.name, tables.events, config.split, "by_user", items=tables.items, users=tables.users)


def _load_prepared(config: DataConfig) -> InteractionDataset:
    return load_prepared(_required_path(config), config)


def _load_movielens(config: DataConfig) -> InteractionDataset:
    folder = fetch_movielens(_cache(config), MOVIELENS_URL) if config.path is None else Path(config.path)
    return load_movielens(folder, config.split, rejects_folder(config))


def _load_lastfm(config: DataConfig) -> InteractionDataset:
    return load_lastfm(_required_path(config), config.split)


def _load_sequences(config: DataConfig) -> InteractionDataset:
    return load_sequences(_required_path(config), config.split)


def _load_comirec(config: DataConfig) -> InteractionDataset:
    return load_comirec(_required_path(config), config.split)


def _load_sessions(config: DataConfig) -> InteractionDataset:
    return load_sessions(_required_path(config), config.split)


_LOADERS: dict[DatasetName, Callable[[DataConfig], InteractionDataset]] = {
    "embedded": _load_embedded,
    "log": _load_log,
    "prepared": _load_prepared,
    "movielens": _load_movielens,
    "lastfm": _load_lastfm,
    "sequences": _load_sequences,
    "comirec": _load_comirec,
    "sessions": _load_sessions,
}


def _cache(config: DataConfig) -> Path:
    return Path(config.cache or DEFAULT_CACHE)


def _required_path(config: DataConfig) -> Path:
    if config.path is None:
        raise ConfigError(f"data.path: dataset {config.name!r} needs its files; give --data PATH. {download_hint(config.log)}".rstrip())
    return Path(config.path)

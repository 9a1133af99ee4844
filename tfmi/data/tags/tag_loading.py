"""Loading a dataset by name for a model of tags."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tfmi.config import DataConfig
from tfmi.core.errors import ConfigError
from tfmi.data.loading import DEFAULT_CACHE, rejects_folder
from tfmi.data.public.download import MOVIELENS_URL, fetch_movielens
from tfmi.data.public.sequence_files import read_sequence_files
from tfmi.data.reading.log import LogTables, read_log_files
from tfmi.data.splitting.given import NOT_GIVEN, own_split
from tfmi.data.synthetic.shop_tags import embedded_shop
from tfmi.data.tags.lastfm_tags import read_lastfm_tags
from tfmi.data.tags.movielens_tags import read_movielens_tags
from tfmi.data.tags.tag_building import build_tag_dataset
from tfmi.data.tags.tag_dataset import TagDataset
from tfmi.data.tags.tag_log import TagLog
from tfmi.data.tags.tag_tables import tag_log_from_tables
from tfmi.data.tags.tag_tasks import task_thresholds

SPLITS = ("auto", "by_time", "given")


def load_tag_dataset(config: DataConfig) -> TagDataset:
    """Load the dataset that ``config.dataset`` names, split by time.

    Raises:
        ConfigError: A dataset without tags or order in time, another split than by time, or no path.
        DataError: The data is missing or cannot be used.
    """
    if config.split.method not in SPLITS:
        raise ConfigError(f"data.split.method: models of tags are split by time, or as a log says; expected one of {', '.join(SPLITS)}")
    if config.split.method == "given" and config.dataset != "log":
        raise ConfigError(NOT_GIVEN)
    return build_tag_dataset(read_tag_log(config), config.tagging, config.split)


def read_tag_log(config: DataConfig) -> TagLog:
    """Read the dataset that ``config.dataset`` names; raises as ``load_tag_dataset``."""
    tagging, tasks = config.tagging, task_thresholds(config)
    if config.dataset == "embedded":
        if config.path is not None:
            raise ConfigError(f"data.path: the embedded dataset is generated and reads no file; name what {config.path} is with --dataset")
        return tag_log_from_tables("embedded", embedded_shop(config.embedded), tagging, tasks)
    if config.dataset == "movielens":
        folder = Path(config.path) if config.path else fetch_movielens(Path(config.cache or DEFAULT_CACHE), MOVIELENS_URL)
        return read_movielens_tags(folder, tagging, tasks, rejects_folder(config))
    if config.path is None:
        raise ConfigError(f"data.path: dataset {config.dataset!r} needs its files; give --data PATH")
    if config.dataset == "lastfm":
        return read_lastfm_tags(Path(config.path), tagging, tasks)
    if config.dataset == "log":
        if config.log.streaming:
            raise ConfigError("data.log.streaming: models of tags read the whole log into memory; leave streaming out")
        tables = read_log_files(config.path, config.log, rejects_folder(config))
        tables = replace(tables, events=own_split(tables.events, config.split))
        return tag_log_from_tables(config.name, tables, tagging, tasks)
    if config.dataset == "sequences":
        events, items = read_sequence_files(Path(config.path))
        return tag_log_from_tables("sequences", LogTables(events, items, None), tagging, tasks)
    raise ConfigError(
        f"data.dataset: {config.dataset!r} comes split by users, without tags in time; models of tags take embedded, log, movielens, "
        "lastfm or sequences"
    )

"""Loading a dataset by name."""

from __future__ import annotations

from pathlib import Path

from tfmi.config import DataConfig
from tfmi.data.embedded import generate, with_truth
from tfmi.data.named.comirec import load_comirec
from tfmi.data.splits import split_events
from tfmi.data.structures import Dataset
from tfmi.errors import ConfigError, DataError


def load_dataset(config: DataConfig) -> Dataset:
    """Load the dataset that ``config.dataset`` names.

    Raises:
        ConfigError: A dataset that needs a path has none, or the split method cannot be had from it.
        DataError: The data is missing or cannot be used.
    """
    if config.dataset == "embedded":
        return _load_embedded(config)
    if config.dataset == "comirec":
        return load_comirec(_required_path(config), config.split)
    raise DataError(f"dataset {config.dataset!r} is not known")


def _load_embedded(config: DataConfig) -> Dataset:
    if config.path is not None:
        raise ConfigError(f"data.path: the embedded dataset is generated and reads no file; give --dataset log to read {config.path}")
    log = generate(config.embedded)
    dataset = split_events("embedded", log.events, config.split, "by_user", items=log.items, users=log.users)
    return with_truth(dataset, log)


def _required_path(config: DataConfig) -> Path:
    if config.path is None:
        raise ConfigError(f"data.path: dataset {config.dataset!r} needs the path of its files; give --data PATH")
    return Path(config.path)

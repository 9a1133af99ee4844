"""Loading ranking data by the dataset's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tfmi.config import DataConfig, DatasetName
from tfmi.core.errors import ConfigError, DataError, nearest
from tfmi.data.impressions.from_clicks import impressions_from_clicks
from tfmi.data.impressions.impression_dataset import RankingDataset
from tfmi.data.impressions.impression_split import LabelledEvents, check_method, check_not_given, split_impressions
from tfmi.data.loading import load_dataset, rejects_folder
from tfmi.data.public.download import MOVIELENS_URL, fetch_movielens
from tfmi.data.public.movielens import read_ratings
from tfmi.data.reading.log import read_log_files, says_parts
from tfmi.data.synthetic.shop_impressions import generate_impressions
from tfmi.data.tables import EventTable, ItemTable

MOVIELENS_POSITIVE_RATING = 4.0


def load_ranking_dataset(config: DataConfig) -> RankingDataset:
    """Load what ``config.dataset`` names as impressions, split and indexed. ``docs/data.md`` says what is a click in each.

    Raises:
        ConfigError: Clicks cannot be told from other impressions, or the split method cannot be had.
        DataError: The data is missing or cannot be used.
    """
    load = _LOADERS.get(config.dataset)
    return impressions_from_clicks(load_dataset(config), config) if load is None else load(config)


def reads_impressions(config: DataConfig) -> bool:
    """Whether the data says what was shown, and when; otherwise impressions are made out of clicks, split as for retrieval."""
    if config.dataset != "log":
        return config.dataset in _LOADERS
    log = config.log
    return log.columns.time is not None or (config.path is not None and Path(config.path).exists() and says_parts(config.path, log))


def _load_embedded(config: DataConfig) -> RankingDataset:
    if config.path is not None:
        raise ConfigError(f"data.path: the embedded dataset is generated and reads no file; to read {config.path}, name what it is")
    check_not_given(config.split)
    made = generate_impressions(config.embedded)
    dataset = split_impressions("embedded", made.events, config, items=made.items, users=made.users)
    return replace(dataset, truth={"preference": made.preference, "liked": made.liked})


def _load_movielens(config: DataConfig) -> RankingDataset:
    check_not_given(config.split)
    folder = fetch_movielens(Path(config.cache or "data_cache"), MOVIELENS_URL) if config.path is None else Path(config.path)
    events, items = read_ratings(folder, rejects_folder(config))
    if events.weights is None:
        raise DataError(f"{folder}: the ratings have no values")
    threshold = MOVIELENS_POSITIVE_RATING if config.impressions.positive_weight is None else config.impressions.positive_weight
    return split_impressions("movielens", LabelledEvents(events, events.weights >= threshold), config, items=with_groupings(items))


def with_groupings(items: ItemTable) -> ItemTable:
    """Add to movies two features of one value per item, "" where it is not known, each a way to group them:

    - ``decade`` of the year ("1990s");
    - ``genre_set``: all genres together ("Comedy|Romance"). Almost everybody likes some movie of every genre and decade, so that these
      tell users apart little; sets of genres are narrow enough to.
    """
    decades = ["" if np.isnan(year) else f"{int(year) // 10 * 10}s" for year in items.numbers["year"]]
    genre_sets = ["|".join(genre for genre, _ in tags) for tags in items.tags or []]
    return replace(items, texts={**items.texts, "decade": decades, "genre_set": genre_sets})


def _load_log(config: DataConfig) -> RankingDataset:
    if config.log.streaming:
        raise ConfigError("data.log.streaming: a log of impressions is read into memory; set it to false")
    if config.path is None:
        raise ConfigError("data.path: dataset 'log' needs its files; give --data PATH")
    if config.log.columns.time is None and not says_parts(config.path, config.log):
        return impressions_from_clicks(load_dataset(config), config)
    check_method(config.split)
    tables = read_log_files(config.path, config.log, rejects_folder(config))
    labelled = LabelledEvents(tables.events, clicked_events(tables.events, config))
    return split_impressions(config.name, labelled, config, items=tables.items, users=tables.users)


def clicked_events(events: EventTable, config: DataConfig) -> np.ndarray:
    """bool [events]: which events of a log are clicks; all of them unless the configuration tells them apart.

    Raises:
        ConfigError: The log lacks the column that would tell, an event type does not occur, or all are clicks and none is to be drawn.
    """
    wanted, threshold = config.impressions.positive_events, config.impressions.positive_weight
    if wanted is not None:
        if events.type_codes is None:
            raise ConfigError("data.impressions.positive_events: needs data.log.columns.event, the column that holds the event type")
        clicked = np.isin(events.type_codes, _type_codes(wanted, events.type_names))
        return clicked if events.earlier is None else clicked | events.earlier
    if threshold is not None:
        if events.weights is None:
            raise ConfigError("data.impressions.positive_weight: needs data.log.columns.weight, the column that holds the weight")
        clicked = events.weights >= threshold
        return clicked if events.earlier is None else clicked | events.earlier
    if events.negative is not None and events.negative.any():
        return ~events.negative
    if not config.impressions.sampled_negatives:
        raise ConfigError(
            "data.impressions: a model that ranks needs items that were not clicked. Say which events are clicks with "
            "data.impressions.positive_events or positive_weight, or which are not with data.log.negative_events, or set "
            "data.impressions.sampled_negatives to how many to draw per click"
        )
    return np.ones(len(events), dtype=bool)


def _type_codes(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    for name in wanted:
        if name not in names:
            raise ConfigError(
                f"data.impressions.positive_events: the log has no event of type {name!r}{nearest(name, names)}; it has: {', '.join(names)}"
            )
    return [list(names).index(name) for name in wanted]


# Of data that holds clicks alone, all else, the retriever's loaders are used.
_LOADERS: dict[DatasetName, Callable[[DataConfig], RankingDataset]] = {
    "embedded": _load_embedded,
    "movielens": _load_movielens,
    "log": _load_log,
}

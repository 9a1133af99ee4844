"""The embedded data: a generator of a believable click log of a shop, whose true interests are known.

Every item belongs to one *interest*: a style within a category, such as "climbing" within "Outdoor". A user has one to six interests
whose weights drift over the user's time, favours a brand and a price level within each, and shops in sessions that mostly stay with
one interest. Within an interest popularity follows Zipf's law. The same configuration always gives the same log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from tfmi.config import EmbeddedConfig
from tfmi.data.dataset import FIRST_INDEX, InteractionDataset
from tfmi.data.synthetic.shop_words import AGE_BANDS, DEPARTMENTS, PRICE_LEVELS, REGIONS
from tfmi.data.tables import EventTable, ItemTable, UserTable

# The year that the log covers, in seconds since the epoch: 2023-01-01 to 2024-01-01, UTC.
LOG_START, LOG_END = 1672531200.0, 1704067200.0
DAY = 86400.0

ZIPF_EXPONENT = 0.9  # popularity of the r-th item of an interest ~ r^-0.9
INTEREST_SIZE_EXPONENT = 0.3  # interests differ in size, mildly
ITEMS_PER_INTEREST = 8  # at least so many on average: a small catalogue has fewer interests
EXTRA_INTEREST_PROBABILITY = 0.4  # interests of a user: 1 + Binomial(max_interests - 1, this)
PROFILE_BIAS = 0.5  # deviation of what a profile value adds to an interest's log-weight: weakly informative
DRIFT_DEVIATION = 1.2  # deviation of an interest's log-weight at either end of the user's time
NEW_SESSION_PROBABILITY = 0.3
SAME_INTEREST_PROBABILITY = 0.6  # within a session
REPEAT_PROBABILITY = 0.04  # of clicking the interest's previous item again
FAVOURITE_BRAND_BONUS = np.log(5.0)
FAVOURITE_LEVEL_BONUS = np.log(3.0)
PAIRS_PER_CHUNK = 4096  # (user, interest) pairs whose items are ordered at a time: bounds the memory of large configurations


@dataclass(frozen=True)
class Shop:
    """The catalogue, and what decides clicks on it. Arrays are per item, as the rows of ``table``."""

    table: ItemTable
    interest_names: list[str]
    interests: np.ndarray  # int64 [items]
    brands: np.ndarray  # int64 [items] number of the brand within the item's category
    levels: np.ndarray  # int64 [items] price level
    log_popularity: np.ndarray  # float64 [items], within the interest


@dataclass(frozen=True)
class Shoppers:
    """The users, and what they like. U users, M slots for interests."""

    table: UserTable
    interests: np.ndarray  # int64 [U, M] interest of each slot
    active: np.ndarray  # bool [U, M] slots in use, from the left
    start_logits: np.ndarray  # float64 [U, M] log-weights when the user arrives
    end_logits: np.ndarray  # float64 [U, M] log-weights at the end of the log


class Visits(NamedTuple):
    """Who comes when, and what for; V visits, by user and then time.

    Attributes:
        users: int64 [V].
        timestamps: float64 [V].
        slots: int64 [V]: which of the user's interests the visit is about.
        progress: float64 [V]: 0 on the user's arrival, 1 at the end of the log; weights drift along it.
    """

    users: np.ndarray
    timestamps: np.ndarray
    slots: np.ndarray
    progress: np.ndarray


@dataclass(frozen=True)
class EmbeddedLog:
    """What the generator made, and what is true about it.

    Attributes:
        events, items, users: The tables that a user's own files would give.
        interest_names: The name of each interest.
        item_interests: int32 [items], row by row as ``items``.
        user_weights_start, user_weights_end: float32 [users, interests], row by row as ``users``: a user's weight of each interest on
            arrival and at the end of the log; 0 for interests that the user has not, and each row sums to 1.
    """

    events: EventTable
    items: ItemTable
    users: UserTable
    interest_names: list[str]
    item_interests: np.ndarray
    user_weights_start: np.ndarray
    user_weights_end: np.ndarray


def generate(config: EmbeddedConfig) -> EmbeddedLog:
    """Generate the log, the catalogue and the profiles that ``config`` describes. A pure function of ``config``."""
    random = np.random.default_rng(config.seed)
    shop = make_shop(config.items, random)
    shoppers = make_shoppers(config, shop, random)
    user_codes, timestamps, slots, _ = make_visits(config, shoppers, random)
    item_codes = _choose_items(shop, shoppers, user_codes, slots, random)
    by_time = np.argsort(timestamps, kind="stable")  # a log is written as it happens
    events = EventTable(
        user_ids=shoppers.table.user_ids,
        item_ids=shop.table.item_ids,
        user_codes=user_codes[by_time],
        item_codes=item_codes[by_time],
        timestamps=timestamps[by_time],
        weights=None,
        report={"generated_events": len(user_codes)},
    )
    return EmbeddedLog(
        events=events,
        items=shop.table,
        users=shoppers.table,
        interest_names=shop.interest_names,
        item_interests=shop.interests.astype(np.int32),
        user_weights_start=_weights_by_interest(shoppers, shoppers.start_logits, len(shop.interest_names)),
        user_weights_end=_weights_by_interest(shoppers, shoppers.end_logits, len(shop.interest_names)),
    )


def with_truth(dataset: InteractionDataset, log: EmbeddedLog) -> InteractionDataset:
    """Attach what is true, aligned with the dataset's rows.

    Adds to ``InteractionDataset.truth``: ``interest_names``; ``item_interests`` int32 [item rows], -1 at padding and unknown;
    ``user_weights_start`` and ``user_weights_end`` float32 [profile rows, interests], 0 in row 0. ``Sequences.users`` are rows of them.
    """
    item_row = {identifier: row for row, identifier in enumerate(log.items.item_ids)}
    user_row = {identifier: row for row, identifier in enumerate(log.users.user_ids)}
    item_interests = np.full(dataset.catalogue.num_rows, -1, dtype=np.int32)
    item_interests[FIRST_INDEX:] = log.item_interests[[item_row[i] for i in dataset.catalogue.vocabulary.ids]]
    known_users = [] if dataset.profiles is None else dataset.profiles.user_ids[1:]
    users = np.array([user_row[i] for i in known_users], dtype=np.int64)
    nobody = np.zeros((1, len(log.interest_names)), dtype=np.float32)
    truth: Mapping[str, Any] = {
        "interest_names": log.interest_names,
        "item_interests": item_interests,
        "user_weights_start": np.concatenate([nobody, log.user_weights_start[users]]),
        "user_weights_end": np.concatenate([nobody, log.user_weights_end[users]]),
    }
    return replace(dataset, truth=truth)


def _interest_list(num_items: int) -> list[tuple[str, str]]:
    """(category, style) of each interest. A small catalogue takes few, from as many categories as possible."""
    styles = [(place, category, style) for category, d in DEPARTMENTS.items() for place, style in enumerate(d.styles)]
    styles.sort(key=lambda entry: entry[0])  # stable: the first style of every category, then the second ...
    return [(category, style) for _, category, style in styles[: max(2, num_items // ITEMS_PER_INTEREST)]]


def make_shop(num_items: int, random: np.random.Generator) -> Shop:
    """A catalogue of so many items."""
    interests = _interest_list(num_items)
    shares = np.arange(1, len(interests) + 1) ** -INTEREST_SIZE_EXPONENT
    sizes = 1 + random.multinomial(num_items - len(interests), shares / shares.sum())
    rows = [row for interest, size in enumerate(sizes) for row in _make_interest(interest, *interests[interest], int(size), random)]
    # Ids are given out in random order, so that an id says nothing about the interest.
    rows = [rows[position] for position in random.permutation(num_items)]
    digits = len(str(num_items))
    table = ItemTable(
        item_ids=[f"item-{number:0{digits}d}" for number in range(1, num_items + 1)],
        titles=[row.title for row in rows],
        categories=[row.category for row in rows],
        brands=[row.brand for row in rows],
        tags=[row.tags for row in rows],
        numbers={"price": np.array([row.price for row in rows], dtype=np.float32)},
    )
    return Shop(
        table=table,
        interest_names=[f"{category}: {style}" for category, style in interests],
        interests=np.array([row.interest for row in rows]),
        brands=np.array([row.brand_number for row in rows]),
        levels=np.array([row.level for row in rows]),
        log_popularity=np.array([row.log_popularity for row in rows]),
    )


@dataclass(frozen=True)
class _ItemRow:
    interest: int
    category: str
    brand: str
    brand_number: int
    level: int
    title: str
    tags: list[tuple[str, float]]
    price: float
    log_popularity: float


def _make_interest(interest: int, category: str, style: str, size: int, random: np.random.Generator) -> list[_ItemRow]:
    """The items of one interest, most popular first."""
    department = DEPARTMENTS[category]
    things = department.styles[style]
    shape = (len(department.brands), len(department.adjectives), len(things))
    # No two items share a title: combinations run through a permutation, and a second round is numbered.
    combinations = random.permutation(int(np.prod(shape)))
    levels = random.choice(len(PRICE_LEVELS), size, p=(0.4, 0.4, 0.2))
    prices = 40.0 * 2.2 ** (levels - 1) * random.lognormal(0.0, 0.4, size)
    prices[random.random(size) < 0.03] = np.nan
    rows = []
    for rank in range(size):
        brand, adjective, thing = np.unravel_index(combinations[rank % len(combinations)], shape)
        edition = rank // len(combinations)
        title = f"{department.brands[brand]} {department.adjectives[adjective]} {things[thing]}"
        rows.append(
            _ItemRow(
                interest=interest,
                category=category,
                brand=department.brands[brand],
                brand_number=int(brand),
                level=int(levels[rank]),
                title=title if edition == 0 else f"{title}, no. {edition + 1}",
                tags=_make_tags(style, department.adjectives[adjective], PRICE_LEVELS[levels[rank]], random),
                price=round(float(prices[rank]), 2),
                log_popularity=-ZIPF_EXPONENT * float(np.log(rank + 1)),
            )
        )
    return rows


def _make_tags(style: str, adjective: str, level: str, random: np.random.Generator) -> list[tuple[str, float]]:
    """Weighted tags; as in real catalogues, some items lack the telling one and some carry a meaningless one."""
    tags = [(adjective, 0.5), (level, 0.3)]
    if random.random() < 0.9:
        tags.insert(0, (style, 1.0))
    if random.random() < 0.25:
        tags.append((str(random.choice(["bestseller", "gift idea", "new arrival", "seasonal"])), 0.2))
    return tags


def make_shoppers(config: EmbeddedConfig, shop: Shop, random: np.random.Generator) -> Shoppers:
    """Users and their interests."""
    users, num_interests = config.users, len(shop.interest_names)
    slots = min(config.max_interests, num_interests)
    ages = random.choice(len(AGE_BANDS), users, p=(0.18, 0.27, 0.22, 0.15, 0.11, 0.07))
    regions = random.integers(len(REGIONS), size=users)
    bias = random.normal(0, PROFILE_BIAS, (len(AGE_BANDS), num_interests))[ages]
    bias = bias + random.normal(0, PROFILE_BIAS, (len(REGIONS), num_interests))[regions]  # [U, C]
    preference = bias + np.log(np.bincount(shop.interests, minlength=num_interests)) + random.gumbel(size=bias.shape)
    counts = 1 + random.binomial(slots - 1, EXTRA_INTEREST_PROBABILITY, users)
    digits = len(str(users))
    table = UserTable(
        user_ids=[f"user-{number:0{digits}d}" for number in range(1, users + 1)],
        columns={"age_band": _forgotten(AGE_BANDS, ages, random), "region": _forgotten(REGIONS, regions, random)},
    )
    return Shoppers(
        table=table,
        interests=np.argsort(-preference, axis=1)[:, :slots],  # [U, M]
        active=np.arange(slots) < counts[:, None],
        start_logits=random.normal(0, DRIFT_DEVIATION, (users, slots)),
        end_logits=random.normal(0, DRIFT_DEVIATION, (users, slots)),
    )


def _forgotten(names: tuple[str, ...], values: np.ndarray, random: np.random.Generator) -> list[str]:
    """The names of ``values``; one user in twenty has not said."""
    silent = random.random(len(values)) < 0.05
    return ["" if hidden else names[value] for value, hidden in zip(values, silent, strict=True)]


def make_visits(config: EmbeddedConfig, shoppers: Shoppers, random: np.random.Generator) -> Visits:
    """Sessions of visits over each user's time, ``mean_events`` visits on average."""
    expected = random.gamma(2.0, (config.mean_events - 1) / 2.0, config.users)
    lengths = 1 + random.poisson(expected)
    users = np.repeat(np.arange(config.users), lengths)  # [E]
    arrivals = LOG_START + (LOG_END - 30 * DAY - LOG_START) * random.random(config.users)
    opens_session = random.random(len(users)) < NEW_SESSION_PROBABILITY
    opens_session[np.cumsum(lengths) - lengths] = True
    sessions = np.cumsum(opens_session) - 1  # [E]
    timestamps = _session_starts(users[opens_session], arrivals, random)[sessions] + _time_in_session(opens_session, random)
    order = np.lexsort((timestamps, users))
    timestamps, sessions = timestamps[order], sessions[order]
    progress = np.clip((timestamps - arrivals[users]) / (LOG_END - arrivals[users]), 0, 1)  # [E]
    return Visits(users, timestamps, _choose_slots(shoppers, users, sessions, progress, random), progress)


def _session_starts(session_users: np.ndarray, arrivals: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Start of each session: any day since the user's arrival, mostly at noon or in the evening."""
    first = arrivals[session_users]
    days = np.floor((first + (LOG_END - DAY - first) * random.random(len(first))) / DAY) * DAY
    evening = random.random(len(first)) < 0.65
    hours = np.where(evening, random.normal(20, 2, len(first)), random.normal(12.5, 2, len(first)))
    return np.maximum(days + 3600 * np.clip(hours, 0, 23), first)


def _time_in_session(opens_session: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Seconds since the session's start: a click every minute and a half."""
    gaps = np.ceil(random.exponential(90.0, len(opens_session)))
    running = np.cumsum(gaps)
    at_opening = np.flatnonzero(opens_session)
    return running - np.repeat(running[at_opening], np.diff(np.append(at_opening, len(gaps))))


def _choose_slots(
    shoppers: Shoppers, users: np.ndarray, sessions: np.ndarray, progress: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """The interest slot of each event: drawn from the drifting weights, or the one before within a session."""
    moved = progress[:, None]
    logits = (1 - moved) * shoppers.start_logits[users] + moved * shoppers.end_logits[users]  # [E, M]
    logits = np.where(shoppers.active[users], logits + random.gumbel(size=logits.shape), -np.inf)
    drawn = np.argmax(logits, axis=1)
    stays = random.random(len(users)) < SAME_INTEREST_PROBABILITY
    stays[1:] &= sessions[1:] == sessions[:-1]
    stays[0] = False
    decided_at = np.maximum.accumulate(np.where(stays, 0, np.arange(len(users))))
    return drawn[decided_at]


def _choose_items(shop: Shop, shoppers: Shoppers, users: np.ndarray, slots: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The item of each event. Each (user, slot) orders its interest's items at random, weighted, and clicks down that order."""
    num_slots = shoppers.interests.shape[1]
    pairs, pair_of_event = np.unique(users * num_slots + slots, return_inverse=True)
    places = _places_in_order(pair_of_event, random)
    pair_interests = shoppers.interests[pairs // num_slots, pairs % num_slots]
    events_by_pair = np.argsort(pair_of_event, kind="stable")
    first_event = np.concatenate([[0], np.cumsum(np.bincount(pair_of_event))])
    chosen = np.empty(len(users), dtype=np.int64)
    for interest in range(len(shop.interest_names)):
        items = np.flatnonzero(shop.interests == interest)
        of_interest = np.flatnonzero(pair_interests == interest)
        for begin in range(0, len(of_interest), PAIRS_PER_CHUNK):
            chunk = of_interest[begin : begin + PAIRS_PER_CHUNK]
            order = _weighted_orders(shop, items, len(chunk), random)  # [pairs, items of the interest]
            row = np.repeat(np.arange(len(chunk)), first_event[chunk + 1] - first_event[chunk])
            events = np.concatenate([events_by_pair[first_event[pair] : first_event[pair + 1]] for pair in chunk])
            chosen[events] = items[order[row, places[events] % len(items)]]
    return chosen


def _places_in_order(pair_of_event: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """How far down its pair's order each event clicks: one further than the pair's last click, or there again."""
    order = np.argsort(pair_of_event, kind="stable")
    grouped = pair_of_event[order]
    opens = np.concatenate([[True], grouped[1:] != grouped[:-1]])
    moves = opens | (random.random(len(order)) >= REPEAT_PROBABILITY)
    running = np.cumsum(moves)
    places = np.empty(len(order), dtype=np.int64)
    places[order] = running - running[np.flatnonzero(opens)][np.cumsum(opens) - 1]
    return places


def _weighted_orders(shop: Shop, items: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """int64 [count, items]: random orders, each as if drawn without replacement by popularity and one shopper's favourites.

    Adding Gumbel noise to log-weights and sorting is such a draw.
    """
    favourite_brand = random.choice(shop.brands[items], (count, 1))
    favourite_level = random.choice(shop.levels[items], (count, 1))
    log_weights = shop.log_popularity[items] + FAVOURITE_BRAND_BONUS * (shop.brands[items] == favourite_brand)
    log_weights = log_weights + FAVOURITE_LEVEL_BONUS * (shop.levels[items] == favourite_level)
    return np.argsort(-(log_weights + random.gumbel(size=log_weights.shape)), axis=1)


def _weights_by_interest(shoppers: Shoppers, logits: np.ndarray, num_interests: int) -> np.ndarray:
    """float32 [U, C]: softmax of each user's active slots, at the interests' columns."""
    masked = np.where(shoppers.active, logits, -np.inf)
    weights = np.exp(masked - masked.max(axis=1, keepdims=True))
    by_interest = np.zeros((len(logits), num_interests), dtype=np.float32)
    np.put_along_axis(by_interest, shoppers.interests, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32), axis=1)
    return by_interest

"""What the embedded shop shows its users and what they click, with the true preferences behind it.

The catalogue, the users and their drifting interests are those of the embedded log (``tfmi.data.synthetic.shop``). On every visit a page is
shown: items of the interest that the visit is about, others of its category, and items of any kind, popular ones more often and nearer
to the page's top, but none twice to the same user. Each user likes each item with a probability that depends on the user's interests,
favourite brands and price level, and on the item's quality. A liked item is clicked if it is noticed, which is less likely further down;
hence a missing click says less than a click, and least of all about unpopular items. A few clicks are mistakes. Pages and clicks are a
pure function of the configuration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfmi.config import EmbeddedConfig
from tfmi.data.impressions.impression_split import LabelledEvents
from tfmi.data.synthetic.shop import ZIPF_EXPONENT, Shop, Shoppers, Visits, make_shop, make_shoppers, make_visits
from tfmi.data.synthetic.shop_words import PRICE_LEVELS
from tfmi.data.tables import EventTable, ItemTable, UserTable

SHOWN_ZIPF_EXPONENT = 1.7  # what is shown has a longer tail than what is bought: many items are rarely seen
SHARE_OF_INTEREST, SHARE_OF_CATEGORY = 0.5, 0.2  # of a page; the rest is of any kind
POSITION_EXPONENT = 0.7  # the share of likes missed at the k-th place of a page ~ k^0.7

# Log-odds of liking an item of the user's own interests, of their categories, and of others; and what is added to them.
OWN_INTEREST, OWN_CATEGORY, OTHER = 0.0, -1.8, -3.2
INTEREST_WEIGHT = 0.5  # times the logarithm of the interest's weight over the mean weight
FAVOURITE_BRAND, FAVOURITE_LEVEL = 1.2, 0.6
QUALITY_DEVIATION = 0.6


@dataclass(frozen=True)
class EmbeddedImpressions:
    """What the generator made, and what is true about it.

    Attributes:
        events, items, users: The tables that a user's own files would give.
        preference: float32 [events]: the probability that the event's user likes its item.
        liked: bool [events]: whether the user does.
    """

    events: LabelledEvents
    items: ItemTable
    users: UserTable
    preference: np.ndarray
    liked: np.ndarray


@dataclass(frozen=True)
class _Scene:
    """The shop, its users, and the number of each interest's category, int64 [interests]."""

    shop: Shop
    shoppers: Shoppers
    categories: np.ndarray


def generate_impressions(config: EmbeddedConfig) -> EmbeddedImpressions:
    """Generate the pages and clicks that ``config`` describes."""
    population = np.random.default_rng(config.seed)
    shop = make_shop(config.items, population)
    shoppers = make_shoppers(config, shop, population)
    random = np.random.default_rng([config.seed, 1])
    visits = make_visits(config, shoppers, random)
    scene = _Scene(shop, shoppers, _numbered_categories(shop))
    of_visit, items, places = _fill_pages(config.impressions.page_size, scene, visits, random)
    users = visits.users[of_visit]
    preference = _preferences(scene, users, items, visits.progress[of_visit], random)
    liked = random.random(len(items)) < preference
    noticed = random.random(len(items)) >= _missed_shares(places, config.impressions.missed)
    by_mistake = random.random(len(items)) < config.impressions.false_clicks
    clicked = np.where(liked, noticed, by_mistake)
    order = np.argsort(visits.timestamps[of_visit], kind="stable")  # a log is written as it happens
    table = EventTable(
        user_ids=shoppers.table.user_ids,
        item_ids=shop.table.item_ids,
        user_codes=users[order],
        item_codes=items[order],
        timestamps=visits.timestamps[of_visit][order],
        weights=None,
        report={"generated_impressions": len(items), "clicked": int(clicked.sum()), "liked": int(liked.sum())},
    )
    return EmbeddedImpressions(
        LabelledEvents(table, clicked[order]), shop.table, shoppers.table, preference[order].astype(np.float32), liked[order]
    )


def _numbered_categories(shop: Shop) -> np.ndarray:
    """int64 [interests]: the number of each interest's category."""
    names = [name.partition(":")[0] for name in shop.interest_names]
    return np.unique(names, return_inverse=True)[1]


def _fill_pages(page_size: int, scene: _Scene, visits: Visits, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is shown: visit, item and place from 0 on of each of E impressions. No user is shown an item twice."""
    shop, categories = scene.shop, scene.categories
    of_visit = np.repeat(np.arange(len(visits.users)), page_size)
    interests = scene.shoppers.interests[visits.users, visits.slots][of_visit]
    shares = np.exp(shop.log_popularity * (SHOWN_ZIPF_EXPONENT / ZIPF_EXPONENT))
    chance = random.random(len(of_visit))
    items = np.empty(len(of_visit), dtype=np.int64)
    in_category = categories[shop.interests]
    pools = [(chance < SHARE_OF_INTEREST, interests, shop.interests)]
    pools.append(((chance >= SHARE_OF_INTEREST) & (chance < SHARE_OF_INTEREST + SHARE_OF_CATEGORY), categories[interests], in_category))
    pools.append((chance >= SHARE_OF_INTEREST + SHARE_OF_CATEGORY, np.zeros_like(interests), np.zeros_like(in_category)))
    for chosen, wanted, kinds in pools:
        for kind in np.unique(wanted[chosen]):
            places = np.flatnonzero(chosen & (wanted == kind))
            pool = np.flatnonzero(kinds == kind)
            items[places] = random.choice(pool, len(places), p=shares[pool] / shares[pool].sum())
    # Popular items stand near the top, with some noise.
    heights = shop.log_popularity[items] + random.gumbel(size=len(items))
    order = np.lexsort((-heights, of_visit))
    of_visit, items = of_visit[order], items[order]
    # Visits are in time order, user by user: the first of a pair's impressions stays.
    _, first = np.unique(visits.users[of_visit] * len(shop.interests) + items, return_index=True)
    first.sort()
    of_visit, items = of_visit[first], items[first]
    starts = np.searchsorted(of_visit, of_visit)
    return of_visit, items, np.arange(len(of_visit)) - starts


def _preferences(scene: _Scene, users: np.ndarray, items: np.ndarray, progress: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """float64 [E]: how likely each user likes each item at each time."""
    shop, shoppers, categories = scene.shop, scene.shoppers, scene.categories
    quality = random.normal(0, QUALITY_DEVIATION, len(shop.interests))
    num_categories = int(categories.max()) + 1
    brands = random.integers(shop.brands.max() + 1, size=(len(shoppers.interests), num_categories))
    levels = random.integers(len(PRICE_LEVELS), size=len(shoppers.interests))
    active = shoppers.active[users]  # [E, M]
    moved = progress[:, None]
    logits = (1 - moved) * shoppers.start_logits[users] + moved * shoppers.end_logits[users]
    weights = np.where(active, np.exp(logits), 0.0)
    weights = weights / weights.sum(axis=1, keepdims=True) * active.sum(axis=1, keepdims=True)  # 1 on average
    own = active & (shoppers.interests[users] == shop.interests[items][:, None])
    item_categories = categories[shop.interests[items]]
    near = (active & (categories[shoppers.interests[users]] == item_categories[:, None])).any(axis=1)
    own_weight = np.where(own, weights, 0.0).sum(axis=1)
    odds = np.where(near, OWN_CATEGORY, OTHER)
    odds = np.where(own.any(axis=1), OWN_INTEREST + INTEREST_WEIGHT * np.log(np.maximum(own_weight, 1e-6)), odds)
    odds = odds + FAVOURITE_BRAND * (shop.brands[items] == brands[users, item_categories]) + quality[items]
    odds = odds + FAVOURITE_LEVEL * (shop.levels[items] == levels[users])
    return 1 / (1 + np.exp(-odds))


def _missed_shares(places: np.ndarray, missed: float) -> np.ndarray:
    """float64 [E]: how likely a like at each place of a page gets no click, ``missed`` on average unless some are 1."""
    shape = (places + 1.0) ** POSITION_EXPONENT
    return np.minimum(missed * shape / shape.mean(), 1.0)

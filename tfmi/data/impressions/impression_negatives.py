"""Items that were not clicked, drawn where a log holds clicks alone."""

from __future__ import annotations

import numpy as np

from tfmi.data.dataset import Sequences
from tfmi.data.first_times import FirstTimes
from tfmi.data.impressions.click_histories import times_of

# A draw that hits an item clicked before is drawn again so many times; then it is given up.
MAX_DRAWS = 20


def draw_negatives(
    clicks: Sequences, users: np.ndarray, timestamps: np.ndarray, candidates: np.ndarray, *, per_click: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw items for each of some clicks, uniformly among those that the user has not clicked up to then.

    An item that the user clicks later may be drawn: not to do so would tell what is going to be clicked.

    Args:
        clicks: All clicks, one row per user, with times.
        users, timestamps: [n], whose click, a row of ``clicks``, and when.
        candidates: int [m] distinct items to draw from.
        per_click: How many to draw for each click.
        seed: Decides the draws, with the clicks in the order given.

    Returns:
        int64 [k]: for each drawn item the position of its click, in rising order; and int64 [k], the items. A user who has clicked almost
        everything gets fewer.
    """
    random = np.random.default_rng(seed)
    in_order = np.argsort(times_of(clicks), kind="stable")
    click_users = np.repeat(np.arange(len(clicks)), clicks.lengths())
    num_items = int(max(candidates.max(), clicks.items.max())) + 1
    clicked = FirstTimes(click_users[in_order], clicks.items[in_order], times_of(clicks)[in_order], num_items)
    sources = np.repeat(np.arange(len(users)), per_click)
    drawn = np.zeros(len(sources), dtype=np.int64)
    open_places = np.arange(len(sources))
    for _ in range(MAX_DRAWS):
        drawn[open_places] = random.choice(candidates, len(open_places))
        events = sources[open_places]
        open_places = open_places[clicked.by(users[events], drawn[open_places], timestamps[events])]
        if not len(open_places):
            break
    kept = np.ones(len(sources), dtype=bool)
    kept[open_places] = False
    return sources[kept], drawn[kept]

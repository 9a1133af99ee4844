"""The embedded shop as a log of tags, with a second, rarer task: what of the clicked items was bought."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tfmi.config import EmbeddedConfig
from tfmi.data.reading.log import LogTables
from tfmi.data.synthetic.shop import EmbeddedLog, generate

CLICK, PURCHASE = 1.0, 2.0
LEAST_PROBABILITY, MOST_PROBABILITY = 0.05, 0.6


def embedded_shop(config: EmbeddedConfig) -> LogTables:
    """The generated log, in which a purchase weighs ``PURCHASE`` and another click ``CLICK``. A pure function of ``config``.

    A clicked item is bought with a probability that rises with the user's weight of the item's interest, so that what users buy says more
    of what they like than what they click, and is rarer.
    """
    log = generate(config)
    weight = interest_weights(log)
    probability = LEAST_PROBABILITY + (MOST_PROBABILITY - LEAST_PROBABILITY) * weight
    # A stream of its own: the log is the same with and without purchases.
    bought = np.random.default_rng([config.seed, 1]).random(len(weight)) < probability
    events = replace(log.events, weights=np.where(bought, PURCHASE, CLICK).astype(np.float32))
    return LogTables(events, log.items, log.users)


def interest_weights(log: EmbeddedLog) -> np.ndarray:
    """float32 [events] in [0, 1]: the user's weight of the interest that each event's item is of, halfway between arrival and end."""
    users, interests = log.events.user_codes, log.item_interests[log.events.item_codes]
    return (log.user_weights_start[users, interests] + log.user_weights_end[users, interests]) / 2

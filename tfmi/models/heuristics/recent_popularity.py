"""Popular lately: what is taken most in the newest days of the training data, for everybody."""

from __future__ import annotations

import numpy as np

from tfmi.core.errors import DataError
from tfmi.data.dataset import Sequences
from tfmi.models.heuristics.heuristic import HEURISTICS, Popularity

_SECONDS_PER_DAY = 86_400.0


@HEURISTICS.register("recent_popularity")
class RecentPopularity(Popularity):
    """The items with most events in the newest days of training, for everybody; the others follow by all of their events.

    Where time decides what is tested (``data.split.method: by_time``) much of what looks like taste is what was popular at that time: a
    model has to beat this baseline, not popularity over years. Scores are counts, of the window; below 1 for items without events in it.

    Source: no paper; ``days`` is a hyper-parameter of the baseline, to be chosen on validation like any other.

    Args:
        days: The window, back from the newest training event.

    Raises:
        ValueError: ``days`` is not above 0.
    """

    def __init__(self, days: float = 7.0) -> None:
        super().__init__(count="events")
        if days <= 0:
            raise ValueError(f"days: expected a number above 0, got {days}")
        self.days = days

    def _count(self, sequences: Sequences, counts: np.ndarray) -> None:
        if sequences.timestamps is None:
            raise DataError(
                "recent_popularity needs the time of each event, but the data has none; name the log's time column in "
                "data.log.columns.time, or take popularity"
            )
        since = sequences.timestamps.max() - self.days * _SECONDS_PER_DAY
        recent = sequences.items[sequences.timestamps > since]
        # All events together weigh less than one recent one: they order the items without any.
        self._rank(np.bincount(recent, minlength=self.num_rows) + counts / (counts.sum() + 1.0))

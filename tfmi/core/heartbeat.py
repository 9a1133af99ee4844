"""A line every half minute where nobody sees a progress bar, so that a long run in a log file is seen to be alive."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 30.0

# What is being done, the innermost last; a string, or a function that says how far it is.
_activities: list[str | Callable[[], str]] = []


@contextmanager
def doing(activity: str | Callable[[], str], *, seconds: float = INTERVAL_SECONDS) -> Iterator[None]:
    """Log ``activity`` and for how long it has been going on, every ``seconds`` of the block, unless a terminal shows progress bars.

    Within another such block only the inner activity is told.

    Args:
        activity: What the block does, such as "validating"; a function is asked each time.
        seconds: Between two lines.
    """
    if sys.stderr.isatty():
        yield
        return
    ended = threading.Event()
    started = time.monotonic()
    _activities.append(activity)
    place = len(_activities)

    def tell() -> None:
        while not ended.wait(seconds):
            if len(_activities) == place:
                text = activity if isinstance(activity, str) else activity()
                log.info("Still %s (%s)", text, _duration(time.monotonic() - started))

    teller = threading.Thread(target=tell, daemon=True, name="heartbeat")
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()
        _activities.pop()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

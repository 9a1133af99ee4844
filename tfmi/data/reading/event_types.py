"""What a type of event means: its weight, and whether it says that a user turned the item down."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from tfmi.config import LogConfig
from tfmi.core.errors import nearest
from tfmi.data.reading.codes import plain_code

log = logging.getLogger(__name__)


def weights_by_type(types: pa.Array, config: LogConfig, weights: np.ndarray | None) -> np.ndarray | None:
    """float64 [rows] weights of events: those of their column, times those of their types; None if there are neither.

    Args:
        types: The type of each event.
        config: ``event_weights``; a type without a weight has 1.
        weights: float64 [rows] of the weight column, or None.
    """
    if config.event_weights is None:
        return weights
    encoded = types.dictionary_encode()
    by_code = {plain_code(name): weight for name, weight in config.event_weights.items()}
    of_type = np.array([by_code.get(name, 1.0) for name in encoded.dictionary.to_pylist()], dtype=np.float64)
    factors = of_type[encoded.indices.to_numpy(zero_copy_only=False)] if len(types) else np.empty(0)
    return factors if weights is None else weights * factors


def warn_of_absent_types(path: object, config: LogConfig, seen: Iterable[str]) -> None:
    """Say which of the types that the configuration names do not occur in a log."""
    seen = sorted(seen)
    for setting in ("event_types", "event_weights", "negative_events"):
        for name in getattr(config, setting) or ():
            if plain_code(name) not in seen:
                shown = ", ".join(seen[:10]) + (", ..." if len(seen) > 10 else "")
                log.warning("%s: data.log.%s: no event of type %r%s; the log has: %s", path, setting, name, nearest(name, seen), shown)


def is_negative(types: np.ndarray | None, names: list[str], config: LogConfig) -> np.ndarray | None:
    """bool [events]: whether an event of type code ``types`` is one of ``negative_events``; None where none can be."""
    if config.negative_events is None or types is None:
        return None
    negative = {plain_code(name) for name in config.negative_events}
    return np.isin(types, [code for code, name in enumerate(names) if name in negative])

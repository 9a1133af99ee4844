"""Giving memory back to the system that a closed model has left."""

from __future__ import annotations

import ctypes
import functools
import gc
from collections.abc import Callable


def release_memory() -> None:
    """Collect what nothing refers to, and return freed pages to the system.

    glibc keeps what TensorFlow frees for later, in an arena for each thread: without this, a server's resident memory grows by a few per
    cent with every version that it has unloaded, until all arenas have seen their largest model. Other C libraries are left alone.
    """
    gc.collect()
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # Windows has no such handle, macOS and musl no such function
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return trim

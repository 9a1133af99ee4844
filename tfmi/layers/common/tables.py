"""Rows of tables that may be kept in parts."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def lookup(table: Any, rows: tf.Tensor) -> tf.Tensor:
    """Rows [..., d] of a table [N, d], whose gradient touches no others.

    ``tf.gather`` of a table that parameter servers hold in parts would first put it together, all of it, at every step. This looks every
    row up where it is.

    Args:
        table: A variable or tensor, or a table in parts, as a variable is under ``ParameterServerStrategy``.
        rows: int [...].
    """
    if hasattr(table, "variables"):
        return tf.nn.embedding_lookup(table, rows)
    return tf.gather(table, rows)

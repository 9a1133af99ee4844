"""Dense layers one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfmi.layers.common.history_dropout import ElementDropout


def mlp(hidden: Sequence[int], output: int, dropout: float, final_activation: str, seed: int) -> tf.keras.Sequential:
    """ReLU layers of the given widths, each with dropout, then a layer to ``output``."""
    layers: list[tf.keras.layers.Layer] = []
    for position, width in enumerate(hidden):
        layers.append(tf.keras.layers.Dense(width, activation="relu"))
        if dropout:
            layers.append(ElementDropout(dropout, seed=seed + position))
    layers.append(tf.keras.layers.Dense(output, activation=final_activation))
    return tf.keras.Sequential(layers)

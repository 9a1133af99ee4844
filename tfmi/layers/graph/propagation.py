"""Propagation: message passing among item vectors, before anything else reads them."""

from __future__ import annotations

import abc

import tensorflow as tf

from tfmi.core.registry import Registry
from tfmi.data.dataset import Sequences
from tfmi.layers.base import ConfiguredLayer


class ItemPropagation(ConfiguredLayer, abc.ABC):
    """Base of the layers that mix the vectors of a whole catalogue along what the training data says of its items.

    Subclasses implement ``adapt`` (see ``AdaptsToSequences``) and ``call(vectors)``, from [num_rows, d] to [num_rows, d]. It is given a
    table, not a batch: messages to one item may come from anywhere.
    """

    @abc.abstractmethod
    def adapt(self, sequences: Sequences, num_rows: int) -> None:
        """Look at the training data, once and before the first call."""

    @abc.abstractmethod
    def call(self, vectors: tf.Tensor) -> tf.Tensor:
        """Propagate item vectors [num_rows, d]."""


PROPAGATIONS: Registry[ItemPropagation] = Registry("propagation", "tfmi.layers")

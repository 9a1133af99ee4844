"""From a tag to its vector, for each task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.base import ConfiguredLayer
from tfmi.layers.common.arguments import require_at_least, require_choice
from tfmi.layers.common.dense_network import mlp
from tfmi.layers.common.tables import lookup


class TagTower(ConfiguredLayer):
    """An embedding per tag and, if asked for, a network that makes the tag's vector of it, for each task or for all.

    Args:
        num_rows: Rows of the tag table, padding and unknown included.
        dimension: d, the width of the vectors that users are scored with.
        num_tasks: A.
        hidden: Widths of the network's ReLU layers, before a linear one; None: no network, the embedding is the vector.
        networks: One "per_task", or one "shared" by all.
        embedding_dimension: Width of the embeddings; None takes d.
        dropout: Dropout after each ReLU layer.
        initializer_deviation: Deviation of the embeddings at the start.
        seed: Seed of the dropout.

    Shapes: int32 [...] to [..., d].

    Raises:
        ValueError: An argument out of its range, or embeddings of another width than d without a network.
    """

    def __init__(
        self,
        num_rows: int,
        dimension: int,
        num_tasks: int = 1,
        *,
        hidden: Sequence[int] | None = None,
        networks: Literal["per_task", "shared"] = "per_task",
        embedding_dimension: int | None = None,
        dropout: float = 0.0,
        initializer_deviation: float = 0.05,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least(3, num_rows=num_rows)
        require_at_least(1, dimension=dimension, num_tasks=num_tasks, embedding_dimension=embedding_dimension)
        require_choice(("per_task", "shared"), networks=networks)
        self.hidden = None if hidden is None else tuple(hidden)
        if hidden is None and embedding_dimension not in (None, dimension):
            raise ValueError(f"embedding_dimension: without a network tags have the width of users, {dimension}, got {embedding_dimension}")
        self._own_table: tf.Variable | None = None
        self._shared_table: tf.Variable | None = None
        count = 0 if self.hidden is None else num_tasks if networks == "per_task" else 1
        self._networks = [mlp(self.hidden or (), dimension, dropout, "linear", seed + 100 * task) for task in range(count)]

    def share_table(self, table: tf.Variable) -> None:
        """Take the rows of ``table``, another layer's, for the tags' embeddings; raises ``ValueError`` if its shape does not fit."""
        expected = (self.num_rows, self.embedding_dimension or self.dimension)
        if tuple(table.shape) != expected:
            raise ValueError(f"a shared tag table needs the shape {expected}, got {tuple(table.shape)}")
        self._shared_table = table

    def build(self, input_shape: Any) -> None:
        """Create the embeddings [rows, width], unless another layer's are shared."""
        if self._shared_table is None:
            noise = tf.keras.initializers.RandomNormal(stddev=self.initializer_deviation)
            self._own_table = self.add_weight("embeddings", [self.num_rows, self.embedding_dimension or self.dimension], initializer=noise)
        super().build(input_shape)

    @property
    def table(self) -> tf.Variable:
        """The embeddings, once the layer is built."""
        return self._own_table if self._shared_table is None else self._shared_table

    def call(self, tags: tf.Tensor, task: int = 0, training: bool | None = None) -> tf.Tensor:
        """Vectors [..., d] of tags int32 [...] for a task. Those of indices 0 and 1 mean nothing."""
        embeddings = tf.cast(lookup(self.table, tags), self.compute_dtype)
        if not self._networks:
            return embeddings
        return self._networks[task if self.networks == "per_task" else 0](embeddings, training=training)

"""FinalMLP as a backbone: two networks that see the fields through different gates, and heads that multiply what they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfmi.layers.backbones.backbone import BACKBONES, Backbone, RankingInputs, SharedInteraction
from tfmi.layers.base import ConfiguredLayer
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.common.dense_network import mlp
from tfmi.layers.common.fields import flattened


class BilinearFusionHead(ConfiguredLayer):
    r"""A logit from two vectors, x and y, cut into M pieces each::

        logit = w . x + v . y + b + sum over m of  x_m^T W_m y_m

    Paper: Mao et al., "FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction", AAAI 2023.

    Args:
        first_width: Width of x, the first columns of ``stacked``; the others are y.
        num_heads: M, by which both widths can be divided.
        seed: Seed of the initial weights.

    Shapes: a ``SharedInteraction`` with ``stacked`` [B, first_width + second_width] to float32 [B].
    """

    def __init__(self, first_width: int, num_heads: int = 1, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        uniform = tf.keras.initializers.GlorotUniform(seed=seed)
        self.linear = tf.keras.layers.Dense(1, kernel_initializer=uniform, dtype=tf.float32)  # w, v and b at once

    def build(self, input_shape: Any) -> None:
        """Create the W_m, [M, first_width / M, second_width / M]."""
        second_width = int(input_shape.stacked[-1]) - self.first_width
        pieces = [self.first_width // self.num_heads, second_width // self.num_heads]
        # Glorot's range of one matrix: of three axes Keras takes the first for a window.
        limit = (6.0 / sum(pieces)) ** 0.5
        initializer = tf.keras.initializers.RandomUniform(-limit, limit, seed=self.seed + 1)
        self.kernel = self.add_weight("kernel", [self.num_heads, *pieces], initializer=initializer, experimental_autocast=False)
        super().build(input_shape)

    def call(self, shared: SharedInteraction) -> tf.Tensor:
        """Logits float32 [B]."""
        stacked = tf.cast(shared.stacked, tf.float32)
        first, second = (
            tf.reshape(part, [-1, self.num_heads, part.shape[-1] // self.num_heads])
            for part in (stacked[:, : self.first_width], stacked[:, self.first_width :])
        )
        return self.linear(stacked)[:, 0] + tf.einsum("bmi,mij,bmj->b", first, self.kernel, second)


@BACKBONES.register("finalmlp")
class FinalMLP(Backbone):
    r"""Two streams, each a network on the fields behind a gate of its own; what the gates let through depends on the user's fields in the
    first stream, and on the candidate's in the second::

        x = network_1( 2 sigmoid(gate_1(user's fields)) * fields )
        y = network_2( 2 sigmoid(gate_2(candidate's fields)) * fields )

    Heads fuse x and y bilinearly, without a network of their own.

    Paper: Mao et al., "FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction", AAAI 2023.

    Args:
        first_hidden: Widths of the ReLU layers of the first stream, the last of which is x.
        second_hidden: Likewise of the second.
        gate_hidden: Widths of the ReLU layers of each gate.
        num_heads: Pieces into which heads cut x and y.

    Raises:
        ValueError: A stream without layers, or one whose last width ``num_heads`` does not divide; an argument out of its range.
    """

    def __init__(
        self,
        first_hidden: Sequence[int] = (256, 128),
        second_hidden: Sequence[int] = (256, 128),
        gate_hidden: Sequence[int] = (64,),
        num_heads: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least(1, num_heads=num_heads)
        for name, hidden in (("first_hidden", first_hidden), ("second_hidden", second_hidden)):
            if not hidden:
                raise ValueError(f"{name}: expected at least one layer")
            if hidden[-1] % num_heads:
                raise ValueError(f"{name}: expected a last width that num_heads ({num_heads}) divides, got {hidden[-1]}")
        self.first_hidden = tuple(first_hidden)
        self.second_hidden = tuple(second_hidden)
        self.gate_hidden = tuple(gate_hidden)
        self.streams = [
            mlp(hidden[:-1], hidden[-1], dropout=0.0, final_activation="relu", seed=0) for hidden in (self.first_hidden, self.second_hidden)
        ]

    def build(self, input_shape: Any) -> None:
        """Create the gates, each as wide as all fields together."""
        _, num_fields, dimension = input_shape.fields
        width = num_fields * dimension
        self.gates = [mlp(self.gate_hidden, width, dropout=0.0, final_activation="sigmoid", seed=0) for _ in self.streams]
        super().build(input_shape)

    def make_head(self, hidden: Sequence[int], seed: int, name: str) -> BilinearFusionHead:
        """A new fusion head; it has no network, so that ``hidden`` is without effect."""
        del hidden
        return BilinearFusionHead(self.first_hidden[-1], self.num_heads, seed=seed, name=name)

    def call(self, inputs: RankingInputs, training: bool | None = None) -> SharedInteraction:
        """The two streams side by side."""
        num_candidate_fields = inputs.candidate.shape[-1] // inputs.fields.shape[-1]
        contexts = inputs.fields[:, num_candidate_fields:], inputs.fields[:, :num_candidate_fields]
        fields = flattened(inputs.fields)  # [B, F d]
        streams = [
            stream(2 * gate(flattened(context)) * fields) for stream, gate, context in zip(self.streams, self.gates, contexts, strict=True)
        ]
        return SharedInteraction(tf.concat(streams, axis=-1))

"""AutoInt as a backbone: fields attend to fields next to a deep network."""

from __future__ import annotations

from typing import Any

from tfmi.layers.backbones.backbone import BACKBONES, Backbone, RankingInputs, SharedInteraction
from tfmi.layers.backbones.field_attention import FieldAttention
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.common.fields import flattened


@BACKBONES.register("autoint")
class AutoInt(Backbone):
    r"""Layers of self-attention over the fields, joined to what every head's network gives::

        head    = w . [network(fields) ; attention(... attention(fields))] + b + sum over f of w_f

    Paper: Song et al., "AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks", CIKM 2019.

    Args:
        num_layers: Layers of attention.
        num_heads: Heads of each layer.
        head_dimension: Width of each head.
        seed: Seed of the initial weights.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(self, num_layers: int = 3, num_heads: int = 2, head_dimension: int = 16, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(1, num_layers=num_layers)
        # Each layer has four matrices, whose seeds follow one another.
        self.attention = [FieldAttention(num_heads, head_dimension, seed=seed + 4 * layer) for layer in range(num_layers)]

    def call(self, inputs: RankingInputs, training: bool | None = None) -> SharedInteraction:
        """The fields, and what attention brings to each of them from the others."""
        attended = inputs.fields
        for layer in self.attention:
            attended = layer(attended, inputs.present)
        return SharedInteraction(flattened(inputs.fields), parallel=flattened(attended), logit=inputs.first_order)

"""DIN as a backbone: the history as the candidate sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfmi.layers.backbones.backbone import BACKBONES, Backbone, RankingInputs, SharedInteraction
from tfmi.layers.backbones.target_attention import TargetAttention
from tfmi.layers.common.fields import flattened


@BACKBONES.register("din")
class DeepInterestNetwork(Backbone):
    r"""All fields and the history, attended to by the candidate, side by side::

        shared  = [fields ; sum over j of a(candidate, k_j) k_j]
        head    = w . network(shared) + b

    Several candidates of one user share what the attention makes of the history by itself.

    Paper: Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018.

    Args:
        attention_hidden: Widths of the attention's network.
        softmax: Whether the attention's weights of a history sum to 1, which the paper's do not.
        seed: Seed of the initial weights.

    Raises:
        ValueError: ``attention_hidden`` has no layer, or one without width.
    """

    def __init__(self, attention_hidden: Sequence[int] = (80, 40), softmax: bool = False, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.attention_hidden = tuple(attention_hidden)
        self.attention = TargetAttention(attention_hidden, softmax=softmax, seed=seed)

    def call(self, inputs: RankingInputs, training: bool | None = None) -> SharedInteraction:
        """Attend, and join."""
        width = inputs.candidate.shape[-1]
        candidates = tf.reshape(inputs.candidate, [tf.shape(inputs.history)[0], -1, width])  # [U, R, h]
        attended = self.attention(candidates, inputs.history, inputs.history_mask)
        return SharedInteraction(tf.concat([flattened(inputs.fields), tf.reshape(attended, [-1, width])], axis=-1))

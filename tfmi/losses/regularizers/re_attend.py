"""Re4's Re-attend: attention that agrees with the similarity used for ranking."""

from __future__ import annotations

from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.base import InterestExtractor, masked_softmax
from tfmi.layers.common.arguments import require_at_least, require_choice
from tfmi.losses.base import REGULARIZERS, BatchContext, Regularizer
from tfmi.losses.regularizers.interest_attention import attention_over_items, require_differentiable_weights
from tfmi.losses.regularizers.interest_items import raw_interests

# Attention below this counts as this: 69 nats, where a logarithm of 0 would spoil the loss.
_SMALLEST_ATTENTION = 1e-30


@REGULARIZERS.register("re_attend")
class ReAttend(Regularizer):
    r"""Cross-entropy between how similar an interest is to its items and how it attends to them.

    With a the attention [B, K, L], z the raw interests and x the history's item vectors, the mean over interests of::

        - sum over i of a'_i log a_i        a' = softmax over items of z . x_i

    The similarity a' is the label, the attention the prediction, as in the published code; gradients reach both unless
    ``stop_gradient_target``. Inactive interests and empty histories do not count. Attention is the extractor's weights as shares of each
    interest (``attention_over_items``), so they must carry gradients; otherwise the loss is refused.

    Compares interests with items directly, which presumes that they share a space: see ``raw_interests``.

    Paper: Zhang et al., "Re4: Learning to Re-contrast, Re-attend, Re-construct for Multi-interest Recommendation", WWW 2022.

    Args:
        weight: Weight in the total loss.
        stop_gradient_target: Make a' a constant: the attention then learns from the similarity alone.
        use_transformed: Take the interests that are scored (after output transform, user tower and normalisation) in place of z. This
            is what ranking goes by; the paper's z agrees with it approximately.
        similarity: "dot", the paper's, or "cosine", by which a model with ``normalize`` ranks.
        temperature: Divides the similarity; a model's own makes a' its softmax over the history.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(
        self,
        weight: float = 0.001,
        *,
        stop_gradient_target: bool = False,
        use_transformed: bool = False,
        similarity: Literal["dot", "cosine"] = "dot",
        temperature: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        require_at_least(0, weight=weight)
        require_choice(("dot", "cosine"), similarity=similarity)
        if not temperature > 0:
            raise ValueError(f"temperature: expected a number above 0, got {temperature}")

    def check(self, extractor: InterestExtractor) -> None:
        """Raise ``ValueError`` if no gradient passes through the extractor's weights: its attention could not follow."""
        require_differentiable_weights(extractor, "re_attend")

    def call(self, context: BatchContext, training: bool | None = None) -> tf.Tensor:
        """The weighted loss of a batch, a float32 scalar."""
        attention = attention_over_items(context.output, context.mask)  # [B, K, L]
        logarithms = tf.math.log(tf.maximum(attention, _SMALLEST_ATTENTION))
        entropies = -tf.reduce_sum(self._similarity_shares(context) * logarithms, axis=2)  # [B, K]
        counted = context.output.active & tf.reduce_any(context.mask, axis=1)[:, None]  # [B, K]
        count = tf.maximum(tf.math.count_nonzero(counted, dtype=tf.float32), 1.0)
        return self.weight * tf.reduce_sum(tf.where(counted, entropies, 0.0)) / count

    def _similarity_shares(self, context: BatchContext) -> tf.Tensor:
        """a' [B, K, L]: sums to 1 over real items, 0 at padding."""
        interests = tf.cast(context.interests, tf.float32) if self.use_transformed else raw_interests(context.output)
        items = tf.cast(context.history, tf.float32)
        if self.similarity == "cosine":
            interests, items = tf.math.l2_normalize(interests, axis=-1), tf.math.l2_normalize(items, axis=-1)
        similarities = tf.matmul(interests, items, transpose_b=True) / self.temperature
        shares = masked_softmax(similarities, context.mask[:, None, :])
        return tf.stop_gradient(shares) if self.stop_gradient_target else shares

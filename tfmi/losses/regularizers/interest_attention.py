"""What losses share that look at how an extractor spreads each interest over the history."""

from __future__ import annotations

import tensorflow as tf

from tfmi.layers.base import InterestExtractor, InterestOutput


def attention_over_items(output: InterestOutput, mask: tf.Tensor) -> tf.Tensor:
    """How each interest is shared out over the items of the history, float32 [B, K, L].

    Attention weights are this already. Routing weights sum to 1 over the interests of each item; here they are divided by their sum over
    the items of each interest. Rows of active interests sum to 1; those of inactive interests and of empty histories are 0.

    Args:
        output: The extractor's output.
        mask: bool [B, L], True at real items.
    """
    counted = output.active[:, :, None] & mask[:, None, :]  # [B, K, L]
    weights = tf.where(counted, tf.cast(output.weights, tf.float32), 0.0)
    return tf.math.divide_no_nan(weights, tf.reduce_sum(weights, axis=2, keepdims=True))


def require_differentiable_weights(extractor: InterestExtractor, label: str) -> None:
    """Raise ``ValueError`` if no gradient passes through the weights of ``extractor``, so that a loss of them would have no effect.

    Args:
        extractor: The model's extractor.
        label: What needs the gradient, at the beginning of the message.
    """
    reason = extractor.why_weights_are_constant
    if reason is not None:
        raise ValueError(f"{label} would have no effect, because no gradient passes through the extractor's weights: {reason}")

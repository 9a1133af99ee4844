"""The loop that dynamic-routing extractors share (Sabour et al., "Dynamic Routing Between Capsules", NIPS 2017)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tfmi.layers.base import masked_softmax, squash

Freeze = Callable[[tf.Tensor], tf.Tensor]


class Routed(NamedTuple):
    """Outcome of routing.

    Attributes:
        capsules: float32 [B, K, d], norms below 1.
        weights: float32 [B, L, K], the coupling weights of the last iteration.
        logits: float32 [B, L, K], the logits behind them.
    """

    capsules: tf.Tensor
    weights: tf.Tensor
    logits: tf.Tensor


def route(
    logits: tf.Tensor,
    allowed: tf.Tensor,
    aggregate: Callable[[tf.Tensor, Freeze], tf.Tensor],
    agree: Callable[[tf.Tensor, Freeze], tf.Tensor],
    *,
    iterations: int,
    logit_update: str = "accumulate",
    stop_gradient_routing: bool = True,
) -> Routed:
    """Assign items to capsules by agreement, with a softmax over the capsules for each item.

    Args:
        logits: float32 [B, L, K], where routing starts.
        allowed: bool, broadcast to [B, L, K]: True where an item may flow into a capsule.
        aggregate: From weights [B, L, K] to sums [B, K, d] of the items' predictions. It applies its second argument, which stops
            gradients or lets them pass, to everything trainable that it reads.
        agree: From capsules [B, K, d] to their inner products [B, L, K] with the items' predictions; second argument as above.
        iterations: How often capsules are computed; the logits are updated one time less.
        logit_update: "accumulate" or "replace".
        stop_gradient_routing: True makes the weights constants for back-propagation; False lets the last update carry gradients.
    """
    weights = masked_softmax(logits, allowed)
    for updates_left in range(iterations - 1, 0, -1):
        freeze: Freeze = tf.identity if updates_left == 1 and not stop_gradient_routing else tf.stop_gradient
        agreement = agree(squash(aggregate(weights, freeze)), freeze)
        logits = logits + agreement if logit_update == "accumulate" else agreement
        weights = masked_softmax(logits, allowed)
    return Routed(squash(aggregate(weights, tf.identity)), weights, logits)

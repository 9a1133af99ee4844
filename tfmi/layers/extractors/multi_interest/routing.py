"""What routing extractors share: the loop and its random start (Sabour et al., "Dynamic Routing Between Capsules", NIPS 2017)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tfmi.layers.base import MASKED_LOGIT, InterestExtractor, squash
from tfmi.layers.common.arguments import require_at_least, require_choice
from tfmi.layers.common.randomness import RandomStream
from tfmi.layers.common.slots import first_slots, num_slots

Freeze = Callable[[tf.Tensor], tf.Tensor]


class Routed(NamedTuple):
    """Outcome of routing.

    Attributes:
        capsules: float32 [B, K, d], norms below 1.
        weights: float32 [B, K, L], the coupling weights of the last iteration.
        logits: float32 [B, K, L], the logits behind them.
    """

    capsules: tf.Tensor
    weights: tf.Tensor
    logits: tf.Tensor


def couple(logits: tf.Tensor, allowed: tf.Tensor) -> tf.Tensor:
    """Softmax over the capsules for each item: float32 [B, K, L], exactly 0 where not ``allowed``; arguments as ``route``'s.

    Written out because TensorFlow's softmax takes four times as long over an axis as short as K.
    """
    masked = tf.where(allowed, logits, MASKED_LOGIT)
    # The maximum cancels in the quotient, so no gradient need pass through it.
    exponentials = tf.exp(masked - tf.stop_gradient(tf.reduce_max(masked, axis=1, keepdims=True)))
    # What is not allowed beside something that is underflows to exactly 0; where nothing is, the item as a whole is multiplied by 0.
    inverse = 1.0 / tf.reduce_sum(exponentials, axis=1, keepdims=True)  # [B, 1, L]
    return exponentials * tf.where(tf.reduce_any(allowed, axis=1, keepdims=True), inverse, 0.0)


def route(
    logits: tf.Tensor,
    allowed: tf.Tensor,
    aggregate: Callable[[tf.Tensor, Freeze], tf.Tensor],
    agreement: Callable[[tf.Tensor, Freeze], tf.Tensor],
    *,
    iterations: int,
    logit_update: str = "accumulate",
    stop_gradient_routing: bool = True,
) -> Routed:
    """Assign items to capsules by agreement.

    Args:
        logits: float32 [B, K, L], where routing starts.
        allowed: bool, broadcast to [B, K, L]: True where an item may flow into a capsule.
        aggregate: From weights [B, K, L] to sums [B, K, d] of the items' predictions. It applies its second argument, which stops
            gradients or lets them pass, to everything trainable that it reads.
        agreement: From weights to the inner products [B, K, L] of the capsules that they give, ``squash(aggregate(weights))``, with the
            items' predictions; second argument as above.
        iterations: How often capsules are computed; the logits are updated one time less.
        logit_update: "accumulate" or "replace".
        stop_gradient_routing: True makes the weights constants for back-propagation; False lets the last update carry gradients.
    """
    weights = couple(logits, allowed)
    for updates_left in range(iterations - 1, 0, -1):
        freeze: Freeze = tf.identity if updates_left == 1 and not stop_gradient_routing else tf.stop_gradient
        agreed = agreement(weights, freeze)
        logits = logits + agreed if logit_update == "accumulate" else agreed
        weights = couple(logits, allowed)
    return Routed(squash(aggregate(weights, tf.identity)), weights, logits)


def require_updates(iterations: int, stop_gradient_routing: bool) -> None:
    """Raise ``ValueError`` if gradients are to pass through an update of the logits, but there is none."""
    if not stop_gradient_routing and iterations < 2:
        raise ValueError("stop_gradient_routing=False needs iterations of at least 2: one iteration never updates its logits")


def why_routing_is_constant(stop_gradient_routing: bool) -> str | None:
    """What a routing extractor answers as ``why_weights_are_constant``."""
    return "its routing is not back-propagated through; set stop_gradient_routing: false" if stop_gradient_routing else None


class RandomStartRouting(InterestExtractor):
    """Base of extractors whose routing starts from normal noise: another draw for every training batch, and at inference always the same.

    The draw of inference is made at build and saved with the weights, so that the same history always gives the same interests.

    Args:
        num_interests: K, the largest number of interests.
        logit_deviation: Standard deviation of the noise.
        routing_init: Noise in training: "random" draws it again for every batch, "fixed" uses the noise of inference.
        max_length: Longest history that will ever be given; None takes the length of the first input.
        seed: Seed of the noise.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(
        self, num_interests: int, *, logit_deviation: float, routing_init: str, max_length: int | None, seed: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        require_at_least(1, num_interests=num_interests, max_length=max_length)
        require_at_least(0, logit_deviation=logit_deviation)
        require_choice(("random", "fixed"), routing_init=routing_init)
        self._noise = RandomStream(seed, "routing logits of a training batch")

    def build(self, input_shape: Any) -> None:
        """Create the noise [max_length, K] that inference starts from."""
        # Routing runs in float32 whatever the policy, hence no autocast.
        self.fixed_logits = self.add_weight(
            "fixed_logits",
            [num_slots(input_shape, self.max_length), self.num_interests],
            initializer=tf.keras.initializers.RandomNormal(stddev=self.logit_deviation, seed=self.seed),
            trainable=False,
            experimental_autocast=False,
        )
        super().build(input_shape)

    def starting_logits(self, history: tf.Tensor, training: bool | None, given: tf.Tensor | None) -> tf.Tensor:
        """Logits float32 [B, K, L] before the first iteration.

        Args:
            history: [B, L, d].
            training: Whether to draw noise.
            given: [B, K, L] to start from instead of noise, or None; no gradient reaches them.
        """
        shape = tf.shape(history)
        if given is not None:
            return tf.stop_gradient(tf.cast(given, tf.float32))
        if training and self.routing_init == "random":
            return self._noise.quick_normal([shape[0], self.num_interests, shape[1]], self.logit_deviation)
        fixed = tf.transpose(first_slots(self.fixed_logits, history))  # [K, L]
        return tf.broadcast_to(fixed, [shape[0], self.num_interests, shape[1]])

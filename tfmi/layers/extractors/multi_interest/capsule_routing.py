"""MIND's behaviour-to-interest (B2I) dynamic routing."""

from __future__ import annotations

from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.base import EXTRACTORS, InterestOutput, num_real_items, squashing, zero_padding
from tfmi.layers.common.arguments import require_at_least, require_choice
from tfmi.layers.common.initializers import NearIdentity
from tfmi.layers.extractors.multi_interest.routing import Freeze, RandomStartRouting, require_updates, route, why_routing_is_constant

_LARGEST_THRESHOLD = tf.int32.max


def adaptive_interests(mask: tf.Tensor, num_interests: int) -> tf.Tensor:
    """Which interests a history is long enough for: bool [B, K], the first ``max(1, min(K, floor(log2(n))))`` of n real items.

    Thresholds on the integer n replace the logarithm, whose rounding would give 2 for n = 8 on some machines.

    Args:
        mask: bool [B, L], True at real items.
        num_interests: K.
    """
    thresholds = [0] + [min(2 ** (interest + 1), _LARGEST_THRESHOLD) for interest in range(1, num_interests)]
    return num_real_items(mask)[:, None] >= tf.constant(thresholds)  # [B, K]


def _gram(matrix: tf.Tensor) -> tf.Tensor:
    """G, [d, d]; ``matrix`` is applied from the right."""
    return tf.matmul(matrix, matrix, transpose_b=True)


@EXTRACTORS.register("capsule_routing")
class CapsuleRouting(RandomStartRouting):
    r"""Clusters a history into interest capsules by dynamic routing with one transformation S shared by all pairs.

    With ``b`` the routing logits, ``e`` the history's items and ``r`` iterations::

        w = softmax of b over the active interests, 0 at padding           [B, K, L]
        u = squash(sum over l of w[:, l] * S e[l])                         [B, K, d]
        b = b + u . S e      (all but the last iteration)

    Couplings come from routing, not from back-propagation: gradients reach items and S through the last sum only. The logits start
    as normal noise, because equal logits would keep all capsules equal for ever; inference starts from one noise drawn at build and
    saved with the weights, so that the same history always gives the same interests.

    ``internals`` holds ``"routing"`` (the last coupling weights, as ``weights``) and ``"logits"`` (those behind them), both float32
    [B, K, L].

    Paper: Li et al., "Multi-Interest Network with Dynamic Routing for Recommendation at Tmall", CIKM 2019, B2I dynamic
    routing.

    Example:
        >>> output = CapsuleRouting(num_interests=2)(tf.ones([1, 5, 8]), tf.ones([1, 5], tf.bool))
        >>> output.interests.shape
        TensorShape([1, 2, 8])

    Args:
        num_interests: K, the largest number of interests.
        iterations: Routing iterations r.
        logit_deviation: Standard deviation of the initial logits.
        initializer_deviation: Standard deviation of the initial S; None takes 1 / sqrt(d).
        initial_identity: Added to the diagonal of the initial S. With 1 the first capsules are sums of the items themselves and start
            near the items they came from.
        adaptive: Give a history of n items ``max(1, min(K, floor(log2(n))))`` active interests; otherwise all K are active.
        logit_update: "accumulate" adds each agreement to the logits (Algorithm 1), "replace" forgets the logits before it (Eq. 8).
        routing_init: Noise in training: "random" draws it again for every batch, "fixed" uses the noise of inference.
        stop_gradient_routing: False lets the last update of the logits carry gradients, for regularisers of the routing weights.
        max_length: Longest history that will ever be given; None takes the length of the first input.
        seed: Seed of the noise.

    Raises:
        ValueError: An argument out of its range, or a history longer than ``max_length``.
    """

    def __init__(
        self,
        num_interests: int = 4,
        *,
        iterations: int = 3,
        logit_deviation: float = 1.0,
        initializer_deviation: float | None = None,
        initial_identity: float = 0.0,
        adaptive: bool = True,
        logit_update: Literal["accumulate", "replace"] = "accumulate",
        routing_init: Literal["random", "fixed"] = "random",
        stop_gradient_routing: bool = True,
        max_length: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_interests, logit_deviation=logit_deviation, routing_init=routing_init, max_length=max_length, seed=seed, **kwargs
        )
        require_at_least(1, iterations=iterations)
        require_at_least(0, initializer_deviation=initializer_deviation)
        require_choice(("accumulate", "replace"), logit_update=logit_update)
        require_updates(iterations, stop_gradient_routing)

    @property
    def why_weights_are_constant(self) -> str | None:
        """The routing, unless ``stop_gradient_routing`` is False."""
        return why_routing_is_constant(self.stop_gradient_routing)

    def build(self, input_shape: Any) -> None:
        """Create S [d, d] and the noise [max_length, K] that inference starts from."""
        dimension = int(input_shape[-1])
        # Routing runs in float32 whatever the policy, hence no autocast.
        self.transformation = self.add_weight(
            "transformation",
            [dimension, dimension],
            initializer=NearIdentity(self.initial_identity, self.initializer_deviation or dimension**-0.5),
            experimental_autocast=False,
        )
        super().build(input_shape)

    def call(
        self, history: tf.Tensor, mask: tf.Tensor, training: bool | None = None, initial_logits: tf.Tensor | None = None
    ) -> InterestOutput:
        """Route a history.

        Args:
            history: [B, L, d] item vectors.
            mask: bool [B, L], True at real items.
            training: Whether to draw noise.
            initial_logits: [B, K, L] to start from instead of noise; no gradient reaches them.

        Returns:
            Interests of norm below 1, [B, K, d]; 0 beyond the active ones, and 0 for an empty history.
        """
        items = tf.cast(zero_padding(history, mask), tf.float32)  # [B, L, d]
        if self.adaptive:
            active = adaptive_interests(mask, self.num_interests)  # [B, K]
        else:
            active = tf.ones([tf.shape(mask)[0], self.num_interests], tf.bool)  # [B, K]

        # S is applied to the K sums instead of the L items, which is the same by linearity and cheaper, most of all backwards.
        def aggregate(weights: tf.Tensor, freeze: Freeze) -> tf.Tensor:
            pooled = tf.matmul(weights, freeze(items))  # [B, K, d]
            # tensordot is one matrix product, backwards too; einsum's gradient by the matrix takes four times as long.
            return tf.tensordot(pooled, freeze(self.transformation), axes=1)  # [B, K, d]

        # With G = S' S a sum p of items has |S p|^2 = p . G p, and S p . S e = G p . e: an update needs one product by a matrix instead of
        # two, by S and by S'.
        frozen_gram = _gram(tf.stop_gradient(self.transformation)) if self.iterations > 1 else None

        def agreement(weights: tf.Tensor, freeze: Freeze) -> tf.Tensor:
            pooled = tf.matmul(weights, freeze(items))  # [B, K, d]
            gram = frozen_gram if freeze is tf.stop_gradient else _gram(self.transformation)
            directions = tf.tensordot(pooled, gram, axes=1)  # [B, K, d]
            squared_norm = tf.maximum(tf.reduce_sum(pooled * directions, axis=-1, keepdims=True), 0.0)
            return tf.matmul(squashing(squared_norm) * directions, freeze(items), transpose_b=True)  # [B, K, L]

        routed = route(
            self.starting_logits(history, training, initial_logits),
            active[:, :, None] & mask[:, None, :],
            aggregate,
            agreement,
            iterations=self.iterations,
            logit_update=self.logit_update,
            stop_gradient_routing=self.stop_gradient_routing,
        )
        internals = {"routing": routed.weights, "logits": routed.logits}
        return InterestOutput(tf.cast(routed.capsules, self.compute_dtype), active, routed.weights, internals)

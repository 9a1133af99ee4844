"""ComiRec-DR's dynamic routing with a matrix of its own for every position and interest."""

from __future__ import annotations

from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput, squash, zero_padding
from tfmi.layers.common.arguments import require_at_least, require_choice
from tfmi.layers.common.initializers import NearIdentity
from tfmi.layers.common.positions import items_after
from tfmi.layers.common.slots import first_slots, num_slots
from tfmi.layers.extractors.multi_interest.routing import Freeze, require_updates, route, why_routing_is_constant


@EXTRACTORS.register("comirec_routing")
class ComiRecRouting(InterestExtractor):
    r"""Routes items into K capsules as CapsNet does: item l predicts capsule k through a matrix W[l, k] of its own.

    With ``b`` the routing logits, which start at 0, and ``e`` the history's items::

        c = softmax of b over the interests, 0 at padding                  [B, K, L]
        v = squash(sum over l of c[:, l] * W[l] e[l])                      [B, K, d]
        b = b + v . W e      (all but the last iteration)

    A matrix per position makes the layer aware of order, and costs L K d^2 weights. Gradients reach items and matrices through the
    last sum only. All K interests are active.

    ``internals`` holds ``"routing"`` (the last coupling weights, as ``weights``) and ``"logits"`` (those behind them), both float32
    [B, K, L].

    Paper: Cen et al., "Controllable Multi-Interest Framework for Recommendation", KDD 2020, dynamic routing (ComiRec-DR).

    Example:
        >>> output = ComiRecRouting(num_interests=2)(tf.ones([1, 5, 8]), tf.ones([1, 5], tf.bool))
        >>> output.interests.shape
        TensorShape([1, 2, 8])

    Args:
        num_interests: K.
        iterations: Routing iterations.
        initializer_deviation: Standard deviation of the initial matrices. With small ones the capsules start alike, and a hard
            readout trains the first of them only.
        initial_identity: Added to the diagonals of the initial matrices. With 1 the first capsules are sums of the items themselves
            and start near the items they came from; with the paper's 0 they start in random directions.
        positions: "oldest" counts the matrices' positions from the oldest item of the window, as the paper's code; "newest" from the
            newest, so that one matrix always means the same age.
        stop_gradient_routing: False lets the last update of the logits carry gradients, for regularisers of the routing weights.
        max_length: Longest history that will ever be given; None takes the length of the first input.

    Raises:
        ValueError: An argument out of its range, or a history longer than ``max_length``.
    """

    def __init__(
        self,
        num_interests: int = 4,
        *,
        iterations: int = 3,
        initializer_deviation: float = 1.0,
        initial_identity: float = 0.0,
        positions: Literal["oldest", "newest"] = "oldest",
        stop_gradient_routing: bool = True,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least(1, num_interests=num_interests, iterations=iterations, max_length=max_length)
        require_at_least(0, initializer_deviation=initializer_deviation)
        require_choice(("oldest", "newest"), positions=positions)
        require_updates(iterations, stop_gradient_routing)

    @property
    def why_weights_are_constant(self) -> str | None:
        """The routing, unless ``stop_gradient_routing`` is False."""
        return why_routing_is_constant(self.stop_gradient_routing)

    def build(self, input_shape: Any) -> None:
        """Create the matrices, [max_length, d, K, d]: W[l, k] is ``matrices[l, :, k, :]``."""
        dimension = int(input_shape[-1])
        # The input dimension stands before K, so that all matrices of a position are one [d, K d] operand without a transpose.
        self.matrices = self.add_weight(
            "matrices",
            [num_slots(input_shape, self.max_length), dimension, self.num_interests, dimension],
            initializer=NearIdentity(self.initial_identity, self.initializer_deviation, input_axis=1, output_axis=3),
            experimental_autocast=False,  # routing runs in float32 whatever the policy
        )
        super().build(input_shape)

    def call(self, history: tf.Tensor, mask: tf.Tensor, training: bool | None = None) -> InterestOutput:
        """Route a history.

        Args:
            history: [B, L, d] item vectors.
            mask: bool [B, L], True at real items.
            training: Changes nothing here.

        Returns:
            Interests of norm below 1, [B, K, d]; 0 for an empty history.
        """
        items = tf.cast(zero_padding(history, mask), tf.float32)  # [B, L, d]
        if self.positions == "newest":
            slots = tf.where(mask, items_after(mask), tf.shape(mask)[1])  # [B, L]: the matrix of each item
            order = tf.argsort(slots, axis=1, stable=True)  # [B, L]: the item at each matrix
            items, mask = tf.gather(items, order, batch_dims=1), tf.gather(mask, order, batch_dims=1)
        predictions = self._predictions(items)  # [B, K, L, d]

        def aggregate(weights: tf.Tensor, freeze: Freeze) -> tf.Tensor:
            return tf.squeeze(tf.matmul(weights[:, :, None, :], freeze(predictions)), axis=2)  # [B, K, d]

        def agreement(weights: tf.Tensor, freeze: Freeze) -> tf.Tensor:
            capsules = squash(aggregate(weights, freeze))
            return tf.squeeze(tf.matmul(freeze(predictions), capsules[..., None]), axis=3)  # [B, K, L]

        batch = tf.shape(mask)[0]
        routed = route(
            tf.zeros([batch, self.num_interests, tf.shape(mask)[1]]),
            mask[:, None, :],
            aggregate,
            agreement,
            iterations=self.iterations,
            stop_gradient_routing=self.stop_gradient_routing,
        )
        active = tf.ones([batch, self.num_interests], tf.bool)
        weights, logits = routed.weights, routed.logits  # [B, K, L]
        if self.positions == "newest":
            place = tf.argsort(order, axis=1)[:, None, :] + tf.zeros_like(logits, tf.int32)  # [B, K, L]: the matrix of each item
            weights, logits = tf.gather(weights, place, batch_dims=2), tf.gather(logits, place, batch_dims=2)
        return InterestOutput(tf.cast(routed.capsules, self.compute_dtype), active, weights, {"routing": weights, "logits": logits})

    def _predictions(self, items: tf.Tensor) -> tf.Tensor:
        """Every item's prediction of every capsule, [B, K, L, d]."""
        matrices = first_slots(self.matrices, items)  # [L, d, K, d]
        _, dimension, num_interests, width = matrices.shape
        flat = tf.reshape(matrices, [-1, dimension, num_interests * width])
        predictions = tf.matmul(tf.transpose(items, [1, 0, 2]), flat)  # [L, B, K d]
        length, batch, _ = tf.unstack(tf.shape(predictions))
        return tf.transpose(tf.reshape(predictions, [length, batch, num_interests, width]), [1, 2, 0, 3])

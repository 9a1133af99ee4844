"""Octopus' usage network: how probable it is that a user's next item belongs to each of the interests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from tfmi.layers.base import MASKED_LOGIT, InterestExtractor, InterestOutput, Readout, masked_softmax, num_real_items
from tfmi.layers.common.arguments import require_at_least
from tfmi.losses.base import REGULARIZERS, BatchContext, Regularizer


@REGULARIZERS.register("interest_usage")
class InterestUsage(Regularizer):
    r"""Learns each interest's share of a user's consumption, for interests that are allotted places by it (``index.integration``)::

        phi_k = [mu_k ; h_k ; log(1 + n_k) ; n_k / n]                      [B, K, 2 d + 2]
        r     = softmax over the active interests of MLP(phi_k)            [B, K]
        loss  = -log r at the interest nearest to the target

    mu is the scored interest. h is what the interest stands for: its channel, where the extractor has channels (``elastic_archive``),
    else a trained vector of its slot. n_k counts the items of the history of which interest k has the largest weight (in Octopus: the
    channel's items), n all items. The MLP has one hidden layer of ReLUs, the same for every interest.

    No gradient leaves this network, so that training it leaves everything else as it was, bit for bit; with
    ``optimizer.clip_norm`` its gradient counts in the global norm. It works with every extractor of more than one interest.

    Paper: Liu et al., "Octopus: Comprehensive and Elastic User Representation for the Generation of Recommendation Candidates", SIGIR
    2020, candidates integration: allotted. The features and the network are this package's, and so is training it beside the model instead
    of afterwards.

    Args:
        hidden_dimension: Width of the hidden layer; None takes d.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(self, hidden_dimension: int | None = None, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)  # float32 whatever the policy, weights included
        require_at_least(1, hidden_dimension=hidden_dimension)

    def check(self, extractor: InterestExtractor) -> None:
        """Raise ``ValueError`` if there is only one interest to use."""
        if extractor.num_interests == 1:
            raise ValueError(f"interest_usage would have no effect: {type(extractor).__name__} gives one interest, whose share is always 1")

    def build(self, input_shape: Any) -> None:
        """Create the MLP and, for extractors without channels, a vector [K, d] for each slot."""
        _, num_interests, dimension = (int(size or 0) for size in input_shape.interests)
        hidden = self.hidden_dimension or dimension
        if "channels" not in input_shape.output.internals:
            self.slot_vectors = self.add_weight(
                "slot_vectors", [num_interests, dimension], initializer="glorot_uniform", experimental_autocast=False
            )
        self.hidden_kernel = self.add_weight(
            "hidden_kernel", [2 * dimension + 2, hidden], initializer="glorot_uniform", experimental_autocast=False
        )
        self.hidden_bias = self.add_weight("hidden_bias", [hidden], initializer="zeros", experimental_autocast=False)
        # A bias of the logits would cancel in the softmax.
        self.output_kernel = self.add_weight("output_kernel", [hidden, 1], initializer="glorot_uniform", experimental_autocast=False)
        super().build(input_shape)

    def call(self, context: BatchContext, training: bool | None = None) -> tf.Tensor:
        """The mean cross-entropy, a float32 scalar."""
        active = context.output.active
        logits = self._logits(context.output, context.interests, context.mask)  # [B, K]
        scores = tf.cast(tf.matmul(context.interests, context.target[:, :, None])[:, :, 0], tf.float32)  # [B, K]
        nearest = tf.argmax(tf.where(active, scores, scores.dtype.min), axis=1, output_type=tf.int32)  # [B]
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(nearest, tf.where(active, logits, MASKED_LOGIT))
        return tf.reduce_mean(losses)

    def shares(self, output: InterestOutput, interests: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Each interest's share of what a user consumes next, once the network is built.

        Args:
            output: The extractor's output.
            interests: [B, K, d], the scored interests.
            mask: bool [B, L], True at the real items of the history.

        Returns:
            float32 [B, K], summing to 1 over the active interests; 0 at the others.
        """
        return masked_softmax(self._logits(output, interests, mask), output.active)

    def _logits(self, output: InterestOutput, interests: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """float32 [B, K]."""
        interests = tf.cast(tf.stop_gradient(interests), tf.float32)  # [B, K, d]
        counts = tf.cast(items_of_interests(tf.stop_gradient(output.weights)), tf.float32)  # [B, K]
        shares = tf.math.divide_no_nan(counts, tf.cast(num_real_items(mask), tf.float32)[:, None])
        numbers = tf.stack([tf.math.log1p(counts), shares], axis=2)  # [B, K, 2]
        features = tf.concat([interests, self._meanings(output, interests), numbers], axis=2)  # [B, K, 2 d + 2]
        hidden = tf.nn.relu(tf.tensordot(features, self.hidden_kernel, axes=1) + self.hidden_bias)
        return tf.tensordot(hidden, self.output_kernel, axes=1)[:, :, 0]

    def _meanings(self, output: InterestOutput, interests: tf.Tensor) -> tf.Tensor:
        """h float32 [B, K, d]: the vectors of the interests' channels, or of their slots."""
        if "channels" not in output.internals:
            return tf.broadcast_to(self.slot_vectors, tf.shape(interests))
        channels = output.internals["channels"]
        vectors = tf.stop_gradient(output.internals["channel_vectors"])
        return tf.where(channels[:, :, None] >= 0, tf.gather(vectors, tf.maximum(channels, 0)), 0.0)


def usage_network(regularizers: Iterable[Regularizer], readout: Readout) -> InterestUsage:
    """The one usage network among a model's regularisers.

    Raises:
        ValueError: There is none or several, or the readout serves something else than the interests whose usage it learns.
    """
    networks = [regularizer for regularizer in regularizers if isinstance(regularizer, InterestUsage)]
    if len(networks) != 1:
        raise ValueError(
            "allotting places to interests needs one interest_usage, which learns how much each is used, found "
            f"{len(networks)}; add the regulariser interest_usage, or let interests compete"
        )
    if not readout.serves_interests:
        raise ValueError(
            f"{type(readout).__name__} serves a mixture of the interests, to which no places can be allotted; let interests compete, or "
            "take a readout that serves the interests"
        )
    return networks[0]


def items_of_interests(weights: tf.Tensor) -> tf.Tensor:
    """int32 [B, K]: of how many items of weights [B, K, L] each interest has the largest weight above 0, ties to the lower interest."""
    largest = tf.argmax(weights, axis=1, output_type=tf.int32)  # [B, L]
    belongs = tf.where(tf.reduce_max(weights, axis=1) > 0.0, largest, -1)
    return tf.reduce_sum(tf.one_hot(belongs, weights.shape[1], dtype=tf.int32), axis=1)

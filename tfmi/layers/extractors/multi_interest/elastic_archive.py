"""Octopus' elastic archive: many channels, of which a user activates those that the items of the history belong to."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import tensorflow as tf

from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput, masked_softmax, zero_padding
from tfmi.layers.common.arguments import require_at_least, require_choice

log = logging.getLogger(__name__)

# Stands for a channel where there is none: at padding, and at inactive interests.
NO_CHANNEL = -1


@tf.keras.utils.register_keras_serializable(package="tfmi")
class OrthonormalRows(tf.keras.initializers.Initializer):
    """Rows of length 1 that are orthogonal to each other. More rows than columns cannot be: then each block of d rows is orthonormal."""

    def __call__(self, shape: Sequence[int], dtype: tf.DType | None = None, **kwargs: Any) -> tf.Tensor:
        """Values [rows, columns]."""
        rows, columns = (int(size) for size in shape)
        blocks = [
            # An initialiser of its own for each block: one that is called again would repeat itself.
            tf.keras.initializers.Orthogonal()([min(columns, rows - start), columns], dtype=dtype, **kwargs)
            for start in range(0, rows, columns)
        ]
        return tf.concat(blocks, axis=0)

    def get_config(self) -> dict[str, Any]:
        """There is nothing to configure."""
        return {}


@EXTRACTORS.register("elastic_archive")
class ElasticArchive(InterestExtractor):
    r"""Puts every item into exactly one of M channels, and sums up each channel's items with the channel as the query::

        g(i)  = argmax over the M channels m of x_i . h_m
        a_im  = exp(x_i . h_m) / sum over the items j of channel m of exp(x_j . h_m)      where g(i) = m, else 0
        mu_m  = sum over i of a_im x_i                                                   [B, K, d]

    A user's interests are the channels that hold at least one item, by rising m: their number and their kinds differ from user to user.
    Items of other channels never touch an interest, and no order of the items is used. Where more than ``max_channels`` channels hold
    items, those with the most items are kept, ties going to the larger sum over i of ``a_im (x_i . h_m)``, then to the lower m; items
    of the others reach no interest. An empty history gives one interest of zeros, of no channel.

    The argmax has no gradient: a channel learns from the attention in its groups of two and more items, and from a regulariser such as
    ``channel_orthogonality``. Apart from the scores [B, L, M] nothing grows with M.

    ``internals`` holds ``"channels"``, int32 [B, K], the channel of each interest, -1 where inactive; ``"assignment"``, int32 [B, L], the
    channel of each item, -1 at padding; ``"channel_vectors"``, float32 [M, d].

    Paper: Liu et al., "Octopus: Comprehensive and Elastic User Representation for the Generation of Recommendation Candidates", SIGIR
    2020, elastic archive network. The cap, the temperature and both options of the assignment are this package's.

    Example:
        >>> output = ElasticArchive(num_channels=8, max_channels=3)(tf.ones([1, 5, 8]), tf.ones([1, 5], tf.bool))
        >>> output.active.numpy().tolist()
        [[True, False, False]]

    Args:
        num_channels: M. Up to d channels start orthonormal; more start as blocks of orthonormal ones, with a warning.
        max_channels: The most interests of a user; K is the smaller one of this and M. As many as a history has items is no bound.
        attention: "inner_product", or "cosine", which divides by the lengths of item and channel.
        temperature: Scores are divided by it.
        assignment_normalize: Assign by cosine whatever ``attention`` is, so that no channel attracts items by being long. (An item's own
            length cannot change which channel is best.)
        assignment_grad: "none", or "straight_through", which multiplies each item's contribution by ``p - stop_gradient(p) + 1`` with
            p its probability of the channel, a softmax over the M scores: values stay, and the choice of the channel has a gradient.

    Raises:
        ValueError: An argument out of its range, or one without effect.
    """

    INTERESTS_PARAMETER: ClassVar[str] = "max_channels"
    INTERNALS: ClassVar[tuple[str, ...]] = ("channels", "assignment", "channel_vectors")

    def __init__(
        self,
        num_channels: int = 64,
        *,
        max_channels: int = 8,
        attention: Literal["inner_product", "cosine"] = "inner_product",
        temperature: float = 1.0,
        assignment_normalize: bool = False,
        assignment_grad: Literal["none", "straight_through"] = "none",
        **kwargs: Any,
    ) -> None:
        # Items come as precise as they are: rounding them to the policy's type would move some to another channel.
        super().__init__(autocast=False, **kwargs)
        require_at_least(1, num_channels=num_channels, max_channels=max_channels)
        require_choice(("inner_product", "cosine"), attention=attention)
        require_choice(("none", "straight_through"), assignment_grad=assignment_grad)
        if not temperature > 0:
            raise ValueError(f"temperature: expected a number above 0, got {temperature}")
        if assignment_normalize and attention == "cosine":
            raise ValueError("assignment_normalize: expected False with attention 'cosine', which assigns by cosine already, got True")
        self.num_interests = min(max_channels, num_channels)

    def build(self, input_shape: Any) -> None:
        """Create the channels [M, d]."""
        dimension = int(input_shape[-1])
        if self.num_channels > dimension:
            log.warning("elastic_archive: %d channels cannot all be orthogonal in %d dimensions", self.num_channels, dimension)
        self.channels = self.add_weight(
            "channels", [self.num_channels, dimension], initializer=OrthonormalRows(), experimental_autocast=False
        )
        super().build(input_shape)

    def call(self, history: tf.Tensor, mask: tf.Tensor, training: bool | None = None) -> InterestOutput:
        """Sort a history into channels.

        Args:
            history: [B, L, d] item vectors.
            mask: bool [B, L], True at real items.
            training: Changes nothing here.

        Returns:
            Interests [B, K, d], in which each active channel's items have weights that sum to 1.
        """
        items = tf.cast(zero_padding(history, mask), tf.float32)  # [B, L, d]
        scores = self._scores(items, self.attention == "cosine")  # [B, L, M]
        assigning = self._scores(items, True) if self.assignment_normalize else scores  # [B, L, M]
        best = tf.argmax(assigning, axis=2, output_type=tf.int32)  # [B, L]
        logits = tf.gather(scores, best, batch_dims=2)  # [B, L] each item's score in its own channel
        assignment = tf.where(mask, best, NO_CHANNEL)  # [B, L]
        channels = largest_channels(assignment, logits, self.num_channels, self.num_interests)  # [B, K]
        members = mask[:, None, :] & (assignment[:, None, :] == channels[:, :, None])  # [B, K, L]
        weights = masked_softmax(logits[:, None, :], members)  # [B, K, L]
        if self.assignment_grad == "straight_through":
            probability = tf.gather(tf.nn.softmax(assigning), best, batch_dims=2)  # [B, L]
            weights *= (probability - tf.stop_gradient(probability) + 1.0)[:, None, :]
        interests = tf.matmul(weights, items)  # [B, K, d]
        # Interest 0 is active by contract, even of an empty history.
        active = tf.concat([tf.ones_like(mask[:, :1]), channels[:, 1:] != NO_CHANNEL], axis=1)  # [B, K]
        internals = {"channels": channels, "assignment": assignment, "channel_vectors": tf.convert_to_tensor(self.channels)}
        return InterestOutput(tf.cast(interests, self.compute_dtype), active, weights, internals)

    def _scores(self, items: tf.Tensor, by_cosine: bool) -> tf.Tensor:
        """[B, L, M]: how near each item is to each channel."""
        channels = tf.convert_to_tensor(self.channels)
        if by_cosine:
            items, channels = tf.math.l2_normalize(items, axis=-1), tf.math.l2_normalize(channels, axis=-1)
        return tf.tensordot(items, channels, axes=[[2], [1]]) / self.temperature


def largest_channels(assignment: tf.Tensor, logits: tf.Tensor, num_channels: int, k: int) -> tf.Tensor:
    """The channels with the most items, ties to the larger mean logit by the channel's own attention, then to the lower channel.

    Args:
        assignment: int32 [B, L], the channel of each item, -1 at padding.
        logits: float32 [B, L], each item's score in its channel.
        num_channels: M.
        k: How many to keep, at most M.

    Returns:
        int32 [B, k], the kept channels that hold items, rising; -1 stands for the others, at the end.
    """
    logits = tf.stop_gradient(logits)[:, :, None]  # [B, L, 1]
    members = tf.one_hot(assignment, num_channels, on_value=True, off_value=False)  # [B, L, M], all False at padding
    sizes = tf.reduce_sum(tf.cast(members, tf.int32), axis=1)  # [B, M]
    attended = tf.reduce_sum(masked_softmax(logits, members, axis=1) * logits, axis=1)  # [B, M]
    # Sorting by the lesser criterion first: both sorts keep the order of equals.
    by_attended = tf.argsort(attended, axis=1, direction="DESCENDING", stable=True)
    largest_sizes, places = tf.math.top_k(tf.gather(sizes, by_attended, batch_dims=1), k)
    largest = tf.gather(by_attended, places, batch_dims=1)  # [B, k]
    rising = tf.sort(tf.where(largest_sizes > 0, largest, num_channels), axis=1)
    return tf.where(rising < num_channels, rising, NO_CHANNEL)

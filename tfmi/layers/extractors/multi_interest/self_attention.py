"""ComiRec-SA's self-attentive interests."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput, RealItems, masked_softmax, zero_padding
from tfmi.layers.common.arguments import require_at_least, require_choice
from tfmi.layers.common.initializers import initial_noise
from tfmi.layers.common.positions import items_after, not_newer
from tfmi.layers.common.slots import first_slots, num_slots


@EXTRACTORS.register("self_attentive")
class SelfAttentiveInterests(InterestExtractor):
    r"""K weighted means of a history, each with attention weights of its own::

        A = softmax over items of tanh((H + P) W1) W2                      [B, L, K]
        V = A^T H                                                          [B, K, d]

    The positions P only decide where to look: the values are the items themselves, so every interest lies in the convex hull of the
    history. An empty history gives zeros. All K interests are active.

    Re4's forward flow is the same with two more maps, each an option: a projection W3 of the values, and a transform of what is scored::

        Z = A^T H W3                                                       [B, K, d], "raw_interests"
        V = tanh(Z Wo + bo)                                                [B, K, d]

    ``internals`` holds ``"logits"``, float32 [B, K, L], and ``"raw_interests"``, float32 [B, K, d]: the interests before the output
    transform, which live where the items do (see ``raw_interests`` in ``tfmi/losses/regularizers/interest_items.py``).

    Papers: Cen et al., "Controllable Multi-Interest Framework for Recommendation", KDD 2020, self-attentive method (ComiRec-SA).
    Zhang et al., "Re4: Learning to Re-contrast, Re-attend, Re-construct for Multi-interest Recommendation", WWW 2022, forward flow; the
    output transform is in its published code only.

    Example:
        >>> output = SelfAttentiveInterests(num_interests=2)(tf.ones([1, 5, 8]), tf.ones([1, 5], tf.bool))
        >>> output.interests.shape
        TensorShape([1, 2, 8])

    Args:
        num_interests: K.
        hidden_dimension: Width of the attention's hidden layer; None takes 4 d.
        positions: "oldest" numbers the positions from the oldest item of the window, as the paper's code; "newest" from the newest
            item, so that one position always means the same age; "none" makes the history a set.
        use_bias: Add a bias before the tanh. One after it would cancel in the softmax.
        value_projection: Apply W3 to the values.
        output_transform: "tanh_dense" applies the transform above, "none" leaves Z as it is.
        identity_start: Start W3 and Wo at the identity, so that the first interests still are the items' means, or their tanh.
        initializer_deviation: Standard deviation of the other matrices at the start; None takes Glorot's. Re4's published code takes 1,
            with which the attention starts nearly one-hot.
        max_length: Longest history that will ever be given; None takes the length of the first input.

    Raises:
        ValueError: An argument out of its range, or a history longer than ``max_length``.
    """

    def __init__(
        self,
        num_interests: int = 4,
        *,
        hidden_dimension: int | None = None,
        positions: Literal["oldest", "newest", "none"] = "oldest",
        use_bias: bool = False,
        value_projection: bool = False,
        output_transform: Literal["none", "tanh_dense"] = "none",
        identity_start: bool = False,
        initializer_deviation: float | None = None,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least(1, num_interests=num_interests, hidden_dimension=hidden_dimension, max_length=max_length)
        require_at_least(0, initializer_deviation=initializer_deviation)
        require_choice(("oldest", "newest", "none"), positions=positions)
        require_choice(("none", "tanh_dense"), output_transform=output_transform)
        if identity_start and not value_projection and output_transform == "none":
            raise ValueError("identity_start: there is nothing to start; it needs value_projection or an output_transform")

    def build(self, input_shape: Any) -> None:
        """Create W1 [d, hidden], W2 [hidden, K], and, if asked for, P [max_length, d], the biases, W3 [d, d] and Wo [d, d]."""
        dimension = int(input_shape[-1])
        width = self.hidden_dimension or 4 * dimension
        noise = partial(initial_noise, self.initializer_deviation)
        self.hidden_kernel = self.add_weight("hidden_kernel", [dimension, width], initializer=noise())
        self.interest_kernel = self.add_weight("interest_kernel", [width, self.num_interests], initializer=noise())
        if self.use_bias:
            self.hidden_bias = self.add_weight("hidden_bias", [width], initializer="zeros")
        if self.positions != "none":
            slots = num_slots(input_shape, self.max_length)
            self.position_embeddings = self.add_weight("position_embeddings", [slots, dimension], initializer="glorot_uniform")
        # What follows the softmax runs in float32 whatever the policy, hence no autocast.
        square = [dimension, dimension]
        start = tf.keras.initializers.Identity if self.identity_start else noise
        if self.value_projection:
            self.value_kernel = self.add_weight("value_kernel", square, initializer=start(), experimental_autocast=False)
        if self.output_transform == "tanh_dense":
            self.output_kernel = self.add_weight("output_kernel", square, initializer=start(), experimental_autocast=False)
            self.output_bias = self.add_weight("output_bias", [dimension], initializer="zeros", experimental_autocast=False)
        super().build(input_shape)

    def call(self, history: tf.Tensor, mask: tf.Tensor, training: bool | None = None, every_item: bool = False) -> InterestOutput:
        """Attend to a history.

        Args:
            history: [B, L, d] item vectors.
            mask: bool [B, L], True at real items.
            training: Changes nothing here.
            every_item: Return the interests after every item.

        Returns:
            Interests [B, K, d], or [B, L, K, d].
        """
        history = zero_padding(history, mask)
        return self._attend(self._keys(history, mask), history, mask, every_item)

    @property
    def why_not_every_item(self) -> str | None:
        """Positions counted from the newest item change with every item that follows."""
        if self.positions == "newest":
            return "positions counted from the newest item change with every item that follows; set positions to oldest or none"
        return super().why_not_every_item

    def _attend(self, keys: tf.Tensor, history: tf.Tensor, mask: tf.Tensor, every_item: bool = False) -> InterestOutput:
        """Interests of ``history`` [B, L, d], which is 0 at padding, attended to by what ``keys`` [B, L, d] say of each item."""
        real = RealItems(mask)
        hidden = tf.matmul(real.rows(keys), self.hidden_kernel)  # [R, hidden], most of this layer's work
        if self.use_bias:
            hidden += self.hidden_bias
        logits = tf.transpose(real.spread(tf.matmul(tf.tanh(hidden), self.interest_kernel)), [0, 2, 1])  # [B, K, L]
        allowed = mask[:, None, :]
        if every_item:
            # An item's logits do not change, only which items are attended to: [B, L, K, L].
            logits, allowed = logits[:, None], (allowed & not_newer(mask))[:, :, None, :]
        weights = masked_softmax(logits, allowed)  # [B, K, L] or [B, L, K, L]
        raw_interests = tf.einsum("blks,bsd->blkd" if every_item else "bks,bsd->bkd", weights, tf.cast(history, tf.float32))
        if self.value_projection:
            # Applied to the K means instead of the L items, which is the same by linearity and cheaper.
            raw_interests = tf.tensordot(raw_interests, self.value_kernel, axes=1)
        interests = tf.cast(self._transform(raw_interests, mask if not every_item else mask[:, :, None]), self.compute_dtype)
        active = tf.ones(tf.shape(raw_interests)[:-1], tf.bool)
        logits = tf.cast(logits, tf.float32)
        internals = {"logits": tf.where(allowed, logits, 0.0) if every_item else logits, "raw_interests": raw_interests}
        return InterestOutput(interests, active, weights, internals)

    def _transform(self, raw_interests: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """What is scored, [..., K, d]; 0 for an empty history of ``mask`` [..., M], whatever the bias."""
        if self.output_transform == "none":
            return raw_interests
        transformed = tf.tanh(tf.tensordot(raw_interests, self.output_kernel, axes=1) + self.output_bias)
        return tf.where(tf.reduce_any(mask, axis=-1)[..., None, None], transformed, 0.0)

    def _keys(self, history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """What the attention looks at: the items with their positions, [B, L, d]."""
        if self.positions == "none":
            return history
        slots = first_slots(self.position_embeddings, history)  # [L, d]
        return history + (slots if self.positions == "oldest" else tf.gather(slots, items_after(mask)))

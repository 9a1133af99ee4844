"""ComiRec-SA's self-attentive interests."""

from __future__ import annotations

from typing import Any, Literal

import tensorflow as tf

from tfmi.layers.arguments import require_at_least, require_choice
from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput, masked_softmax, zero_padding
from tfmi.layers.positions import items_after
from tfmi.layers.slots import first_slots, num_slots


@EXTRACTORS.register("self_attentive")
class SelfAttentiveInterests(InterestExtractor):
    r"""K weighted means of a history, each with attention weights of its own::

        A = softmax over items of tanh((H + P) W1) W2                      [B, L, K]
        V = A^T H                                                          [B, K, d]

    The positions P only decide where to look: the values are the items themselves, so every interest lies in the convex hull of the
    history. An empty history gives zeros. All K interests are active.

    ``internals`` holds ``"logits"``, float32 [B, K, L].

    Paper: Cen et al., "Controllable Multi-Interest Framework for Recommendation", KDD 2020, self-attentive method (ComiRec-SA).

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
        max_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least(1, num_interests=num_interests, hidden_dimension=hidden_dimension, max_length=max_length)
        require_choice(("oldest", "newest", "none"), positions=positions)
        self.num_interests = num_interests
        self.hidden_dimension = hidden_dimension
        self.positions = positions
        self.use_bias = use_bias
        self.max_length = max_length

    def build(self, input_shape: Any) -> None:
        """Create W1 [d, hidden], W2 [hidden, K], and, if asked for, P [max_length, d] and the bias [hidden]."""
        dimension = int(input_shape[-1])
        width = self.hidden_dimension or 4 * dimension
        self.hidden_kernel = self.add_weight("hidden_kernel", [dimension, width], initializer="glorot_uniform")
        self.interest_kernel = self.add_weight("interest_kernel", [width, self.num_interests], initializer="glorot_uniform")
        if self.use_bias:
            self.hidden_bias = self.add_weight("hidden_bias", [width], initializer="zeros")
        if self.positions != "none":
            slots = num_slots(input_shape, self.max_length)
            self.position_embeddings = self.add_weight("position_embeddings", [slots, dimension], initializer="glorot_uniform")
        super().build(input_shape)

    def call(self, history: tf.Tensor, mask: tf.Tensor, training: bool | None = None) -> InterestOutput:
        """Attend to a history.

        Args:
            history: [B, L, d] item vectors.
            mask: bool [B, L], True at real items.
            training: Changes nothing here.

        Returns:
            Interests [B, K, d].
        """
        history = zero_padding(history, mask)
        hidden = tf.einsum("bld,dh->blh", self._keys(history, mask), self.hidden_kernel)
        if self.use_bias:
            hidden += self.hidden_bias
        logits = tf.einsum("blh,hk->bkl", tf.tanh(hidden), self.interest_kernel)
        weights = masked_softmax(logits, mask[:, None, :])  # [B, K, L]
        interests = tf.matmul(weights, tf.cast(history, tf.float32))  # [B, K, d]
        active = tf.ones([tf.shape(mask)[0], self.num_interests], tf.bool)
        return InterestOutput(tf.cast(interests, self.compute_dtype), active, weights, {"logits": tf.cast(logits, tf.float32)})

    def _keys(self, history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """What the attention looks at: the items with their positions, [B, L, d]."""
        if self.positions == "none":
            return history
        slots = first_slots(self.position_embeddings, history)  # [L, d]
        return history + (slots if self.positions == "oldest" else tf.gather(slots, items_after(mask)))

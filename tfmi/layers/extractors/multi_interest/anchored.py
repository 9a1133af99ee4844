"""Interests that share what a user's whole history says, and differ in what they add to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import tensorflow as tf

from tfmi.core.errors import ConfigError
from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput
from tfmi.layers.common.arguments import require_at_least, require_choice
from tfmi.layers.extractors.single_vector.mean_pooling import MeanPooling
from tfmi.layers.sequence_encoders.sequence_encoder import built


@EXTRACTORS.register("anchored")
class AnchoredInterests(InterestExtractor):
    r"""Any extractor's interests, each moved by an anchor that all of them share::

        v_k = z_k + a_k m                                                                            [B, K, d]

    with z_k the interests of ``extractor``, a_k learned, and m the recency-weighted mean of the history, or one more interest of the
    same extractor. An interest that stands for a part of a history forgets the rest: an item that fits all of it a little is scored by one
    part only, and loses to one that fits a single part well. Counting pairs shows how much that evidence is worth: a mean of item
    vectors scores an item by the sum of its similarities to all of the history. Here every interest keeps that sum, and adds what it
    knows better.

    ``weights`` are those of the interests z_k: what tells them apart. So are ``internals``, but none is promised: what needs some by name
    does not work with an anchored extractor, and a profile or times, where the data has them, are not handed on. Inactive interests stay 0.

    Source: no paper; this project's own.

    Example:
        >>> layer = AnchoredInterests(num_interests=2, extractor={"name": "self_attentive"})
        >>> layer(tf.ones([1, 5, 8]), tf.ones([1, 5], tf.bool)).interests.shape
        TensorShape([1, 2, 8])

    Args:
        num_interests: K, handed on to ``extractor``.
        extractor: What finds the interests, ``{"name": ..., parameter: value, ...}``: one that needs no profile and no timestamps. None
            takes ``self_attentive`` with positions counted from the newest item.
        anchor: "learned" asks the extractor for K + 1 interests, the first of which is m; "mean" takes ``sum over l of decay^age[l] e[l]``
            over the sum of the weights.
        recency_decay: For "mean": weight of an item relative to the one after it, above 0 and at most 1.
        anchor_start: a_k at the start.
        seed: Seed for an extractor that takes one.

    Raises:
        ValueError: An argument out of its range, or an extractor that cannot be anchored.
    """

    def __init__(
        self,
        num_interests: int = 4,
        *,
        extractor: dict[str, Any] | None = None,
        anchor: Literal["learned", "mean"] = "learned",
        recency_decay: float = 0.9,
        anchor_start: float = 1.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least(1, num_interests=num_interests)
        require_choice(("learned", "mean"), anchor=anchor)
        base_interests = num_interests + (anchor == "learned")
        self.base = _build_base(extractor or {"name": "self_attentive", "positions": "newest"}, base_interests, seed)
        self.mean = MeanPooling(recency_decay, name="mean")

    @property
    def why_weights_are_constant(self) -> str | None:
        """Where they are those of the base."""
        return self.base.why_weights_are_constant

    @property
    def why_not_every_item(self) -> str | None:
        """Where the base cannot."""
        return self.base.why_not_every_item

    def build(self, input_shape: Any) -> None:
        """Create a [K] and the base's weights."""
        built(self.base, input_shape)
        start = tf.keras.initializers.Constant(self.anchor_start)
        self.anchors = self.add_weight("anchors", [self.num_interests], initializer=start, experimental_autocast=False)
        super().build(input_shape)

    def call(self, history: tf.Tensor, mask: tf.Tensor, training: bool | None = None, every_item: bool = False) -> InterestOutput:
        """Find interests and anchor them.

        Args:
            history: [B, L, d] item vectors.
            mask: bool [B, L], True at real items.
            training: Whether the base's randomness is on.
            every_item: Return the interests after every item.

        Returns:
            Interests [B, K, d], or [B, L, K, d].
        """
        at_every_item = {"every_item": True} if every_item else {}
        output = self.base(history, mask, training=training, **at_every_item)
        if self.anchor == "learned":
            anchor, output = output.interests[..., :1, :], _without_first(output, axis=2 if every_item else 1)
        else:
            anchor = self.mean(history, mask, **at_every_item).interests  # [B, 1, d]
        moved = tf.cast(output.interests, tf.float32) + self.anchors[:, None] * tf.cast(anchor, tf.float32)  # [B, K, d]
        interests = tf.where(output.active[..., None], moved, 0.0)
        return output._replace(interests=tf.cast(interests, self.compute_dtype))


def _without_first(output: InterestOutput, axis: int) -> InterestOutput:
    """What is known of all interests but the first; interests are counted along ``axis``."""
    count = output.interests.shape[axis]

    def rest(values: tf.Tensor) -> tf.Tensor:
        return values[:, 1:] if axis == 1 else values[:, :, 1:]

    internals = {
        name: rest(value) if value.shape.rank == axis + 2 and value.shape[axis] == count else value
        for name, value in output.internals.items()
    }
    # Active interests come first: where there is one only, it is the anchor and the interest.
    others = rest(output.active)
    active = tf.concat([tf.ones_like(others[..., :1]), others[..., 1:]], axis=axis)
    return InterestOutput(rest(output.interests), active, rest(output.weights), internals)


def _build_base(spec: Mapping[str, Any], num_interests: int, seed: int) -> InterestExtractor:
    name = spec.get("name")
    try:
        known = EXTRACTORS.parameters(str(name))
        if "num_interests" in spec or "num_interests" not in known:
            raise ValueError(f"extractor: expected one with several interests, whose number is given beside it, got {dict(spec)!r}")
        given = {"seed": seed} if "seed" in known else {}
        base = EXTRACTORS.build({**given, **spec, "num_interests": num_interests}, "extractor")
    except ConfigError as error:
        raise ValueError(str(error)) from None
    if base.required_inputs():
        raise ValueError(f"extractor: {name} needs {', '.join(base.required_inputs())}, which anchored interests do not hand on")
    return base

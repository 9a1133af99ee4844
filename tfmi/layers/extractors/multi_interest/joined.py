"""The interests of several extractors side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.core.errors import ConfigError
from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput
from tfmi.layers.sequence_encoders.sequence_encoder import built

_DEFAULT_EXTRACTORS: tuple[dict[str, Any], ...] = ({"name": "newest_state"}, {"name": "mean_pooling", "recency_decay": 0.8})


@EXTRACTORS.register("joined")
class JoinedInterests(InterestExtractor):
    r"""What several extractors find in one history, each interest scaled by a learned gain::

        v = [g_1 a_1, .., g_M a_M],  a_m the interests of extractor m                                [B, sum of their K, d]

    Interests of one extractor differ by what it was started with, and soon find the same. Those of different ones differ by what they
    can know: a transformer's state knows the order, a mean of the items sums up what each of them is near to, as counting pairs does.
    With the readout ``mixture`` an item is found by whichever fits it; the gains put their scores on one scale.

    ``internals`` is empty. Active interests come first, of whatever extractor they are.

    Source: no paper; this project's own.

    Example:
        >>> layer = JoinedInterests([{"name": "mean_pooling"}, {"name": "mean_pooling", "recency_decay": 0.5}])
        >>> layer(tf.ones([1, 5, 8]), tf.ones([1, 5], tf.bool)).interests.shape
        TensorShape([1, 2, 8])

    Args:
        extractors: What finds them, ``{"name": ..., parameter: value, ...}`` each: two or more that need no profile and no timestamps.
            None takes a transformer and a mean that weighs by recency.
        num_interests: K: only the first so many interests are kept; None keeps all.
        gain_start: g at the start.
        seed: Extractors that take a seed get this one, the one a hundred after it, and so on, unless they set their own.

    Raises:
        ValueError: There are fewer than two extractors, or one that cannot be joined, or not as many interests as ``num_interests``.
    """

    def __init__(
        self,
        extractors: Sequence[dict[str, Any]] | None = None,
        *,
        num_interests: int | None = None,
        gain_start: float = 1.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        specs = _DEFAULT_EXTRACTORS if extractors is None else extractors
        if len(specs) < 2:
            raise ValueError(f"extractors: expected two or more to join, got {len(specs)}")
        # As text: of an attribute Keras would wrap the lists and dictionaries, and those of the caller with them.
        self._described = json.dumps(list(specs))
        parts = [_build_part(spec, number, seed + 100 * number) for number, spec in enumerate(specs)]
        ends = np.cumsum([part.num_interests for part in parts])
        if num_interests is not None and not 1 <= num_interests <= ends[-1]:
            raise ValueError(f"num_interests: expected 1 to {ends[-1]}, which the extractors give together, got {num_interests}")
        self.num_interests = int(ends[-1]) if num_interests is None else num_interests
        self.parts = parts[: int(np.searchsorted(ends, self.num_interests)) + 1]  # those that have a part in them

    @property
    def extractors(self) -> list[dict[str, Any]]:
        """The descriptions of all extractors, plain."""
        described: list[dict[str, Any]] = json.loads(self._described)
        return described

    @property
    def why_weights_are_constant(self) -> str | None:
        """Where any part's are."""
        return next((part.why_weights_are_constant for part in self.parts if part.why_weights_are_constant is not None), None)

    @property
    def why_not_every_item(self) -> str | None:
        """Where any part cannot."""
        return next((part.why_not_every_item for part in self.parts if part.why_not_every_item is not None), None)

    def build(self, input_shape: Any) -> None:
        """Create the gains [K] and the parts' weights."""
        for part in self.parts:
            built(part, input_shape)
        start = tf.keras.initializers.Constant(self.gain_start)
        self.gains = self.add_weight("gains", [self.num_interests], initializer=start, experimental_autocast=False)
        super().build(input_shape)

    def call(self, history: tf.Tensor, mask: tf.Tensor, training: bool | None = None, every_item: bool = False) -> InterestOutput:
        """Find the interests of every part.

        Args:
            history: [B, L, d] item vectors, real items first.
            mask: bool [B, L], True at real items.
            training: Whether the parts' randomness is on.
            every_item: Return the interests after every item.

        Returns:
            Interests [B, K, d], or [B, L, K, d].
        """
        axis = 2 if every_item else 1
        options = {"every_item": True} if every_item else {}
        outputs = [part(history, mask, training=training, **options) for part in self.parts]
        kept = (slice(None),) * axis + (slice(self.num_interests),)
        found, active, weights = (
            tf.concat([getattr(output, name) for output in outputs], axis=axis)[kept] for name in ("interests", "active", "weights")
        )
        scaled = tf.cast(tf.cast(found, tf.float32) * self.gains[:, None], self.compute_dtype)
        if all(part.num_interests == 1 for part in self.parts):  # the first interest of each is always active
            return InterestOutput(scaled, active, weights, {})
        order = tf.argsort(tf.cast(active, tf.int32), axis=axis, direction="DESCENDING", stable=True)
        scaled, active, weights = (tf.gather(values, order, axis=axis, batch_dims=axis) for values in (scaled, active, weights))
        return InterestOutput(scaled, active, weights, {})


def _build_part(spec: dict[str, Any], number: int, seed: int) -> InterestExtractor:
    try:
        part = EXTRACTORS.build(spec, f"extractors[{number}]", seed=seed)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    if part.required_inputs():
        needed = ", ".join(part.required_inputs())
        raise ValueError(f"extractors[{number}]: {spec['name']} needs {needed}, which joined interests do not hand on")
    return part

"""What the layers that read a history in order have in common, and the encoders by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import tensorflow as tf

from tfmi.core.errors import ConfigError
from tfmi.core.registry import Registry
from tfmi.layers.base import ConfiguredLayer, InterestOutput
from tfmi.layers.common.positions import items_after

LayerT = TypeVar("LayerT", bound=tf.keras.layers.Layer)


class EncodedSequence(NamedTuple):
    """A history read in order.

    Attributes:
        states: [B, Q, h]: one state for each item (Q = L), 0 at padding; or the newest item's alone (Q = 1), 0 for an empty history.
        weights: float32 [B, Q, L]: where each state looks. Rows of real items sum to 1, all others are 0, and so are padding's columns.
    """

    states: tf.Tensor
    weights: tf.Tensor


class SequenceEncoder(ConfiguredLayer):
    """Base of the layers that turn a history into one state per item, which knows what else is in the history.

    Subclasses implement ``call(history, mask, newest_only=False, training=None)`` with ``history`` [B, L, d], real items first, and
    ``mask`` bool [B, L], returning an ``EncodedSequence``: of every item, or of the newest alone where ``newest_only`` says that no other
    is needed. Extractors compose them: a state is the context in which a pooling, an attention or a graph meets an item.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def compute_mask(self, inputs: tf.Tensor, mask: tf.Tensor | None = None) -> None:
        """End the history's mask here: those who use the states are given it anyway."""

    @property
    def why_not_causal(self) -> str | None:
        """None where an item's state depends on it and older items alone; otherwise what makes it depend on newer ones.

        A state that is a sum of nothing but itself and older items is causal; positions counted from the newest item are not.
        """
        if getattr(self, "positions", None) == "newest":
            return "positions counted from the newest item change with every item that follows; set positions to oldest"
        return None if getattr(self, "causal", True) else "with causal: false an item's state depends on what follows"

    @property
    def why_weights_are_constant(self) -> str | None:
        """None where gradients pass through ``EncodedSequence.weights``; otherwise the reason why not, and what to do about it."""
        return None

    def state_dimension(self, dimension: int) -> int:
        """h, the width of the states for items of width ``dimension``: the same, unless a subclass says otherwise."""
        return dimension


ENCODERS: Registry[SequenceEncoder] = Registry("sequence encoder", "tfmi.layers")


def every_state(encoded: EncodedSequence) -> InterestOutput:
    """Each state of an encoded history as the single interest after its item, [B, L, 1, d]; see ``InterestExtractor``."""
    active = tf.ones(tf.shape(encoded.states)[:2], tf.bool)[:, :, None]
    return InterestOutput(encoded.states[:, :, None, :], active, encoded.weights[:, :, None, :], {})


def newest_item(mask: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """[B, 1, L]: 1 at the newest real item of ``mask`` [B, L], 0 elsewhere. Times [B, L, h] it gives that item's row, or 0 without one."""
    return tf.cast(mask & (items_after(mask) == 0), dtype)[:, None, :]


def built(layer: LayerT, input_shape: Any) -> LayerT:
    """``layer`` with its weights, which are named after it."""
    with tf.name_scope(layer.name):
        layer.build(tf.TensorShape(input_shape))
    return layer


def layer_norm(name: str, input_shape: Any) -> tf.keras.layers.LayerNormalization:
    """A built normalisation of the last axis."""
    # float16 would round the usual epsilon, 1e-12, to 0.
    return built(tf.keras.layers.LayerNormalization(epsilon=1e-6, name=name), input_shape)


# Of encoders whose states are no means of items.
ONLY_THE_STATE_READ = (
    "they are 1 at the newest item, whatever the state holds; take an extractor that weights its items, such as self_attentive"
)


def build_encoder(spec: Mapping[str, Any], seed: int, name: str | None = None) -> SequenceEncoder:
    """The encoder that ``spec`` (``{"name": ..., parameter: value, ...}``) describes, for an extractor's constructor argument ``encoder``.

    Args:
        spec: A name of ``ENCODERS`` and parameters.
        seed: Seed for an encoder that takes one, unless ``spec`` sets it.
        name: What the layer is called, and its variables by it; None: after its class.

    Raises:
        ValueError: ``spec`` describes no encoder; the message says what is wrong with which part.
    """
    try:
        values = ENCODERS.validate(spec, "encoder")
        if "seed" in ENCODERS.parameters(spec["name"]):
            values = {"seed": seed, **values}
        component = ENCODERS.get(spec["name"])
    except ConfigError as error:
        raise ValueError(str(error)) from None
    try:
        return component(**values, name=name)
    except ValueError as error:
        raise ValueError(f"encoder: {error}") from None


def describe_encoder(encoder: SequenceEncoder) -> dict[str, Any]:
    """What ``build_encoder`` makes the same encoder of."""
    name = ENCODERS.name_of(encoder)
    return {"name": name, **{parameter: getattr(encoder, parameter) for parameter in ENCODERS.parameters(name)}}

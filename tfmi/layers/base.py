"""What every extractor and readout has in common: their registries, their typed output, and complete ``get_config``s.

Shapes throughout: B batch, L history length, K interests, d width, C candidates. Histories run oldest to newest and are padded on the
right; ``mask`` is True at real items, and padding never changes a result.
"""

from __future__ import annotations

import copy
import functools
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, NamedTuple, Protocol

import tensorflow as tf

from tfmi.core.registry import Registry

# Added to a masked logit before a float32 softmax: exp underflows to exactly 0 and a fully masked row stays finite.
MASKED_LOGIT = -1e9
_SMALLEST_SQUARED_NORM = 1e-12  # as in tf.math.l2_normalize


class InterestOutput(NamedTuple):
    """What an extractor knows about a batch of users. Regularisers, plots and explanations read it instead of reaching into layers.

    Attributes:
        interests: [B, K, d]. Rows beyond a user's active interests are 0.
        active: bool [B, K]. Interest 0 is always active; active interests come first.
        weights: float32 [B, K, L]: how much of each history item went into each interest (routing or attention weights), 0 at padding.
        internals: Anything else by name, e.g. ``"logits"`` [B, K, L] or ``"prototypes"``.
    """

    interests: tf.Tensor
    active: tf.Tensor
    weights: tf.Tensor
    internals: dict[str, tf.Tensor]


class ConfiguredLayer(tf.keras.layers.Layer):
    """A Keras layer whose constructor arguments are attributes of the same names, so that ``get_config`` is complete by construction.

    ``super().__init__(**kwargs)``, which begins a constructor, records them: the arguments of the layer's own class and of those between.
    What a constructor then assigns itself, such as a tuple made of a list, replaces what was recorded; a property of an argument's name
    is left alone. Type checkers learn of the attributes from ``tfmi.mypy``.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _noting_arguments(cls.__init__)  # type: ignore[method-assign]
        tf.keras.utils.register_keras_serializable(package="tfmi")(cls)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, value in self.__dict__.pop(_NOTED, {}).items():
            if not isinstance(getattr(type(self), name, None), property):
                # Keras replaces the lists within a dictionary by wrappers, which are empty to code that reads them below Python.
                setattr(self, name, copy.deepcopy(value) if isinstance(value, dict) else value)

    def get_config(self) -> dict[str, Any]:
        """Every constructor argument by name, read from the attribute of the same name."""
        config: dict[str, Any] = super().get_config()
        config.update({name: getattr(self, name) for name in _arguments(inspect.signature(type(self).__init__))})
        return config


_NOTED = "_noted_arguments"  # where arguments wait until Keras takes attributes


def _arguments(signature: inspect.Signature) -> list[str]:
    """The arguments that a constructor names, without ``self``."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, parameter in signature.parameters.items() if name != "self" and parameter.kind in named]


def _noting_arguments(constructor: Callable[..., None]) -> Callable[..., None]:
    """``constructor``, noting its arguments, defaults included, before it runs; those of a subclass that calls it are stronger."""
    signature = inspect.signature(constructor)
    names = _arguments(signature)

    @functools.wraps(constructor)
    def noting(self: ConfiguredLayer, *args: Any, **kwargs: Any) -> None:
        given = signature.bind(self, *args, **kwargs)
        given.apply_defaults()
        noted = self.__dict__.setdefault(_NOTED, {})
        for name in names:
            noted.setdefault(name, given.arguments[name])
        constructor(self, *args, **kwargs)

    return noting


class ItemLookup(Protocol):
    """Item vectors as histories hold them."""

    def embed(self, item_indices: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Item vectors [..., d] of int item indices [...]."""


class InterestExtractor(ConfiguredLayer):
    """Base of the layers that turn a history into K interests.

    Subclasses implement ``call(history, mask, training=None)`` with ``history`` [B, L, d] and ``mask`` bool [B, L], returning an
    ``InterestOutput``; they set ``num_interests``. Declaring a further argument of ``OPTIONAL_INPUTS`` by the same name asks for it;
    declaring it with the default None asks for it where the data has it, and works without.
    Softmaxes and routing run in float32 under mixed precision.

    An extractor whose interests after each item can be had in one pass, because they do not depend on what follows, declares
    ``every_item=False`` in its ``call``: with True it returns, for every item of a history, what it would return for the history up to
    that item, with a further axis: ``interests`` [B, L, K, d], ``active`` [B, L, K], ``weights`` [B, L, K, L] and internals [B, L, ...].
    Rows of padding do not count.
    """

    # profile: float [B, p], the user's concatenated profile embeddings; timestamps: float64 [B, L] seconds, 0 at padding;
    # history_indices: int32 [B, L], the items themselves, for layers to which it matters where an item returns;
    # items: an ItemLookup, for layers that read the vectors of items outside of the history.
    OPTIONAL_INPUTS: ClassVar[tuple[str, ...]] = ("profile", "timestamps", "history_indices", "items")
    # The constructor argument that bounds the number of interests; an extractor without it gives one interest.
    INTERESTS_PARAMETER: ClassVar[str] = "num_interests"

    # What readouts and regularisers may rely on finding in ``InterestOutput.internals``, by name.
    INTERNALS: ClassVar[tuple[str, ...]] = ()

    num_interests: int

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    @property
    def why_weights_are_constant(self) -> str | None:
        """None where gradients pass through ``InterestOutput.weights``; otherwise the reason why they do not, and what to do about it."""
        return None

    @property
    def why_not_every_item(self) -> str | None:
        """None where ``call`` takes ``every_item``; otherwise the reason why it cannot, and what to do about it."""
        if "every_item" in inspect.signature(type(self).call).parameters:
            return None
        return "its interests depend on the history as a whole, so that each item needs a pass of its own; take prefixes"

    def compute_mask(self, inputs: tf.Tensor, mask: tf.Tensor | None = None) -> None:
        """End the history's mask here: interests are not positions of a history."""

    @classmethod
    def requested_inputs(cls) -> tuple[str, ...]:
        """The optional inputs that this extractor's ``call`` declares."""
        declared = inspect.signature(cls.call).parameters
        return tuple(name for name in cls.OPTIONAL_INPUTS if name in declared)

    @classmethod
    def required_inputs(cls) -> tuple[str, ...]:
        """Those of ``requested_inputs`` that ``call`` cannot do without: declared without a default."""
        declared = inspect.signature(cls.call).parameters
        return tuple(name for name in cls.requested_inputs() if declared[name].default is inspect.Parameter.empty)


class Readout(ConfiguredLayer):
    """Base of the layers that decide, in training, how K interests answer for one target.

    Subclasses implement ``call(interests, active, target)`` with ``interests`` [B, K, d], ``active`` bool [B, K] and ``target``
    [B, d] (the target's item vector), returning queries: [B, d] for one vector per user, or [B, K, d] when every candidate, negatives
    included, is to be scored by its own best interest (max-sim). In a [B, K, d] answer inactive rows repeat an active one, so that a
    maximum over K never sees them. Declaring a further argument ``output`` asks for the extractor's ``InterestOutput``.
    """

    # What ``call`` and ``serve`` look up in ``InterestOutput.internals``; extractors without it are refused.
    NEEDED_INTERNALS: ClassVar[tuple[str, ...]] = ()
    # True if answers are mixtures of interests: a model that normalises brings them to unit length again, in training and in serving.
    MIXES_INTERESTS: ClassVar[bool] = False
    # True if exp of scores is summed over the interests of a [B, K, d] answer, instead of each candidate taking its best one.
    SUMS_INTERESTS: ClassVar[bool] = False

    def check(self, extractor: InterestExtractor) -> None:
        """Raise ``ValueError`` with the reason if this readout cannot work with ``extractor``."""
        require_internals(extractor, self.NEEDED_INTERNALS, type(self).__name__)

    @classmethod
    def wants_output(cls) -> bool:
        """Whether ``call`` declares ``output``."""
        return "output" in inspect.signature(cls.call).parameters

    def serve(self, interests: tf.Tensor, active: tf.Tensor, output: InterestOutput) -> tuple[tf.Tensor, tf.Tensor]:
        """The interests [B, K', d] that are searched with at serving and which of them are active, bool [B, K']: as they are.

        A readout that trains one vector without looking at the target may serve that one instead.
        """
        del output
        return interests, active

    def served_weights(self, output: InterestOutput) -> tf.Tensor:
        """How much of each history item went into each row that ``serve`` gives, float32 [B, K', L]: the extractor's weights."""
        return output.weights

    @property
    def serves_interests(self) -> bool:
        """Whether ``serve`` gives the interests as they are, so that what is known of an interest holds for what is served."""
        return type(self).serve is Readout.serve


class RepeatScorer(ConfiguredLayer):
    """Base of the layers that score the items of a user's own history, which the rest of the model then leaves alone.

    Subclasses implement ``call(users, active, vectors, indices)`` with ``users`` [B, K, d] and ``active`` bool [B, K], the user's scored
    interests; ``vectors`` [B, L, d], the history's item vectors as scores use them; ``indices`` int32 [B, L], 0 at padding. They
    return scores float32 [B, L] on the scale of ``users . vectors``, -inf at padding and at all but one place of each item; and int32
    [B, L], the interest to which each place is attributed.
    """


EXTRACTORS: Registry[InterestExtractor] = Registry("extractor", "tfmi.layers")
READOUTS: Registry[Readout] = Registry("readout", "tfmi.layers")
REPETITIONS: Registry[RepeatScorer] = Registry("repetition", "tfmi.layers")


def require_internals(extractor: InterestExtractor, names: Sequence[str], label: str) -> None:
    """Raise ``ValueError`` if ``extractor`` does not promise internals of all ``names``.

    Args:
        extractor: The model's extractor.
        names: What is needed.
        label: What needs it, at the beginning of the message.
    """
    missing = sorted(set(names) - set(extractor.INTERNALS))
    if missing:
        able = [name for name in EXTRACTORS.names() if set(names) <= set(EXTRACTORS.get(name).INTERNALS)]
        raise ValueError(
            f"{label} needs {', '.join(missing)} from the extractor, which {type(extractor).__name__} does not give; "
            f"extractors that do: {', '.join(able) or 'none'}"
        )


class ReadsInOrder(Protocol):
    """What ``require_every_item`` has to know of a sequence encoder."""

    @property
    def why_not_causal(self) -> str | None:
        """None where an item's state depends on it and older items alone."""


def require_every_item(extractor: InterestExtractor, encoder: ReadsInOrder | None = None) -> None:
    """Raise ``ValueError`` with the reason if the interests after every item of a history cannot be had in one pass over it.

    Behind a causal ``encoder`` every extractor can give them: it reads each prefix of the states, which are computed once.
    """
    reader: object = extractor if encoder is None else encoder
    reason = extractor.why_not_every_item if encoder is None else encoder.why_not_causal
    if reason is not None:
        raise ValueError(f"sequences needs the interests after each item; {type(reader).__name__}: {reason}")


def num_real_items(mask: tf.Tensor) -> tf.Tensor:
    """int32 [B]: the number of real items of each history, from its mask [B, L]."""
    return tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)


def variable_name(name: str) -> str:
    """``name``, which may hold what users call their columns, as SavedModels allow variables to be called: other characters become dots."""
    return re.sub("^_|[^A-Za-z0-9_]", ".", name)


_known_zero: ContextVar[tf.Tensor | None] = ContextVar("known_zero", default=None)


@contextmanager
def zero_at_padding(history: tf.Tensor) -> Iterator[None]:
    """Inside, ``zero_padding`` takes ``history`` as it is, which saves two passes: whoever made it left nothing at padding."""
    token = _known_zero.set(history)
    try:
        yield
    finally:
        _known_zero.reset(token)


def zero_padding(history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """``history`` [B, L, d] with 0 where ``mask`` [B, L] is False, whatever stood there, infinite or not a number included."""
    if history is _known_zero.get():
        return history
    return tf.where(mask[..., None], history, tf.zeros([], history.dtype))


class RealItems:
    """Where the R real items of a batch of histories stand, so that work is done for them alone: short histories are mostly padding.

    Args:
        mask: bool [B, L], True at real items.
    """

    def __init__(self, mask: tf.Tensor) -> None:
        self.mask = mask
        self.places = tf.where(mask)  # [R, 2]

    def rows(self, history: tf.Tensor) -> tf.Tensor:
        """[R, ...]: what ``history`` [B, L, ...] holds at real items, users one after the other."""
        return tf.gather_nd(history, self.places)

    def spread(self, rows: tf.Tensor) -> tf.Tensor:
        """[B, L, w]: ``rows`` [R, w] back at their places, 0 at padding."""
        source, target = self._sources()

        # Looking up each place's row, padding's being one of zeros, takes a third of the time that writing rows to their places does; and
        # no two places share a real row, so that the gradient is a lookup, too.
        @tf.custom_gradient
        def placed(rows: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
            padded = tf.concat([tf.zeros([1, rows.shape[-1]], rows.dtype), rows], axis=0)
            return tf.gather(padded, source), lambda gradient: tf.gather(gradient, target)

        history = tf.reshape(placed(rows), tf.concat([tf.shape(self.mask), [rows.shape[-1]]], axis=0))
        return tf.ensure_shape(history, [*self.mask.shape, rows.shape[-1]])

    def _sources(self) -> tuple[tf.Tensor, tf.Tensor]:
        """int32 [B L]: the row of each place, from 1, 0 at padding; int32 [R]: the place of each row."""
        real = tf.reshape(self.mask, [-1])
        return tf.where(real, tf.cumsum(tf.cast(real, tf.int32)), 0), tf.cast(tf.where(real)[:, 0], tf.int32)


def masked_softmax(logits: tf.Tensor, mask: tf.Tensor, axis: int = -1) -> tf.Tensor:
    """Softmax in float32 over the True cells of ``mask`` (broadcast to ``logits``); exactly 0 at all others."""
    logits = tf.cast(logits, tf.float32)
    weights = tf.nn.softmax(tf.where(mask, logits, MASKED_LOGIT), axis=axis)
    return tf.where(mask, weights, 0.0)


def squash(vectors: tf.Tensor, epsilon: float = 1e-9) -> tf.Tensor:
    """Shrink vectors along the last axis to norms below 1: ``|z|^2 / (1 + |z|^2) * z / |z|`` (Sabour et al., NIPS 2017, equation 1)."""
    return squashing(tf.reduce_sum(tf.square(vectors), axis=-1, keepdims=True), epsilon) * vectors


def squashing(squared_norm: tf.Tensor, epsilon: float = 1e-9) -> tf.Tensor:
    """By what ``squash`` multiplies vectors of these squared norms."""
    return squared_norm / (1.0 + squared_norm) / tf.sqrt(squared_norm + epsilon)


@tf.custom_gradient
def unit_length(vectors: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """L2-normalise the last axis in float32, whose epsilon float16 would round to 0; zero vectors stay 0.

    ``tf.math.l2_normalize`` with its gradient written out, ``(g - (g . u) u) / |v|``, which takes half the passes over memory.
    """
    precise = tf.cast(vectors, tf.float32)
    squared_norm = tf.reduce_sum(tf.square(precise), axis=-1, keepdims=True)
    inverse = tf.math.rsqrt(tf.maximum(squared_norm, _SMALLEST_SQUARED_NORM))
    units = precise * inverse

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        upstream = tf.cast(upstream, tf.float32)
        along = tf.reduce_sum(upstream * units, axis=-1, keepdims=True)
        # Vectors as short as the floor are only multiplied by a constant.
        along = tf.where(squared_norm >= _SMALLEST_SQUARED_NORM, along, 0.0)
        return tf.cast((upstream - along * units) * inverse, vectors.dtype)

    return tf.cast(units, vectors.dtype), gradient


def repeat_first_where_inactive(interests: tf.Tensor, active: tf.Tensor) -> tf.Tensor:
    """Replace inactive rows of ``interests`` [B, K, d] by interest 0, which is always active: they then cannot change a maximum over K."""
    return tf.where(active[..., None], interests, interests[:, :1, :])

"""Random numbers for training that a checkpoint carries on and an equal seed repeats."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from statistics import NormalDist
from typing import Any

import numpy as np
import tensorflow as tf

_STATE_KEY = "state"
_NUM_QUANTILES = 2**12  # 16 KB, which the nearest cache holds


_only_checked: ContextVar[bool] = ContextVar("only_checked", default=False)


@functools.cache
def _normal_quantiles() -> np.ndarray:
    """float64 [4096]: the normal distribution's quantiles in the middles of as many equal parts."""
    normal = NormalDist()
    return np.array([normal.inv_cdf((part + 0.5) / _NUM_QUANTILES) for part in range(_NUM_QUANTILES)])


@contextmanager
def only_checked() -> Iterator[None]:
    """Layers that are made inside are only made to check their arguments: their streams get no state, which would wake devices."""
    token = _only_checked.set(True)
    try:
        yield
    finally:
        _only_checked.reset(token)


class RandomStream(tf.keras.layers.Layer):
    """A seeded stream of random numbers that belongs to the layer which holds it as an attribute.

    TensorFlow's global and operation seeds restart with the process. This stream's state is a variable instead: ``tf.train.Checkpoint``
    and the ``.keras`` and ``.weights.h5`` formats store it, so that a restored run draws what the uninterrupted one would have drawn.
    It is no *weight*: ``get_weights`` leaves it out, and bringing back the best weights does not rewind it. Keras ends a holder's
    ``save_own_variables`` at its weights, which is why the stream is a small layer that stores itself.

    Draw in training only: an exported inference graph then has no state to change.

    Example:
        >>> stream = RandomStream(seed=1, purpose="negative items")
        >>> stream.uniform([2, 3]).shape
        TensorShape([2, 3])

    Args:
        seed: Equal seeds give equal streams.
        purpose: What the numbers are for. Streams of different purposes are independent under the same seed.
    """

    generator: tf.random.Generator

    def __init__(self, seed: int, purpose: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.purpose = purpose
        if not _only_checked.get():
            self.begin()

    def __getattr__(self, name: str) -> Any:
        # See ``only_checked``. Set as an attribute, the state is where checkpoints look for it.
        if name != "generator" or "_begins" in vars(self):  # Keras looks for an attribute that it is about to set
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        digest = hashlib.blake2b(f"{self.purpose}\n{self.seed}".encode(), digest_size=8).digest()
        self.__dict__["_begins"] = True
        with tf.init_scope():
            # Philox named outright: the default algorithm may differ from one device to another, and with it the stream.
            self.generator = tf.random.Generator.from_seed(int.from_bytes(digest, "big") >> 1, alg="philox")
        return self.generator

    def begin(self) -> None:
        """Make the state, where a checkpoint looks for it."""
        self.generator  # noqa: B018 - reading it makes it

    def normal(self, shape: Any, deviation: float = 1.0) -> tf.Tensor:
        """float32 normal numbers of mean 0 and the given standard deviation."""
        return self.generator.normal(shape, stddev=deviation)

    def quick_normal(self, shape: Any, deviation: float = 1.0) -> tf.Tensor:
        """Normal numbers of 4,096 values, evenly spaced quantiles: half a random word for each, and half the time of ``normal``."""
        quantiles = tf.constant(_normal_quantiles() * deviation, tf.float32)
        return tf.gather(quantiles, tf.bitwise.right_shift(tf.cast(self._half_words(shape), tf.int32) + 2**15, 4))

    def uniform(self, shape: Any, minval: Any = 0, maxval: Any = 1, dtype: tf.DType = tf.float32) -> tf.Tensor:
        """Numbers drawn evenly from [minval, maxval); integers if ``dtype`` is an integer type."""
        return self.generator.uniform(shape, minval=minval, maxval=maxval, dtype=dtype)

    def coins(self, shape: Any, probability: float) -> tf.Tensor:
        """Bools, each True with the given probability to the nearest 1 / 65,536: half a random word for each, and half the time."""
        true_values = round(probability * 2**16)
        if true_values == 2**16:
            return tf.ones(shape, tf.bool)
        return self._half_words(shape) < tf.constant(true_values - 2**15, tf.int16)

    def _half_words(self, shape: Any) -> tf.Tensor:
        """int16, every value as likely as any other."""
        shape = tf.convert_to_tensor(shape, dtype_hint=tf.int32)  # an empty list would be float32
        count = tf.reduce_prod(shape)
        words = self.generator.uniform_full_int([(count + 1) // 2], tf.uint32)
        return tf.reshape(tf.reshape(tf.bitcast(words, tf.int16), [-1])[:count], shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; the position in the stream is state, not configuration."""
        return {**super().get_config(), "seed": self.seed, "purpose": self.purpose}

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Write the position in the stream into Keras' ``store``."""
        store[_STATE_KEY] = self.generator.state.numpy()

    def load_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Continue from the position that ``save_own_variables`` wrote."""
        self.generator.state.assign(store[_STATE_KEY])

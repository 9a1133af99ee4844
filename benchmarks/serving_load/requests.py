"""Valid requests to every signature of a served model, made of what the server says: its metadata, and ids from its own answers.

Nothing of the model's files is read, so that the same requests go to the local server and to TensorFlow Serving on another machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

DEFAULT = "serving_default"
PREDICT_METHOD = "tensorflow/serving/predict"
# Of an input whose width the signature leaves open, such as the candidates of rank.
_OPEN_WIDTH = 8

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class ModelRequest:
    """A request to a signature of a model: strings are ``bytes`` in object arrays."""

    model: str
    signature: str
    inputs: dict[str, np.ndarray]

    def __str__(self) -> str:
        return f"{self.model}:{self.signature}"


class RequestMaker:
    """Makes requests for one model.

    Args:
        model: Its name.
        signatures: What its metadata says.
        items: Ids that it knows (tags of a tag model), from its own answers.
        generator: Chooses.
    """

    def __init__(
        self, model: str, signatures: Mapping[str, meta_graph_pb2.SignatureDef], items: list[bytes], generator: np.random.Generator
    ) -> None:
        self.model, self._items, self._generator = model, items, generator
        self.signatures = {name: signature for name, signature in sorted(signatures.items()) if signature.method_name == PREDICT_METHOD}

    def make(self, signature: str, rows: int) -> ModelRequest:
        """A request of so many rows."""
        infos = self.signatures[signature].inputs
        return ModelRequest(self.model, signature, {name: self._values(name, info, rows) for name, info in sorted(infos.items())})

    def _values(self, name: str, info: meta_graph_pb2.TensorInfo, rows: int) -> np.ndarray:
        sizes = [dimension.size for dimension in info.tensor_shape.dim][1:]
        shape = (rows, *(size if size >= 0 else _OPEN_WIDTH for size in sizes))
        if name == "examples":
            return _objects([self._example() for _ in range(rows)], (rows,))
        if info.dtype == tf.string.as_datatype_enum:
            return self._strings(name, shape)
        dtype = tf.as_dtype(info.dtype).as_numpy_dtype
        if name == "diversity":
            return np.where(self._generator.random(shape) < 0.5, 0.0, 0.05).astype(dtype)
        if name == "timestamps":
            return np.zeros(shape, dtype)
        return self._generator.integers(1, 5, shape).astype(dtype)

    def _strings(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Known ids from the left, padded with empty strings, as the client sends them; some of fields are unknown."""
        values = np.full(shape, b"", dtype=object)
        flat = values.reshape(shape[0], -1)
        for row in flat:
            most = len(row) if name != "exclude" else min(len(row), 5)
            filled = int(self._generator.integers(min(1, most), most + 1))
            row[:filled] = self._some(filled)
        return values

    def _some(self, count: int) -> list[bytes]:
        return [self._items[place] for place in self._generator.integers(0, len(self._items), count)]

    def _example(self) -> bytes:
        history = tf.train.BytesList(value=self._some(int(self._generator.integers(0, 30))))
        features = {"history": tf.train.Feature(bytes_list=history)}
        return bytes(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def empty_request(model: str, signatures: Mapping[str, meta_graph_pb2.SignatureDef]) -> ModelRequest:
    """A request by somebody of whom nothing is known, whose answer names the most popular items or tags."""
    inputs: dict[str, np.ndarray] = {}
    for name, info in signatures[DEFAULT].inputs.items():
        shape = (1, *(max(dimension.size, 1) for dimension in list(info.tensor_shape.dim)[1:]))
        if info.dtype == tf.string.as_datatype_enum:
            inputs[name] = np.full(shape, b"", dtype=object)
        else:
            weights = name.endswith("_weights")
            inputs[name] = np.full(shape, 0.0 if weights else np.nan, tf.as_dtype(info.dtype).as_numpy_dtype)
    return ModelRequest(model, DEFAULT, inputs)


def known_ids(answer: Arrays) -> list[bytes]:
    """The ids in an answer, each once."""
    found = [value for array in answer.values() if array.dtype == object for value in array.reshape(-1)]
    return sorted({value for value in found if value})


def _objects(values: list[Any], shape: tuple[int, ...]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array.reshape(shape)


def difference(expected: Arrays, found: Arrays) -> str | None:
    """What tells two answers apart, or None: strings have to be equal, but where scores tie, and numbers within a float32's precision."""
    if set(expected) != set(found):
        return f"outputs {sorted(found)} instead of {sorted(expected)}"
    tied = _ties(expected)
    for name, values in expected.items():
        other = found[name]
        if values.shape != other.shape:
            return f"{name}: shape {other.shape} instead of {values.shape}"
        if np.issubdtype(values.dtype, np.floating):
            if not np.allclose(values, other.astype(values.dtype), rtol=1e-4, atol=1e-5, equal_nan=True):
                return f"{name}: other numbers"
        else:
            differs = values != other
            if np.any(differs & ~tied if tied is not None and tied.shape == values.shape else differs):
                return f"{name}: other values"
    return None


def _ties(answer: Arrays) -> np.ndarray | None:
    """bool [B, n]: whose score a neighbour has, too, so that their order may change."""
    scores = answer.get("scores")
    if scores is None or scores.ndim != 2:
        return None
    close = np.isclose(scores[:, 1:], scores[:, :-1], rtol=1e-5, atol=1e-6)
    tied = np.zeros(scores.shape, dtype=bool)
    tied[:, 1:] |= close
    tied[:, :-1] |= close
    return tied

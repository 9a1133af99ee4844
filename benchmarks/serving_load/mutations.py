"""Valid requests made odd or wrong: mostly in their values, which still reach the graph, sometimes in their form."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from benchmarks.serving_load.requests import ModelRequest
from benchmarks.serving_load.transports import to_json

ODD_STRINGS = (
    b"",
    b"\xff\xfe\x00",
    b"a\x00b",
    b"\x1b[2J\r\nforged",
    "\U0001f600".encode() * 50,
    "\u202ereversed".encode(),
    b" ",
    b"-1",
    b"{}",
    b"x" * 20_000,
)
ODD_NUMBERS = (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, 0.0, -1.0, 2.0**31)
ODD_SIZES = (-1, 0, 1, 2**31, 2**32, 2**62, 2**63 - 1)
OTHER_TYPES = (np.float32, np.float64, np.int32, np.int64, np.bool_)
# Of 10 mutations of a request so many change its form.
_FORMS_OF_TEN = 3


class Mutator:
    """Makes requests odd.

    Args:
        generator: Chooses.
    """

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._forms: list[Callable[[ModelRequest], ModelRequest]] = [
            self._without_an_input,
            self._with_another_input,
            self._other_columns,
            self._other_rows,
            self._other_type,
            self._other_rank,
            self._other_target,
        ]

    def mutate(self, request: ModelRequest) -> ModelRequest:
        """An odd or wrong version of a request."""
        if self._generator.integers(10) < _FORMS_OF_TEN:
            return self._one_of(self._forms)(request)
        return ModelRequest(
            request.model, request.signature, {name: self._odd_values(name, value) for name, value in request.inputs.items()}
        )

    def mutate_json(self, request: ModelRequest) -> bytes:
        """A JSON body with some bytes changed, left out or repeated."""
        document = {"signature_name": request.signature, "inputs": {name: to_json(array) for name, array in request.inputs.items()}}
        return self._bytes(json.dumps(document).encode())

    def mutate_message(self, request: ModelRequest) -> predict_pb2.PredictRequest:
        """A message whose tensors claim odd types, shapes and contents."""
        message = predict_pb2.PredictRequest()
        message.model_spec.name, message.model_spec.signature_name = request.model, request.signature
        for name, array in request.inputs.items():
            dtype = tf.string if array.dtype == object else tf.as_dtype(array.dtype)
            message.inputs[name].CopyFrom(tf.make_tensor_proto(array.tolist(), dtype, array.shape))
        proto = message.inputs[self._one_of(sorted(request.inputs))]
        choice = self._generator.integers(6)
        if choice == 0:
            proto.dtype = int(self._one_of([0, 19, 20, 21, 23, 107, 999]))
        elif choice == 1 and proto.tensor_shape.dim:
            proto.tensor_shape.dim[int(self._generator.integers(len(proto.tensor_shape.dim)))].size = self._one_of(ODD_SIZES)
        elif choice == 2:
            for _ in range(int(self._one_of([1, 8, 70, 300]))):
                proto.tensor_shape.dim.add().size = 1
        elif choice == 3:
            proto.tensor_content = self._generator.bytes(int(self._generator.integers(1, 64)))
        elif choice == 4:
            proto.ClearField("string_val")
            proto.ClearField("float_val")
        else:
            message.output_filter.append(self._one_of(["scores", "no such output", "\U0001f600" * 400]))
        return message

    def _bytes(self, text: bytes) -> bytes:
        changed = bytearray(text)
        for _ in range(int(self._generator.integers(1, 6))):
            place = int(self._generator.integers(len(changed)))
            choice = self._generator.integers(3)
            if choice == 0:
                changed[place] = int(self._generator.integers(256))
            elif choice == 1:
                del changed[place : place + int(self._generator.integers(1, 20))]
                changed = changed or bytearray(b" ")
            else:
                changed[place:place] = changed[place : place + 20] * int(self._generator.integers(1, 4))
        return bytes(changed)

    def _odd_values(self, name: str, values: np.ndarray) -> np.ndarray:
        odd = values.copy()
        flat = odd.reshape(-1)
        for place in range(len(flat)):
            if self._generator.random() > 0.2:
                continue
            if name == "examples":
                flat[place] = self._bytes(flat[place]) if flat[place] else b"\xb6"
            elif values.dtype == object:
                flat[place] = self._one_of(ODD_STRINGS)
            else:
                number = self._one_of(ODD_NUMBERS)
                limited = np.issubdtype(values.dtype, np.integer)
                flat[place] = np.clip(np.nan_to_num(number), -(2**31), 2**31 - 1) if limited else number
        return odd

    def _without_an_input(self, request: ModelRequest) -> ModelRequest:
        left_out = self._one_of(sorted(request.inputs))
        return self._with(request, {name: value for name, value in request.inputs.items() if name != left_out})

    def _with_another_input(self, request: ModelRequest) -> ModelRequest:
        return self._with(request, {**request.inputs, self._one_of(["more", "", "\U0001f600" * 500]): np.zeros(1, np.float32)})

    def _other_columns(self, request: ModelRequest) -> ModelRequest:
        name = self._one_of(sorted(request.inputs))
        values = request.inputs[name]
        other = np.concatenate([values, values], axis=-1) if self._generator.random() < 0.5 else values[..., : values.shape[-1] // 2]
        return self._with(request, {**request.inputs, name: other})

    def _other_rows(self, request: ModelRequest) -> ModelRequest:
        rows = int(self._one_of([0, 1, 3, 40]))
        names = sorted(request.inputs) if self._generator.random() < 0.7 else [self._one_of(sorted(request.inputs))]
        repeated = {name: np.repeat(request.inputs[name][:1], rows, axis=0) for name in names}
        return self._with(request, {**request.inputs, **repeated})

    def _other_type(self, request: ModelRequest) -> ModelRequest:
        name = self._one_of(sorted(request.inputs))
        other = np.zeros(request.inputs[name].shape, self._one_of(OTHER_TYPES))
        return self._with(request, {**request.inputs, name: other})

    def _other_rank(self, request: ModelRequest) -> ModelRequest:
        name = self._one_of(sorted(request.inputs))
        values = request.inputs[name]
        other = values[None] if self._generator.random() < 0.5 else values.reshape(-1)
        return self._with(request, {**request.inputs, name: other})

    def _other_target(self, request: ModelRequest) -> ModelRequest:
        signature = self._one_of(["", "recommned", "\x1b[31m", "\U0001f600" * 2000, "__saved_model_init_op"])
        return ModelRequest(request.model, signature, request.inputs)

    @staticmethod
    def _with(request: ModelRequest, inputs: dict[str, np.ndarray]) -> ModelRequest:
        return ModelRequest(request.model, request.signature, inputs)

    def _one_of(self, choices: Any) -> Any:
        return choices[int(self._generator.integers(len(choices)))]

"""Between ``TensorProto``s and NumPy arrays, and whether a request's arrays fit a signature."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from tfmi.serving.errors import invalid

# A few bytes of protocol buffer can claim a tensor of any size (one value, repeated); no tfmi request comes near this many elements.
MAX_ELEMENTS = 1 << 24


class TensorType(NamedTuple):
    """How one TensorFlow type looks elsewhere: in NumPy, in a ``TensorProto``'s fields, and to readers of messages."""

    numpy: Any
    field: str
    name: str


TENSOR_TYPES: Mapping[int, TensorType] = {
    types_pb2.DT_FLOAT: TensorType(np.float32, "float_val", "float"),
    types_pb2.DT_DOUBLE: TensorType(np.float64, "double_val", "double"),
    types_pb2.DT_INT32: TensorType(np.int32, "int_val", "int32"),
    types_pb2.DT_INT64: TensorType(np.int64, "int64_val", "int64"),
    types_pb2.DT_BOOL: TensorType(np.bool_, "bool_val", "bool"),
    types_pb2.DT_STRING: TensorType(object, "string_val", "string"),
}


def type_name(dtype: int) -> str:
    """The name of a ``DataType`` for messages."""
    known = TENSOR_TYPES.get(dtype)
    return known.name if known else types_pb2.DataType.Name(dtype)


def decode_tensor(name: str, proto: tensor_pb2.TensorProto) -> np.ndarray:
    """The array in a ``TensorProto``; strings become an object array of ``bytes``.

    Raises:
        RequestError: A type that tfmi's signatures do not use, a shape that is unknown, negative, too large, or that the values do
            not fill.
    """
    tensor_type = TENSOR_TYPES.get(proto.dtype)
    if tensor_type is None:
        raise invalid(f"input {name!r}: tensors of type {type_name(proto.dtype)} are not served here")
    shape = [dimension.size for dimension in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise invalid(f"input {name!r}: its shape must be fully known, got {shape}")
    elements = math.prod(shape)
    if elements > MAX_ELEMENTS:
        raise invalid(f"input {name!r}: {elements} elements are more than the {MAX_ELEMENTS} that this server takes")
    return _flat_values(name, proto, tensor_type, elements).reshape(shape)


def _flat_values(name: str, proto: tensor_pb2.TensorProto, tensor_type: TensorType, elements: int) -> np.ndarray:
    if proto.tensor_content:
        if tensor_type.numpy is object:
            raise invalid(f"input {name!r}: send strings in 'string_val', not in 'tensor_content'")
        expected = elements * np.dtype(tensor_type.numpy).itemsize
        if len(proto.tensor_content) != expected:
            raise invalid(f"input {name!r}: expected {expected} bytes in 'tensor_content', got {len(proto.tensor_content)}")
        return np.frombuffer(proto.tensor_content, dtype=tensor_type.numpy)
    values = list(getattr(proto, tensor_type.field))
    if len(values) > elements or (elements and not values):
        raise invalid(f"input {name!r}: {len(values)} values do not fill a shape of {elements} elements")
    # TensorFlow's rule: where values are missing at the end, the last one is repeated.
    flat = np.empty(elements, dtype=tensor_type.numpy)
    flat[: len(values)] = values
    if values:
        flat[len(values) :] = values[-1]
    return flat


def encode_tensor(array: np.ndarray, dtype: int) -> tensor_pb2.TensorProto:
    """The ``TensorProto`` of an array, values in the typed fields as TensorFlow Serving sends them, so that any client can read them."""
    proto = tensor_pb2.TensorProto(dtype=dtype)
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    getattr(proto, TENSOR_TYPES[dtype].field).extend(array.reshape(-1).tolist())
    return proto


def check_inputs(signature_name: str, signature: meta_graph_pb2.SignatureDef, arrays: Mapping[str, np.ndarray]) -> None:
    """Check that a request gives a signature exactly its inputs, of the right types and shapes, all with the same number of rows.

    TensorFlow Serving checks names and types and leaves shapes to the graph; being told the expected shape helps more here.

    Raises:
        RequestError: Naming the signature, the input, what was expected and what came.
    """
    missing = sorted(set(signature.inputs) - set(arrays))
    extra = sorted(set(arrays) - set(signature.inputs))
    if missing or extra:
        raise invalid(
            f"signature {signature_name!r}: inputs do not match; it takes {', '.join(sorted(signature.inputs))}. "
            f"Sent extra: {{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}."
        )
    for name, array in arrays.items():
        info = signature.inputs[name]
        if not _fits(array, info):
            raise invalid(f"signature {signature_name!r}, input {name!r}: expected {_describe_info(info)}, got {_describe_array(array)}")
    rows = {name: array.shape[0] for name, array in arrays.items() if _is_batched(signature.inputs[name])}
    if len(set(rows.values())) > 1:
        counts = ", ".join(f"{name}: {count}" for name, count in sorted(rows.items()))
        raise invalid(f"signature {signature_name!r}: all inputs must have the same number of rows, got {counts}")


def _is_batched(info: meta_graph_pb2.TensorInfo) -> bool:
    dimensions = info.tensor_shape.dim
    return len(dimensions) > 0 and dimensions[0].size == -1


def _fits(array: np.ndarray, info: meta_graph_pb2.TensorInfo) -> bool:
    tensor_type = TENSOR_TYPES.get(info.dtype)
    if tensor_type is None or array.dtype != np.dtype(tensor_type.numpy):
        return False
    if info.tensor_shape.unknown_rank:
        return True
    expected = [dimension.size for dimension in info.tensor_shape.dim]
    return len(expected) == array.ndim and all(size in (-1, actual) for size, actual in zip(expected, array.shape, strict=True))


def _describe_info(info: meta_graph_pb2.TensorInfo) -> str:
    if info.tensor_shape.unknown_rank:
        return type_name(info.dtype)
    sizes = ["any" if dimension.size == -1 else str(dimension.size) for dimension in info.tensor_shape.dim]
    return f"{type_name(info.dtype)} [{', '.join(sizes)}]"


def _describe_array(array: np.ndarray) -> str:
    name = next((t.name for t in TENSOR_TYPES.values() if np.dtype(t.numpy) == array.dtype), str(array.dtype))
    return f"{name} [{', '.join(str(size) for size in array.shape)}]"

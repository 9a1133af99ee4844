"""Between ``TensorProto``s and NumPy arrays, and whether a request's arrays fit a signature."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from tfmi.serving.bounds import SignatureBounds
from tfmi.serving.errors import invalid

# NumPy takes 64 dimensions, tfmi's signatures have up to 3.
MAX_RANK = 8
# For messages: as much of a shape as there is to say.
_SHOWN_SIZES = 10


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


class TensorShape(NamedTuple):
    """What a tensor is before its values are looked at."""

    dtype: int
    sizes: tuple[int, ...]

    def __str__(self) -> str:
        shown = [str(size) for size in self.sizes[:_SHOWN_SIZES]] + ["..."] * (len(self.sizes) > _SHOWN_SIZES)
        return f"{type_name(self.dtype)} [{', '.join(shown)}]"


def type_name(dtype: int) -> str:
    """The name of a ``DataType`` for messages, whatever number a request gives for it."""
    known = TENSOR_TYPES.get(dtype)
    if known:
        return known.name
    return types_pb2.DataType.Name(dtype) if dtype in types_pb2.DataType.values() else f"number {dtype}"


def decode_inputs(
    signature_name: str,
    signature: meta_graph_pb2.SignatureDef,
    protos: Mapping[str, tensor_pb2.TensorProto],
    bounds: SignatureBounds | None = None,
) -> dict[str, np.ndarray]:
    """The arrays in a request's ``TensorProto``s; strings become object arrays of ``bytes``.

    Names, types, shapes and bounds are checked before anything is allocated: a few bytes can claim a tensor of any size.

    Raises:
        RequestError: ``check_inputs`` refuses them, or values do not fill their shape.
    """
    shapes = {name: shape_of_proto(name, proto) for name, proto in protos.items()}
    for name, proto in protos.items():
        _check_filled(name, proto, math.prod(shapes[name].sizes))
    lengths = [_text_bytes(proto, math.prod(shapes[name].sizes)) for name, proto in protos.items()]
    check_inputs(
        signature_name,
        signature,
        shapes,
        bounds,
        text_bytes=sum(total for total, _ in lengths),
        longest_text=max((longest for _, longest in lengths), default=0),
    )
    return {name: decode_tensor(name, proto) for name, proto in protos.items()}


def shape_of_proto(name: str, proto: tensor_pb2.TensorProto) -> TensorShape:
    """Type and shape that a ``TensorProto`` claims.

    Raises:
        RequestError: A type that tfmi's signatures do not use, or a shape that is unknown, negative or of too many dimensions.
    """
    if proto.dtype not in TENSOR_TYPES:
        raise invalid(f"input {name!r}: tensors of type {type_name(proto.dtype)} are not served here")
    dimensions = len(proto.tensor_shape.dim)
    if dimensions > MAX_RANK:
        raise invalid(f"input {name!r}: {dimensions} dimensions are more than the {MAX_RANK} that this server takes")
    sizes = tuple(dimension.size for dimension in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
        raise invalid(f"input {name!r}: its shape must be fully known, got {list(sizes)}")
    return TensorShape(proto.dtype, sizes)


def shape_of_array(array: np.ndarray) -> TensorShape:
    """Type and shape of an array; ``DT_INVALID`` for a type that is not served."""
    dtype = next((number for number, kind in TENSOR_TYPES.items() if np.dtype(kind.numpy) == array.dtype), types_pb2.DT_INVALID)
    return TensorShape(dtype, array.shape)


def decode_tensor(name: str, proto: tensor_pb2.TensorProto) -> np.ndarray:
    """The array in a ``TensorProto`` whose shape has been checked.

    Raises:
        RequestError: The values do not fill the shape.
    """
    shape = shape_of_proto(name, proto)
    elements = math.prod(shape.sizes)
    _check_filled(name, proto, elements)
    return _flat_values(proto, TENSOR_TYPES[shape.dtype], elements).reshape(shape.sizes)


def _text_bytes(proto: tensor_pb2.TensorProto, elements: int) -> tuple[int, int]:
    """Bytes of all strings of a tensor, the last one as often as it is repeated, and of the longest."""
    lengths = [len(text) for text in proto.string_val]
    if not lengths:
        return 0, 0
    return sum(lengths) + lengths[-1] * max(elements - len(lengths), 0), max(lengths)


def _check_filled(name: str, proto: tensor_pb2.TensorProto, elements: int) -> None:
    """Raise ``RequestError`` unless a tensor's values, the last one repeated, are as many as its shape says."""
    tensor_type = TENSOR_TYPES[proto.dtype]
    if proto.tensor_content:
        if tensor_type.numpy is object:
            raise invalid(f"input {name!r}: send strings in 'string_val', not in 'tensor_content'")
        expected = elements * np.dtype(tensor_type.numpy).itemsize
        if len(proto.tensor_content) != expected:
            raise invalid(f"input {name!r}: expected {expected} bytes in 'tensor_content', got {len(proto.tensor_content)}")
        return
    values = len(getattr(proto, tensor_type.field))
    if values > elements or (elements and not values):
        raise invalid(f"input {name!r}: {values} values do not fill a shape of {elements} elements")


def _flat_values(proto: tensor_pb2.TensorProto, tensor_type: TensorType, elements: int) -> np.ndarray:
    if proto.tensor_content:
        if tensor_type.numpy is np.bool_:  # any byte may come, and only 0 and 1 are booleans
            return np.frombuffer(proto.tensor_content, dtype=np.uint8) != 0
        return np.frombuffer(proto.tensor_content, dtype=tensor_type.numpy)
    values = list(getattr(proto, tensor_type.field))
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


def check_inputs(
    signature_name: str,
    signature: meta_graph_pb2.SignatureDef,
    shapes: Mapping[str, TensorShape],
    bounds: SignatureBounds | None = None,
    *,
    text_bytes: int = 0,
    longest_text: int = 0,
) -> None:
    """Check that a request gives a signature exactly its inputs, of the right types and shapes, all with the same number of rows.

    TensorFlow Serving checks names and types and leaves shapes to the graph; being told the expected shape helps more here.

    Raises:
        RequestError: Naming the signature, the input, what was expected and what came.
    """
    missing = sorted(set(signature.inputs) - set(shapes))
    extra = sorted(set(shapes) - set(signature.inputs))
    if missing or extra:
        raise invalid(
            f"signature {signature_name!r}: inputs do not match; it takes {', '.join(sorted(signature.inputs))}. "
            f"Sent extra: {{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}."
        )
    for name, shape in shapes.items():
        info = signature.inputs[name]
        if not _fits(shape, info):
            raise invalid(f"signature {signature_name!r}, input {name!r}: expected {_describe_info(info)}, got {shape}")
    rows = {name: shape.sizes[0] for name, shape in shapes.items() if _is_batched(signature.inputs[name])}
    if len(set(rows.values())) > 1:
        counts = ", ".join(f"{name}: {count}" for name, count in sorted(rows.items()))
        raise invalid(f"signature {signature_name!r}: all inputs must have the same number of rows, got {counts}")
    if bounds is not None:
        bounds.check({name: shape.sizes for name, shape in shapes.items()}, text_bytes, longest_text)


def _is_batched(info: meta_graph_pb2.TensorInfo) -> bool:
    dimensions = info.tensor_shape.dim
    return len(dimensions) > 0 and dimensions[0].size == -1


def _fits(shape: TensorShape, info: meta_graph_pb2.TensorInfo) -> bool:
    if info.dtype not in TENSOR_TYPES or shape.dtype != info.dtype:
        return False
    if info.tensor_shape.unknown_rank:
        return True
    expected = [dimension.size for dimension in info.tensor_shape.dim]
    return len(expected) == len(shape.sizes) and all(size in (-1, actual) for size, actual in zip(expected, shape.sizes, strict=True))


def _describe_info(info: meta_graph_pb2.TensorInfo) -> str:
    if info.tensor_shape.unknown_rank:
        return type_name(info.dtype)
    sizes = ["any" if dimension.size == -1 else str(dimension.size) for dimension in info.tensor_shape.dim]
    return f"{type_name(info.dtype)} [{', '.join(sizes)}]"

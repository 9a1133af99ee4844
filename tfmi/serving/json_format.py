"""The JSON of TensorFlow Serving's REST API: requests to arrays, arrays to responses.

Row format: ``{"instances": [...]}`` is answered by ``{"predictions": [...]}``; columnar: ``{"inputs": ...}`` by ``{"outputs": ...}``.
A signature with one input (output) leaves its name out. Numbers may be ``NaN``, ``Infinity`` and ``-Infinity``, as in JavaScript and
Python. Binary strings travel as ``{"b64": "..."}``: on the way in wherever a string is expected, on the way out for outputs whose
name ends in ``_bytes``.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from tfmi.core.text import shorten
from tfmi.serving.errors import Code, RequestError, invalid
from tfmi.serving.tensors import TENSOR_TYPES, type_name

Inputs = Mapping[str, meta_graph_pb2.TensorInfo]

_MAX_VALUE_CHARACTERS = 100
_MAX_RANK = 8
_INTEGER_TYPES = (types_pb2.DT_INT32, types_pb2.DT_INT64)
_DECIMAL_TYPES = (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE)
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


def parse_request(body: bytes, most_values: int | None = None) -> dict[str, Any]:
    """The JSON object in a request's body.

    Args:
        body: UTF-8.
        most_values: A text with more values is refused before it is parsed: Python holds up to a hundred bytes for two bytes of text.

    Raises:
        RequestError: Not UTF-8, not JSON, too many values, nested too deeply, or not an object.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    if most_values is not None and _values(body) > most_values and _values(_TEXT.sub(b'""', body)) > most_values:
        raise invalid(f"the request has more than the {most_values} values that this server takes; send fewer rows at a time")
    try:
        document = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise invalid(f"JSON Parse error: {error}") from None
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {_show(document)} Is not object")
    return document


def _values(text: bytes) -> int:
    """The values in a JSON text at most: each has a comma or a bracket before it, or is the whole text."""
    return text.count(b",") + text.count(b"[") + text.count(b"{") + 1


def requested_signature(document: Mapping[str, Any]) -> str:
    """The request's ``signature_name``, or an empty string. Raises ``RequestError`` if it is not a string."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(f"JSON Value: {_show(name)} not formatted correctly. 'signature_name' key must be a string value.")
    return name


def arrays_from_request(document: Mapping[str, Any], inputs: Inputs) -> tuple[dict[str, np.ndarray], bool]:
    """The input arrays of a request, and whether it was in row format.

    Raises:
        RequestError: Neither or both of ``instances`` and ``inputs``, ragged lists, or values of the wrong type.
    """
    if ("instances" in document) == ("inputs" in document):
        found = "both" if "inputs" in document else "neither"
        raise invalid(f"expected one of the keys 'inputs' and 'instances' in the request, got {found}")
    if "instances" in document:
        return _arrays_from_rows(document["instances"], inputs), True
    return _arrays_from_columns(document["inputs"], inputs), False


def _arrays_from_rows(rows: Any, inputs: Inputs) -> dict[str, np.ndarray]:
    if not isinstance(rows, list):
        raise invalid(f"expected 'instances' to be a list, got {_show(rows)}")
    if not rows:
        raise invalid("no values in the 'instances' list")
    named = isinstance(rows[0], dict) and not _is_base64(rows[0])
    if not named:
        if len(inputs) > 1:
            raise invalid(f"'instances' is a plain list, but this signature takes several inputs by name: {', '.join(sorted(inputs))}")
        (name,) = inputs
        return {name: _array(rows, inputs[name].dtype, f"'instances', input {name!r}")}
    for position, row in enumerate(rows):
        if not isinstance(row, dict) or set(row) != set(inputs):
            raise invalid(
                f"Failed to process element: {position} of 'instances' list. JSON object: {_show(row)} "
                f"must only have keys: {','.join(sorted(inputs))}"
            )
    return {name: _array([row[name] for row in rows], info.dtype, f"'instances', input {name!r}") for name, info in inputs.items()}


def _arrays_from_columns(columns: Any, inputs: Inputs) -> dict[str, np.ndarray]:
    if not isinstance(columns, dict) or _is_base64(columns):
        if len(inputs) > 1:
            raise invalid(f"'inputs' is a plain value or list, but this signature takes several: {', '.join(sorted(inputs))}")
        (name,) = inputs
        return {name: _array(columns, inputs[name].dtype, f"'inputs', input {name!r}")}
    missing, extra = sorted(set(inputs) - set(columns)), sorted(set(columns) - set(inputs))
    if missing:
        raise invalid(f"Missing named input: {', '.join(missing)} in 'inputs' object.")
    if extra:
        raise invalid(f"unknown named input in 'inputs' object: {', '.join(extra)}; this signature takes {', '.join(sorted(inputs))}")
    return {name: _array(columns[name], info.dtype, f"'inputs', input {name!r}") for name, info in inputs.items()}


def _array(value: Any, dtype: int, where: str) -> np.ndarray:
    """A rectangular array of nested lists; ``where`` starts every message."""
    if dtype not in TENSOR_TYPES:
        raise invalid(f"{where}: values of type {type_name(dtype)} are not served here")
    shape: list[int] = []
    first = value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    if len(shape) > _MAX_RANK:
        raise invalid(f"{where}: lists nested more than {_MAX_RANK} deep")
    leaves = [_leaf(leaf, dtype, where) for leaf in _leaves(value, shape, where)]
    flat = np.empty(len(leaves), dtype=TENSOR_TYPES[dtype].numpy)
    flat[:] = leaves
    return flat.reshape(shape)


def _leaves(value: Any, shape: Sequence[int], where: str) -> Iterator[Any]:
    """The values of nested lists in order, which must have exactly ``shape``."""
    if not shape:
        if isinstance(value, list):
            raise invalid(f"{where}: found a list where a value was expected; all rows must have the same shape")
        yield value
        return
    if not isinstance(value, list):
        raise invalid(f"{where}: found {_show(value)} where a list was expected; all rows must have the same shape")
    if len(value) != shape[0]:
        raise invalid(f"{where}: lists of different lengths, {shape[0]} and {len(value)}; pad all rows to one length")
    for element in value:
        yield from _leaves(element, shape[1:], where)


def _leaf(value: Any, dtype: int, where: str) -> Any:
    if dtype == types_pb2.DT_STRING and (isinstance(value, str) or _is_base64(value)):
        return _bytes(value, where)
    if dtype == types_pb2.DT_BOOL and isinstance(value, bool):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        if dtype in _DECIMAL_TYPES:
            return _decimal(value, dtype, where)
        if dtype in _INTEGER_TYPES and isinstance(value, int):
            limits = np.iinfo(TENSOR_TYPES[dtype].numpy)
            if limits.min <= value <= limits.max:
                return value
    raise invalid(f"{where}: JSON Value: {_show(value)} Type: {_json_type(value)} is not of expected type: {type_name(dtype)}")


def _decimal(value: float, dtype: int, where: str) -> float:
    kind = TENSOR_TYPES[dtype].numpy
    exact_integers = 2 ** (np.finfo(kind).nmant + 1)
    limit = exact_integers if isinstance(value, int) else float(np.finfo(kind).max)
    if abs(value) > limit and value not in (math.inf, -math.inf):
        raise invalid(f"{where}: Cannot convert JSON value: {_show(value)} to {type_name(dtype)} without loss of precision.")
    return float(value)


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _bytes(value: Any, where: str) -> bytes:
    try:
        return value.encode("utf-8") if isinstance(value, str) else base64.b64decode(value["b64"], validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError) as error:
        raise invalid(f"{where}: {_show(value)} cannot be decoded: {error}") from None


def response_from_arrays(arrays: Mapping[str, np.ndarray], row_format: bool) -> bytes:
    """The JSON body that answers a request; numbers have the fewest digits that read back to the same value.

    Raises:
        RequestError: Row format, but outputs without a common number of rows.
    """
    values = {name: _plain(name, array) for name, array in sorted(arrays.items())}
    document: dict[str, Any]
    if not row_format:
        document = {"outputs": values if len(values) > 1 else next(iter(values.values()))}
    else:
        if len({array.shape[:1] for array in arrays.values()}) != 1 or () in {array.shape for array in arrays.values()}:
            raise RequestError(Code.INVALID_ARGUMENT, "the outputs do not share a first dimension; ask in columnar format, with 'inputs'")
        rows = zip(*values.values(), strict=True)
        document = {"predictions": [dict(zip(values, row, strict=True)) if len(values) > 1 else row[0] for row in rows]}
    # surrogateescape carries bytes that are not UTF-8 through unchanged, as TensorFlow Serving sends them.
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogateescape")


def _plain(name: str, array: np.ndarray) -> Any:
    """Nested lists of Python values."""
    if array.dtype == object:
        convert = _base64_object if name.endswith("_bytes") else _text
        flat = np.empty(array.size, dtype=object)
        flat[:] = [convert(value) for value in array.reshape(-1)]
        return flat.reshape(array.shape).tolist()
    if array.dtype == np.float32:
        # By way of text: 0.2 in float32 is then printed as 0.2 and not as 0.20000000298.
        return array.astype(str).astype(np.float64).tolist()
    return array.tolist()


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _base64_object(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode("ascii")}


def _show(value: Any) -> str:
    try:
        return shorten(json.dumps(value, ensure_ascii=False), _MAX_VALUE_CHARACTERS)
    except RecursionError:
        return "(nested too deeply to show)"


def _json_type(value: Any) -> str:
    names = {type(None): "Null", bool: "Bool", dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}
    return names[type(value)]

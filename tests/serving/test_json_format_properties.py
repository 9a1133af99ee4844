"""Any JSON becomes arrays of the signature's types or one clear refusal, and what was sent as JSON arrives as it was."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from tfmi.serving.errors import Code, RequestError
from tfmi.serving.json_format import arrays_from_request, parse_request, requested_signature, response_from_arrays

DTYPES = {"text": types_pb2.DT_STRING, "whole": types_pb2.DT_INT64, "number": types_pb2.DT_FLOAT, "flag": types_pb2.DT_BOOL}
INPUTS = {name: meta_graph_pb2.TensorInfo(dtype=dtype) for name, dtype in DTYPES.items()}

LEAVES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8) | st.just({"b64": "/w=="})
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=15
)
COLUMNS = st.fixed_dictionaries(dict.fromkeys(INPUTS, VALUES))
DOCUMENTS = (
    st.fixed_dictionaries({"inputs": COLUMNS | VALUES})
    | st.fixed_dictionaries({"instances": st.lists(COLUMNS, max_size=3) | VALUES})
    | st.dictionaries(st.sampled_from(["inputs", "instances", "signature_name", "more"]), VALUES, max_size=3)
)


@settings(max_examples=150, deadline=None)
@given(DOCUMENTS)
def test_any_document_becomes_arrays_or_a_refusal(document: dict[str, Any]) -> None:
    arrays: dict[str, np.ndarray] = {}
    code = Code.INVALID_ARGUMENT
    try:
        parsed = parse_request(json.dumps(document).encode())
        requested_signature(parsed)
        arrays, _ = arrays_from_request(parsed, INPUTS)
    except RequestError as error:
        code = error.code
    assert code is Code.INVALID_ARGUMENT
    for name, array in arrays.items():
        assert array.dtype == {"text": object, "whole": np.int64, "number": np.float32, "flag": np.bool_}[name]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_body_is_an_object_or_a_refusal(body: bytes) -> None:
    parsed: Any = {}
    try:
        parsed = parse_request(body)
    except RequestError as error:
        assert error.code is Code.INVALID_ARGUMENT  # noqa: PT017 - either outcome is right
    assert isinstance(parsed, dict)


# The shortest decimal of the largest floats is a little above them, and a number above them is no float.
NUMBERS = st.floats(width=32, min_value=-(2.0**127), max_value=2.0**127) | st.sampled_from([float("nan"), float("inf"), float("-inf")])
ROWS = st.integers(1, 4).flatmap(
    lambda rows: st.fixed_dictionaries(
        {
            "text": st.lists(st.lists(st.text(max_size=5), min_size=2, max_size=2), min_size=rows, max_size=rows),
            "whole": st.lists(st.integers(-(2**63), 2**63 - 1), min_size=rows, max_size=rows),
            "number": st.lists(NUMBERS, min_size=rows, max_size=rows),
            "flag": st.lists(st.booleans(), min_size=rows, max_size=rows),
        }
    )
)


@settings(max_examples=150, deadline=None)
@given(ROWS)
def test_rows_and_columns_say_the_same_and_come_back_as_they_were(columns: dict[str, list[Any]]) -> None:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    by_columns, _ = arrays_from_request({"inputs": columns}, INPUTS)
    by_rows, row_format = arrays_from_request({"instances": rows}, INPUTS)
    assert row_format
    for name, array in by_columns.items():
        np.testing.assert_array_equal(array, by_rows[name])
    answered = json.loads(response_from_arrays(by_columns, row_format=False))["outputs"]
    again, _ = arrays_from_request({"inputs": answered}, INPUTS)
    for name, array in by_columns.items():
        np.testing.assert_array_equal(array, again[name])

"""The REST API's JSON, as TensorFlow Serving's documentation and sources describe it."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from tfmi.serving.errors import RequestError
from tfmi.serving.json_format import arrays_from_request, parse_request, requested_signature, response_from_arrays

ONE = {"x": meta_graph_pb2.TensorInfo(dtype=types_pb2.DT_STRING)}
TWO = {"x": meta_graph_pb2.TensorInfo(dtype=types_pb2.DT_STRING), "y": meta_graph_pb2.TensorInfo(dtype=types_pb2.DT_FLOAT)}


def single(dtype: int) -> dict[str, meta_graph_pb2.TensorInfo]:
    return {"x": meta_graph_pb2.TensorInfo(dtype=dtype)}


@pytest.mark.parametrize(
    ("document", "row_format"),
    [
        ({"instances": ["a", "b"]}, True),
        ({"instances": [{"x": "a"}, {"x": "b"}]}, True),
        ({"inputs": ["a", "b"]}, False),
        ({"inputs": {"x": ["a", "b"]}}, False),
        ({"instances": [{"b64": "YQ=="}, "b"]}, True),
    ],
)
def test_one_input_with_and_without_its_name(document: dict[str, Any], row_format: bool) -> None:
    arrays, found_row_format = arrays_from_request(document, ONE)
    assert found_row_format is row_format
    assert arrays["x"].tolist() == [b"a", b"b"]


def test_rows_and_columns_of_several_inputs_agree() -> None:
    rows, _ = arrays_from_request({"instances": [{"x": ["a", "é"], "y": 0.5}, {"x": ["", "c"], "y": 2}]}, TWO)
    columns, _ = arrays_from_request({"inputs": {"x": [["a", "é"], ["", "c"]], "y": [0.5, 2]}}, TWO)
    for name in TWO:
        np.testing.assert_array_equal(rows[name], columns[name])
    assert rows["x"].tolist() == [[b"a", "é".encode()], [b"", b"c"]]
    assert rows["y"].dtype == np.float32


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        (types_pb2.DT_FLOAT, float("-inf"), -np.inf),
        (types_pb2.DT_FLOAT, 3, 3.0),
        (types_pb2.DT_DOUBLE, 1e300, 1e300),
        (types_pb2.DT_INT32, -5, -5),
        (types_pb2.DT_INT64, 2**40, 2**40),
        (types_pb2.DT_BOOL, True, True),
        (types_pb2.DT_STRING, "", b""),
    ],
)
def test_values_that_fit_their_type(dtype: int, value: Any, expected: Any) -> None:
    arrays, _ = arrays_from_request({"inputs": {"x": value}}, single(dtype))
    assert arrays["x"].shape == ()
    assert arrays["x"].item() == expected


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (types_pb2.DT_STRING, 5),
        (types_pb2.DT_STRING, None),
        (types_pb2.DT_STRING, {"b64": "!"}),
        (types_pb2.DT_STRING, {"b64": "YQ==", "more": 1}),
        (types_pb2.DT_STRING, "\ud800"),
        (types_pb2.DT_FLOAT, "0.5"),
        (types_pb2.DT_FLOAT, True),
        (types_pb2.DT_FLOAT, 1e39),
        (types_pb2.DT_FLOAT, 2**25),
        (types_pb2.DT_FLOAT, 10**400),
        (types_pb2.DT_INT32, 1.0),
        (types_pb2.DT_INT32, 2**31),
        (types_pb2.DT_BOOL, 1),
        (types_pb2.DT_HALF, 1.0),
    ],
)
def test_values_that_do_not_fit_their_type_are_refused(dtype: int, value: Any) -> None:
    with pytest.raises(RequestError, match="input 'x'"):
        arrays_from_request({"inputs": {"x": [value]}}, single(dtype))


@pytest.mark.parametrize("rows", [[["a", "b"], ["c"]], [["a"], "b"], ["a", ["b"]], [["a"], [["b"]]], [[], ["a"]]])
def test_rows_of_different_shapes_are_refused(rows: list[Any]) -> None:
    for document in ({"instances": rows}, {"inputs": rows}):
        with pytest.raises(RequestError, match=r"lists of different lengths|must have the same shape"):
            arrays_from_request(document, ONE)


def test_deep_nesting_is_refused() -> None:
    nested: Any = "a"
    for _ in range(20):
        nested = [nested]
    with pytest.raises(RequestError, match="nested more than"):
        arrays_from_request({"inputs": nested}, ONE)
    with pytest.raises(RequestError, match="JSON Parse error"):
        parse_request(b"[" * 200_000)


@pytest.mark.parametrize("body", [b"", b"{", b"[1, 2]", b"\xff{}", b'{"a": ' + b"9" * 5000 + b"}", b"null"])
def test_bodies_that_are_not_json_objects_are_refused(body: bytes) -> None:
    with pytest.raises(RequestError, match=r"JSON Parse error|Is not object"):
        parse_request(body)


def test_signature_name_must_be_text() -> None:
    assert requested_signature({}) == ""
    with pytest.raises(RequestError, match="'signature_name' key must be a string"):
        requested_signature({"signature_name": 5})


def test_response_shapes_follow_the_request_format() -> None:
    one = {"x": np.array([[b"a"], [b"b"]], dtype=object)}
    two = one | {"y": np.array([1, 2], dtype=np.int32)}
    assert json.loads(response_from_arrays(one, True)) == {"predictions": [["a"], ["b"]]}
    assert json.loads(response_from_arrays(one, False)) == {"outputs": [["a"], ["b"]]}
    assert json.loads(response_from_arrays(two, True)) == {"predictions": [{"x": ["a"], "y": 1}, {"x": ["b"], "y": 2}]}
    assert json.loads(response_from_arrays(two, False)) == {"outputs": {"x": [["a"], ["b"]], "y": [1, 2]}}


def test_row_format_needs_a_common_first_dimension() -> None:
    uneven = {"x": np.zeros([2], np.int32), "y": np.zeros([3], np.int32)}
    with pytest.raises(RequestError, match="columnar"):
        response_from_arrays(uneven, True)
    with pytest.raises(RequestError, match="columnar"):
        response_from_arrays({"x": np.array(1, np.int32)}, True)


def test_numbers_are_short_and_infinities_are_written_as_javascript_has_them() -> None:
    scores = np.array([0.2, -np.inf, np.inf, np.nan, 1 / 3], dtype=np.float32)
    text = response_from_arrays({"scores": scores}, False).decode()
    assert text == '{"outputs": [0.2, -Infinity, Infinity, NaN, 0.33333334]}'
    assert np.float32(json.loads(text)["outputs"][-1]) == scores[-1]


def test_text_goes_through_unchanged_and_bytes_as_base64() -> None:
    strings = np.array(["žluťoučký 東京".encode(), b"\xff\xfe"], dtype=object)
    body = response_from_arrays({"item_ids": strings}, False)
    assert "žluťoučký 東京".encode() in body
    assert b"\xff\xfe" in body
    encoded = json.loads(response_from_arrays({"image_bytes": strings}, False))["outputs"]
    assert [base64.b64decode(value["b64"]) for value in encoded] == strings.tolist()

"""What a request may ask for is known from its shapes, before anything of that size exists."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from tfmi.serving.bounds import ModelCosts, RequestLimits, SignatureBounds
from tfmi.serving.errors import MAX_HEADER_BYTES, MAX_MESSAGE_CHARACTERS, Code, RequestError, invalid
from tfmi.serving.json_format import parse_request
from tfmi.serving.tensors import decode_inputs

STRING, FLOAT = types_pb2.DT_STRING, types_pb2.DT_FLOAT


def signature_of(inputs: dict[str, tuple[int, list[int]]], outputs: dict[str, tuple[int, list[int]]]) -> meta_graph_pb2.SignatureDef:
    signature = meta_graph_pb2.SignatureDef()
    for infos, given_infos in ((signature.inputs, inputs), (signature.outputs, outputs)):
        for name, (dtype, sizes) in given_infos.items():
            infos[name].dtype = dtype
            for size in sizes:
                infos[name].tensor_shape.dim.add().size = size
    return signature


ANSWER = {"item_ids": (STRING, [-1, 50]), "scores": (FLOAT, [-1, 50])}
RECOMMEND = signature_of({"history": (STRING, [-1, 20]), "exclude": (STRING, [-1, -1])}, ANSWER)
EXAMPLES = signature_of({"examples": (STRING, [-1])}, ANSWER)
RANK = signature_of({"history": (STRING, [-1, 20]), "candidates": (STRING, [-1, -1])}, {"scores": (FLOAT, [-1, -1])})
TAG_USERS = signature_of({"tags": (STRING, [-1])}, {"buy_user_ids": (STRING, [-1, 1000]), "buy_scores": (FLOAT, [-1, 1000])})
COSTS = ModelCosts(results=50, most_results=500, interests=4, items=1_000_000, audience=10_000_000)
LIMITS = RequestLimits()


def proto(shape: list[int], values: list[bytes], dtype: int = STRING) -> tensor_pb2.TensorProto:
    message = tensor_pb2.TensorProto(dtype=dtype, string_val=values)
    for size in shape:
        message.tensor_shape.dim.add().size = size
    return message


@pytest.mark.parametrize(
    ("name", "signature", "inputs", "said"),
    [
        ("recommend", RECOMMEND, {"history": proto([4096, 20], [b"a"]), "exclude": proto([4096, 1], [b""])}, "4096 rows are more than"),
        ("recommend", RECOMMEND, {"history": proto([1000, 20], [b"a"]), "exclude": proto([1000, 10_000], [b""])}, "--max-elements"),
        ("recommend", RECOMMEND, {"history": proto([0, 20], []), "exclude": proto([0, 2**62], [])}, "--max-elements"),
        ("recommend", RECOMMEND, {"history": proto([800, 20], [b"a"]), "exclude": proto([800, 1], [b""])}, "536 at a time"),
        ("recommend_examples", EXAMPLES, {"examples": proto([1000], [b"x" * 100_000])}, "its strings have 100000000 bytes"),
        ("recommend_examples", EXAMPLES, {"examples": proto([500], [b"x" * 30_000])}, "--max-elements"),
        ("rank", RANK, {"history": proto([1, 20], [b"a"]), "candidates": proto([1, 2**22], [b"a"])}, "fewer columns at a time"),
        ("tag_users", TAG_USERS, {"tags": proto([1000], [b"a"])}, "scores that this server takes: 214 at a time"),
    ],
)
def test_what_would_cost_too_much_is_refused_without_allocating_it(
    name: str, signature: meta_graph_pb2.SignatureDef, inputs: dict[str, tensor_pb2.TensorProto], said: str
) -> None:
    bounds = SignatureBounds(name, signature, COSTS, LIMITS)
    tracemalloc.start()
    try:
        with pytest.raises(RequestError) as refusal:
            decode_inputs(name, signature, inputs, bounds)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert refusal.value.code is Code.INVALID_ARGUMENT
    assert said in refusal.value.message


@pytest.mark.parametrize(("rows", "width"), [(1, 50), (100, 50), (500, 50), (50, 10_000)])
def test_ordinary_requests_pass(rows: int, width: int) -> None:
    inputs = {"history": proto([rows, 20], [b"item-1"]), "exclude": proto([rows, width], [b""])}
    arrays = decode_inputs("recommend", RECOMMEND, inputs, SignatureBounds("recommend", RECOMMEND, COSTS, LIMITS))
    assert arrays["exclude"].shape == (rows, width)


FILTERED = signature_of(
    {
        "history": (STRING, [-1, 20]),
        "exclude": (STRING, [-1, 50]),
        "allow_items": (STRING, [-1, -1]),
        "num_results": (types_pb2.DT_INT32, [-1]),
    },
    {"item_ids": (STRING, [-1, -1]), "scores": (FLOAT, [-1, -1])},
)


def test_a_request_that_may_ask_for_more_results_is_taken_to_ask_for_all() -> None:
    bounds = SignatureBounds("recommend_filtered", FILTERED, COSTS, LIMITS)
    shapes = {"history": (20, 20), "exclude": (20, 50), "allow_items": (20, 100_000), "num_results": (20,)}
    bounds.check(shapes)
    with pytest.raises(RequestError, match="--max-elements"):
        bounds.check({name: (500, *shape[1:]) for name, shape in shapes.items()} | {"allow_items": (500, 1)})


def test_a_single_row_is_never_refused_for_the_size_of_the_catalogue() -> None:
    huge = ModelCosts(results=50, most_results=50, interests=8, items=10**9)
    SignatureBounds("recommend", RECOMMEND, huge, LIMITS).check({"history": (1, 20), "exclude": (1, 50)})


def test_costs_are_those_of_the_metadata(tmp_path: Path) -> None:
    interests = signature_of({"history": (STRING, [-1, 20])}, {"interests": (FLOAT, [-1, 4, 64])})
    assert ModelCosts.from_folder(tmp_path, {}) == ModelCosts()
    (tmp_path / "assets.extra").mkdir()
    file = tmp_path / "assets.extra" / "tfmi_metadata.json"
    metadata: dict[str, Any] = {
        "widths": {"num_results": 7},
        "items": 60,
        "ranking": {"pool": 28},
        "index": {"kind": "exact"},
        "filters": {"most_results": 70},
    }
    file.write_text(json.dumps(metadata))
    assert ModelCosts.from_folder(tmp_path, {"user_interests": interests}) == ModelCosts(
        results=7, most_results=70, interests=4, items=60, pool=28
    )
    for odd in ("[]", "{", '{"widths": 3, "items": -1, "ranking": [], "index": null}', '{"items": true}'):
        file.write_text(odd)
        assert ModelCosts.from_folder(tmp_path, {}) == ModelCosts()


def test_json_is_counted_before_it_is_parsed() -> None:
    assert parse_request(b'{"inputs": [",,,,[[[[", "\\",,,,"]}', 5) == {"inputs": [",,,,[[[[", '",,,,']}
    for body in (b'{"inputs": [' + b"[]," * 50 + b"1]}", b'{"inputs": ' + b"[" * 50 + b"]" * 50 + b"}", b'{"inputs": [' + b"{}," * 50):
        with pytest.raises(RequestError, match="more than the 20 values"):
            parse_request(body, 20)


@pytest.mark.slow
@settings(deadline=None)
@given(st.text(max_size=5000) | st.text(alphabet="\U0001f600%\x1b\n", min_size=1000, max_size=3000))
def test_messages_fit_a_header_and_show(text: str) -> None:
    message = invalid(text).message
    encoded = sum(1 if " " <= character <= "~" and character != "%" else 3 * len(character.encode()) for character in message)
    assert encoded <= MAX_HEADER_BYTES + 12
    assert len(message) <= MAX_MESSAGE_CHARACTERS
    assert message.isprintable()


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([-1, 0, 1, 2, 20, 2**31, 2**62, 2**63 - 1]), max_size=70),
    st.lists(st.binary(max_size=5), max_size=50),
    st.sampled_from([0, 1, 7, 19, 20, 999, -5]),
    st.binary(max_size=8),
)
def test_any_tensor_is_decoded_or_refused(shape: list[int], values: list[bytes], dtype: int, content: bytes) -> None:
    message = proto(shape, values, dtype)
    message.tensor_content = content
    arrays, code = None, Code.INVALID_ARGUMENT
    try:
        arrays = decode_inputs("recommend_examples", EXAMPLES, {"examples": message}, SignatureBounds("x", EXAMPLES, COSTS, LIMITS))
    except RequestError as error:
        code = error.code
    assert code is Code.INVALID_ARGUMENT
    if arrays is None:
        return
    # A slow reference: TensorFlow's own rule, value by value.
    expected = [values[min(place, len(values) - 1)] for place in range(shape[0])]
    np.testing.assert_array_equal(arrays["examples"], np.array([*expected, b""], dtype=object)[:-1])

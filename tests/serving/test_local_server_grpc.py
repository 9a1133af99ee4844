"""The gRPC side of the local server, over the stubs that TensorFlow Serving's clients use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.serving.toy_servable import MAX_REQUEST_BYTES, predict_request
from tfmi.serving.local_server import LocalServer

HISTORY = [["a", "b", "", "", ""]]


@pytest.fixture(scope="module")
def channel(server: LocalServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_address) as opened:
        yield opened


@pytest.fixture(scope="module")
def predictions(channel: grpc.Channel) -> Any:
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def models(channel: grpc.Channel) -> Any:
    return model_service_pb2_grpc.ModelServiceStub(channel)


def test_predict(predictions: Any) -> None:
    response = predictions.Predict(predict_request(history=HISTORY), timeout=20)
    assert response.model_spec.name == "toy"
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == "serving_default"
    assert tf.make_ndarray(response.outputs["item_ids"]).tolist() == [[b"c", b"d", b"e", b"f"]]
    np.testing.assert_array_equal(tf.make_ndarray(response.outputs["scores"]), [[1.0, 0.875, 0.75, 0.625]])


def test_values_stand_in_typed_fields_as_tensorflow_serving_sends_them(predictions: Any) -> None:
    outputs = predictions.Predict(predict_request(history=HISTORY), timeout=20).outputs
    assert list(outputs["scores"].float_val) == [1.0, 0.875, 0.75, 0.625]
    assert list(outputs["item_ids"].string_val) == [b"c", b"d", b"e", b"f"]
    assert not any(output.tensor_content for output in outputs.values())


def test_every_signature(predictions: Any) -> None:
    wishes: dict[str, Any] = {
        "exclude": [["c", "", ""]],
        "diversity": np.array([np.nan], np.float32),
        "profile_age": np.array([2.0], np.float32),
        "profile_home_city": [""],
        "profile_tags": [["", ""]],
        "profile_tags_weights": np.zeros([1, 2], np.float32),
    }
    recommend = predict_request("recommend", "toy", history=HISTORY, **wishes)
    assert predictions.Predict(recommend, timeout=20).outputs["scores"].float_val[0] == 20.875
    interests = predictions.Predict(predict_request("user_interests", history=HISTORY), timeout=20).outputs
    assert tf.make_ndarray(interests["interests"]).shape == (1, 2, 3)
    similar = predictions.Predict(predict_request("similar_items", item_ids=["nobody"]), timeout=20).outputs
    assert list(similar["scores"].float_val) == [-np.inf] * 4


def test_no_rows_get_no_rows(predictions: Any) -> None:
    response = predictions.Predict(predict_request(history=np.empty([0, 5], dtype=object)), timeout=20)
    assert tf.make_ndarray(response.outputs["item_ids"]).shape == (0, 4)


def test_output_filter(predictions: Any) -> None:
    request = predict_request(history=HISTORY)
    request.output_filter.append("item_ids")
    assert set(predictions.Predict(request, timeout=20).outputs) == {"item_ids"}


def test_sets_of_outputs_are_filtered_and_not_prepared_one_by_one(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session keeps an executor for every set of outputs, of which there are exponentially many."""
    fetched: list[set[str]] = []
    with server.models.acquire("toy") as (_, servable):
        run = servable._session.run

        def watched(fetches: dict[str, str], *arguments: Any, **named: Any) -> Any:
            fetched.append(set(fetches))
            return run(fetches, *arguments, **named)

        monkeypatch.setattr(servable._session, "run", watched)
        rows = np.array(HISTORY, dtype=object)
        for outputs in (["scores"], ["item_ids", "scores"], []):
            assert set(servable.predict("", {"history": rows}, outputs)) == (set(outputs) or {"item_ids", "scores", "interests"})
    assert fetched == [{"item_ids", "scores", "interests"}] * 3


def test_metadata_and_status(predictions: Any, models: Any) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "toy"
    response = predictions.GetModelMetadata(request, timeout=20)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert [dim.size for dim in signatures.signature_def["serving_default"].inputs["history"].tensor_shape.dim] == [-1, 5]
    status_request = get_model_status_pb2.GetModelStatusRequest()
    status_request.model_spec.name = "toy"
    (status,) = models.GetModelStatus(status_request, timeout=20).model_version_status
    assert (status.version, status.state) == (1, get_model_status_pb2.ModelVersionStatus.AVAILABLE)


def tensor(dtype: int, shape: list[int], **values: Any) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto(dtype=dtype, **values)
    for size in shape:
        proto.tensor_shape.dim.add().size = size
    return proto


def for_version(version: int) -> predict_pb2.PredictRequest:
    request = predict_request(history=HISTORY)
    request.model_spec.version.value = version
    return request


def with_label(label: str) -> predict_pb2.PredictRequest:
    request = predict_request(history=HISTORY)
    request.model_spec.version_label = label
    return request


def with_filter(name: str) -> predict_pb2.PredictRequest:
    request = predict_request(history=HISTORY)
    request.output_filter.append(name)
    return request


def history(dtype: int, shape: list[int], **values: Any) -> Callable[[], predict_pb2.PredictRequest]:
    return lambda: predict_request(history=tensor(dtype, shape, **values))


def example(value: bytes) -> Callable[[], predict_pb2.PredictRequest]:
    return lambda: predict_request("recommend_examples", examples=tensor(types_pb2.DT_STRING, [1], string_val=[value]))


ODD_NAME: dict[str, Any] = {"\U0001f600" * 3000: HISTORY}
STRING, FLOAT = types_pb2.DT_STRING, types_pb2.DT_FLOAT
BAD_REQUESTS: list[tuple[str, Callable[[], predict_pb2.PredictRequest], str, str]] = [
    ("no model", lambda: predict_request(model="", history=HISTORY), "INVALID_ARGUMENT", "expected model_spec.name"),
    ("unknown model", lambda: predict_request(model="toi", history=HISTORY), "NOT_FOUND", "did you mean 'toy'?"),
    ("unknown version", lambda: for_version(9), "NOT_FOUND", "Specific(toy, 9)"),
    ("version zero", lambda: for_version(0), "NOT_FOUND", "Specific(toy, 0)"),
    ("unknown label", lambda: with_label("stable"), "INVALID_ARGUMENT", "Unrecognized servable version label: stable"),
    ("unknown signature", lambda: predict_request("recomend", history=HISTORY), "INVALID_ARGUMENT", "did you mean 'recommend'?"),
    ("no inputs", predict_request, "INVALID_ARGUMENT", "Missing but required: {history}"),
    ("extra input", lambda: predict_request(history=HISTORY, more=[1]), "INVALID_ARGUMENT", "Sent extra: {more}"),
    ("misspelt input", lambda: predict_request(histori=HISTORY), "INVALID_ARGUMENT", "Sent extra: {histori}"),
    ("unknown output", lambda: with_filter("titles"), "INVALID_ARGUMENT", "no output titles; it gives interests, item_ids, scores"),
    ("wrong type", lambda: predict_request(history=[[1.0] * 5]), "INVALID_ARGUMENT", "expected string [any, 5], got float [1, 5]"),
    ("history too long", lambda: predict_request(history=[["a"] * 6]), "INVALID_ARGUMENT", "got string [1, 6]"),
    ("scalar", lambda: predict_request(history="a"), "INVALID_ARGUMENT", "got string []"),
    ("unknown rank", history(STRING, [], tensor_shape={"unknown_rank": True}), "INVALID_ARGUMENT", "its shape must be fully known"),
    ("negative size", history(STRING, [-1, 5], string_val=[b"a"]), "INVALID_ARGUMENT", "its shape must be fully known, got [-1, 5]"),
    ("too few values", history(STRING, [1, 5]), "INVALID_ARGUMENT", "0 values do not fill a shape of 5 elements"),
    ("too many values", history(STRING, [1, 5], string_val=[b"a"] * 6), "INVALID_ARGUMENT", "6 values do not fill a shape of 5 elements"),
    ("memory bomb", history(STRING, [2**40, 5], string_val=[b"a"]), "INVALID_ARGUMENT", "more than the"),
    ("strings as content", history(STRING, [1, 5], tensor_content=b"abc"), "INVALID_ARGUMENT", "send strings in 'string_val'"),
    ("short content", history(FLOAT, [1, 5], tensor_content=b"abc"), "INVALID_ARGUMENT", "expected 20 bytes in 'tensor_content', got 3"),
    ("type not served", history(types_pb2.DT_HALF, [1, 5]), "INVALID_ARGUMENT", "tensors of type DT_HALF are not served here"),
    ("type not set", history(0, [1, 5]), "INVALID_ARGUMENT", "tensors of type DT_INVALID are not served here"),
    ("giant", lambda: predict_request(history=[["a" * MAX_REQUEST_BYTES] + [""] * 4]), "RESOURCE_EXHAUSTED", "larger than max"),
    ("rank 65", history(STRING, [1] * 65, string_val=[b"a"]), "INVALID_ARGUMENT", "65 dimensions are more than the 8"),
    ("giant and empty", history(STRING, [2**62, 0]), "INVALID_ARGUMENT", "got string [4611686018427387904, 0]"),
    ("product beyond 64 bits", history(STRING, [2**62, 2**62, 0]), "INVALID_ARGUMENT", "expected string [any, 5]"),
    ("unknown type", history(999, [1, 5]), "INVALID_ARGUMENT", "tensors of type number 999 are not served here"),
    ("too many rows", history(STRING, [1025, 5], string_val=[b"a"]), "INVALID_ARGUMENT", "1025 rows are more than the 1024"),
    ("no example", example(b"\xb6"), "INVALID_ARGUMENT", ""),
    ("no text", example(b"\xff\xfe\x00"), "INVALID_ARGUMENT", ""),
    ("emojis", lambda: predict_request("\U0001f600" * 5000, history=HISTORY), "INVALID_ARGUMENT", "\U0001f600…"),
    (
        "an input of emojis",
        lambda: predict_request(**ODD_NAME),
        "INVALID_ARGUMENT",
        "inputs do not match",
    ),
    ("an output of emojis", lambda: with_filter("\U0001f600" * 3000), "INVALID_ARGUMENT", "no output \U0001f600"),
    ("a model of emojis", lambda: predict_request(model="\U0001f600" * 3000, history=HISTORY), "NOT_FOUND", "Latest("),
    ("control characters", lambda: predict_request("\x1b[2J\r\nx: y", history=HISTORY), "INVALID_ARGUMENT", "\\x1b[2J\\r\\nx: y"),
    ("in the graph", lambda: predict_request("recommend_examples", examples=["no"]), "INVALID_ARGUMENT", "Could not parse example"),
]


@pytest.mark.parametrize(("make", "code", "message"), [case[1:] for case in BAD_REQUESTS], ids=[case[0] for case in BAD_REQUESTS])
def test_bad_requests_get_a_clear_error_and_the_server_lives_on(
    predictions: Any, make: Callable[[], predict_pb2.PredictRequest], code: str, message: str
) -> None:
    with pytest.raises(grpc.RpcError) as error:
        predictions.Predict(make(), timeout=20)
    assert error.value.code().name == code
    assert message in error.value.details()
    assert error.value.details().isprintable() or code == "RESOURCE_EXHAUSTED"
    assert predictions.Predict(predict_request(history=HISTORY), timeout=20).outputs


def test_repeated_last_value_is_expanded_as_tensorflow_does(predictions: Any) -> None:
    request = predict_request(history=tensor(types_pb2.DT_STRING, [2, 5], string_val=[b"a", b""]))
    assert predictions.Predict(request, timeout=20).outputs["item_ids"].string_val[:5] == [b"b", b"c", b"d", b"e", b"a"]


def test_a_long_message_still_reaches_the_caller(predictions: Any) -> None:
    with pytest.raises(grpc.RpcError) as error:
        predictions.Predict(predict_request("s" * 1_000_000, history=HISTORY), timeout=20)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details().endswith("…")


def test_other_methods_are_unimplemented(predictions: Any, models: Any) -> None:
    for call, request in (
        (predictions.Classify, classification_pb2.ClassificationRequest()),
        (models.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest()),
    ):
        with pytest.raises(grpc.RpcError) as error:
            call(request, timeout=20)
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("fields", [[], ["signature_def", "other"]])
def test_metadata_field_must_be_signature_def(predictions: Any, fields: list[str]) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = "toy"
    with pytest.raises(grpc.RpcError) as error:
        predictions.GetModelMetadata(request, timeout=20)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_status_of_an_unknown_model(models: Any) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "nobody"
    with pytest.raises(grpc.RpcError) as error:
        models.GetModelStatus(request, timeout=20)
    assert error.value.code() is grpc.StatusCode.NOT_FOUND

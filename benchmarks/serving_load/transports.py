"""Sending requests over REST and gRPC, and what comes back: an answer, or a status with its message."""

from __future__ import annotations

import base64
import http.client
import json
import urllib.parse
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

from benchmarks.serving_load.requests import Arrays, ModelRequest
from tfmi.core.errors import TfmiError

NO_ANSWER = "NO_ANSWER"
_STRING = tf.string.as_datatype_enum


class ServerError(TfmiError):
    """The server cannot be reached, or does not serve what it should."""


@dataclass(frozen=True)
class Reply:
    """What came back.

    Attributes:
        status: ``"OK"``, an HTTP status such as ``"400"``, a gRPC code such as ``"INVALID_ARGUMENT"``, or ``NO_ANSWER``.
        answer: The outputs.
        message: What the server said about an error.
    """

    status: str
    answer: Arrays | None = None
    message: str = ""


class Transport(Protocol):
    """One way of asking a server."""

    name: str

    def ask(self, request: ModelRequest, dtypes: dict[str, Any]) -> Reply:
        """Send a request; ``dtypes`` are the outputs' NumPy types. Never raises for what a server can do."""


class GrpcTransport:
    """TensorFlow Serving's ``PredictionService``.

    Args:
        address: ``host:port``.
        timeout: Seconds.
    """

    name = "grpc"

    def __init__(self, address: str, timeout: float) -> None:
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(address, options=options))
        self._address, self._timeout = address, timeout

    def signatures(self, model: str) -> dict[str, meta_graph_pb2.SignatureDef]:
        """The model's signatures; raises ``ServerError`` if it is not served."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = model
        try:
            response = self._stub.GetModelMetadata(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise ServerError(f"{self._address}: model {model!r}: {error.code().name}: {error.details()}") from None
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return dict(signatures.signature_def)

    def ask(self, request: ModelRequest, dtypes: dict[str, Any]) -> Reply:
        """See ``Transport``."""
        message = predict_pb2.PredictRequest()
        message.model_spec.name, message.model_spec.signature_name = request.model, request.signature
        for name, array in request.inputs.items():
            dtype = tf.string if array.dtype == object else tf.as_dtype(array.dtype)
            message.inputs[name].CopyFrom(tf.make_tensor_proto(array.tolist(), dtype, array.shape))
        return self.send(message)

    def send(self, message: predict_pb2.PredictRequest) -> Reply:
        """Send what may be no valid message."""
        try:
            response = self._stub.Predict(message, timeout=self._timeout)
        except grpc.RpcError as error:
            return Reply(error.code().name, message=str(error.details()))
        return Reply("OK", {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()})


class RestTransport:
    """TensorFlow Serving's REST API, in columnar format, over one connection that is kept open.

    Args:
        address: ``http://host:port``.
        timeout: Seconds.
    """

    name = "rest"

    def __init__(self, address: str, timeout: float) -> None:
        parts = urllib.parse.urlsplit(address)
        self._host, self._port, self._timeout = parts.hostname or "127.0.0.1", parts.port or 80, timeout
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, request: ModelRequest, dtypes: dict[str, Any]) -> Reply:
        """See ``Transport``."""
        document = {"signature_name": request.signature, "inputs": {name: to_json(array) for name, array in request.inputs.items()}}
        reply = self.send("POST", f"/v1/models/{request.model}:predict", json.dumps(document).encode())
        if reply.status != "200":
            return reply
        outputs = json.loads(reply.message)["outputs"]
        outputs = outputs if isinstance(outputs, dict) else dict.fromkeys(dtypes, outputs)
        return Reply("OK", {name: _from_json(value, dtypes[name]) for name, value in outputs.items()})

    def send(self, method: str, path: str, body: bytes | None = None) -> Reply:
        """Send a request and return its status and text. A connection that an earlier request has closed is opened again."""
        for attempt in (1, 2):
            fresh = self._connection is None
            connection = self._connection or http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
            self._connection = connection
            try:
                connection.request(method, path, body)
                response = connection.getresponse()
                text = response.read().decode("utf-8", "surrogateescape")
                if response.will_close:
                    self._drop()
                return Reply(str(response.status), message=text)
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                if fresh or attempt == 2:
                    return Reply(NO_ANSWER, message=f"{type(error).__name__}: {error}")
        raise AssertionError("unreachable")

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def to_json(array: np.ndarray) -> Any:
    """Nested lists; bytes that are not UTF-8 as ``{"b64": ...}``."""
    flat = np.empty(array.size, dtype=object)
    flat[:] = [_value(value) for value in array.reshape(-1).tolist()]
    return flat.reshape(array.shape).tolist()


def _value(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode("ascii")}


def _from_json(value: Any, dtype: Any) -> np.ndarray:
    if dtype is not object:
        return np.array(value, dtype=dtype)
    texts = np.array(value, dtype=object)
    encoded = np.empty(texts.size, dtype=object)
    encoded[:] = [text.encode("utf-8", "surrogateescape") for text in texts.reshape(-1)]
    return encoded.reshape(texts.shape)


def output_types(signature: meta_graph_pb2.SignatureDef) -> dict[str, Any]:
    """NumPy types of a signature's outputs; ``object`` for strings."""
    return {
        name: object if info.dtype == tf.string.as_datatype_enum else tf.as_dtype(info.dtype).as_numpy_dtype
        for name, info in signature.outputs.items()
    }

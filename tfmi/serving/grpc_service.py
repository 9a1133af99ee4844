"""TensorFlow Serving's gRPC services, ``PredictionService`` and ``ModelService``, on the stubs of tensorflow-serving-api."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any, TypeVar

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfmi.core.text import shorten
from tfmi.serving.errors import Code, RequestError, ServerConfigError
from tfmi.serving.messages import SIGNATURE_FIELD, metadata_message, status_message
from tfmi.serving.models import Models
from tfmi.serving.servable import DEFAULT_SIGNATURE
from tfmi.serving.tensors import encode_tensor

logger = logging.getLogger(__name__)

T = TypeVar("T")
_OPEN_PER_THREAD = 8
_SHOWN_FIELDS, _SHOWN_CHARACTERS = 10, 200
# How long a connection may take to say that it speaks HTTP/2.
_HANDSHAKE_MILLISECONDS = 10_000


def _target(spec: model_pb2.ModelSpec) -> tuple[str, int | None, str | None]:
    if not spec.name:
        raise RequestError(Code.INVALID_ARGUMENT, "Missing ModelSpec: expected model_spec.name")
    version = spec.version.value if spec.HasField("version") else None
    return spec.name, version, spec.version_label or None


def _answer(context: grpc.ServicerContext, answer: Callable[[], T]) -> T:
    """Return ``answer()``; an error ends the call with its status code and message."""
    try:
        return answer()
    except RequestError as error:
        code, message = grpc.StatusCode[error.code.name], error.message
    except Exception as error:
        logger.exception("a gRPC request failed")
        code, message = grpc.StatusCode.INTERNAL, f"internal error: {type(error).__name__}"
    # abort() raises, and outside of the handlers above its exception carries no other one along.
    return context.abort(code, message)


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """``Predict`` and ``GetModelMetadata``; the other methods answer ``UNIMPLEMENTED``."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def Predict(self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext) -> predict_pb2.PredictResponse:  # noqa: N802
        """Run a signature of a model."""
        remaining = context.time_remaining()
        deadline = None if remaining is None else time.monotonic() + remaining
        return _answer(context, lambda: self._predict(request, deadline))

    def GetModelMetadata(  # noqa: N802
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of a model."""
        return _answer(context, lambda: self._metadata(request))

    def _predict(self, request: predict_pb2.PredictRequest, deadline: float | None) -> predict_pb2.PredictResponse:
        name, version, label = _target(request.model_spec)
        signature_name = request.model_spec.signature_name
        response = predict_pb2.PredictResponse()
        with self._models.acquire(name, version, label) as (number, servable):
            arrays = servable.decode(signature_name, request.inputs)
            outputs = servable.predict(signature_name, arrays, list(request.output_filter), deadline)
            signature = servable.signature(signature_name)
        response.model_spec.name = name
        response.model_spec.version.value = number
        response.model_spec.signature_name = signature_name or DEFAULT_SIGNATURE
        for key, array in outputs.items():
            response.outputs[key].CopyFrom(encode_tensor(array, signature.outputs[key].dtype))
        return response

    def _metadata(self, request: get_model_metadata_pb2.GetModelMetadataRequest) -> get_model_metadata_pb2.GetModelMetadataResponse:
        unknown = sorted(set(request.metadata_field) - {SIGNATURE_FIELD})
        if unknown or not request.metadata_field:
            given = shorten(str(list(request.metadata_field)[:_SHOWN_FIELDS]), _SHOWN_CHARACTERS)
            raise RequestError(Code.INVALID_ARGUMENT, f"metadata_field must be [{SIGNATURE_FIELD!r}], got {given}")
        name, version, label = _target(request.model_spec)
        number, signatures = self._models.signature_defs(name, version, label)
        return metadata_message(name, number, signatures)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """``GetModelStatus``; reloading the configuration answers ``UNIMPLEMENTED``."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def GetModelStatus(  # noqa: N802
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The state of each version of a model."""
        return _answer(context, lambda: self._status(request))

    def _status(self, request: get_model_status_pb2.GetModelStatusRequest) -> get_model_status_pb2.GetModelStatusResponse:
        name, version, label = _target(request.model_spec)
        return status_message(self._models.versions(name).statuses(version, label))


def start_grpc_server(models: Models, host: str, port: int, threads: int, max_request_bytes: int) -> tuple[grpc.Server, int]:
    """Start serving both services.

    Args:
        models: What to serve.
        host: The address to listen on.
        port: The port, or 0 for a free one.
        threads: Requests handled at a time; a few times as many may be open, and callers beyond that get ``RESOURCE_EXHAUSTED``.
        max_request_bytes: A larger request gets ``RESOURCE_EXHAUSTED``.

    Returns:
        The running server and its port.

    Raises:
        ServerConfigError: The address cannot be listened on.
    """
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", max_request_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MILLISECONDS),
        ("grpc.so_reuseport", 0),  # a taken port is an error, not a port shared with another server
    ]
    pool = futures.ThreadPoolExecutor(threads, thread_name_prefix="grpc")
    server = grpc.server(pool, options=options, maximum_concurrent_rpcs=threads * _OPEN_PER_THREAD)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(models), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(models), server)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError as error:
        raise ServerConfigError(f"cannot listen for gRPC on {address} ({error}); is the port taken? choose another with --port") from None
    server.start()
    return server, bound

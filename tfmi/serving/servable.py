"""One loaded version of a model, run the way TensorFlow Serving runs it: a session on the graph, fed by name."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import prediction_log_pb2

from tfmi.core.errors import TfmiError, nearest
from tfmi.serving.bounds import ModelCosts, RequestLimits, SignatureBounds
from tfmi.serving.errors import Code, RequestError, invalid
from tfmi.serving.memory import release_memory
from tfmi.serving.tensors import check_inputs, decode_inputs, shape_of_array

logger = logging.getLogger(__name__)

DEFAULT_SIGNATURE = "serving_default"
WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
# TensorFlow Serving refuses a version with more.
MAX_WARMUP_RECORDS = 1000

_PREDICT_METHOD = "tensorflow/serving/predict"


class Servable:
    """A SavedModel in a session of its own, ready to answer.

    Args:
        folder: The version folder, with ``saved_model.pb`` in it.
        timeout_seconds: A run that takes longer is cancelled and answered with ``DEADLINE_EXCEEDED``.
        limits: What one request may ask for.

    Raises:
        RequestError: The folder cannot be loaded, or its ops are missing here.
        OSError: The folder cannot be read.
    """

    def __init__(self, folder: Path, timeout_seconds: float, limits: RequestLimits | None = None) -> None:
        self.folder = folder
        self._timeout_seconds = timeout_seconds
        _load_scann_ops_if_used(folder)
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph)
        try:
            with graph.as_default():
                meta_graph = tf.compat.v1.saved_model.load(self._session, [tf.saved_model.SERVING], str(folder))
        except BaseException:
            self._session.close()
            raise
        graph.finalize()
        self.signature_defs: dict[str, meta_graph_pb2.SignatureDef] = dict(meta_graph.signature_def)
        costs = ModelCosts.from_folder(folder, self.signature_defs)
        limits = limits or RequestLimits()
        self._bounds = {name: SignatureBounds(name, signature, costs, limits) for name, signature in self.signature_defs.items()}

    def signature(self, name: str) -> meta_graph_pb2.SignatureDef:
        """The signature called ``name`` (the default one for an empty name). Raises ``RequestError`` if there is none to predict with."""
        name = name or DEFAULT_SIGNATURE
        signature = self.signature_defs.get(name)
        if signature is None or signature.method_name != _PREDICT_METHOD:
            usable = sorted(key for key, value in self.signature_defs.items() if value.method_name == _PREDICT_METHOD)
            raise invalid(
                f'Serving signature name: "{name}" not found in signature def{nearest(name, usable)}; this model has: {", ".join(usable)}'
            )
        return signature

    def decode(self, signature_name: str, protos: Mapping[str, tensor_pb2.TensorProto]) -> dict[str, np.ndarray]:
        """The arrays of a request, once its names, types, shapes and sizes have been checked; see ``decode_inputs``."""
        name = signature_name or DEFAULT_SIGNATURE
        return decode_inputs(name, self.signature(signature_name), protos, self._bounds[name])

    def predict(
        self,
        signature_name: str,
        arrays: Mapping[str, np.ndarray],
        outputs: Sequence[str] = (),
        deadline: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Run a signature.

        Args:
            signature_name: Empty for the default one.
            arrays: The inputs by name; strings as object arrays of ``bytes``.
            outputs: Names of the outputs to return; empty for all.
            deadline: When the caller stops waiting, by ``time.monotonic``; the server's own limit holds besides.

        Raises:
            RequestError: Inputs that do not fit the signature or ask for too much, an unknown output, or an error of the graph.
        """
        signature = self.signature(signature_name)
        name = signature_name or DEFAULT_SIGNATURE
        total, longest = _text_bytes(arrays)
        shapes = {key: shape_of_array(array) for key, array in arrays.items()}
        check_inputs(name, signature, shapes, self._bounds[name], text_bytes=total, longest_text=longest)
        unknown = sorted(set(outputs) - set(signature.outputs))
        if unknown:
            raise invalid(f"signature {name!r}: no output {', '.join(unknown)}; it gives {', '.join(sorted(signature.outputs))}")
        feeds = {signature.inputs[key].name: array for key, array in arrays.items()}
        # All outputs, also where few are asked for: a session prepares, and keeps, an executor for every set of outputs that it has seen.
        fetches = {key: info.name for key, info in signature.outputs.items()}
        try:
            results = self._session.run(fetches, feeds, options=self._run_options(deadline))
        except tf.errors.OpError as error:
            raise _request_error(error) from None
        except UnicodeDecodeError:
            # TensorFlow repeats the request's bytes in its message, and cannot turn them into text.
            raise invalid(f"signature {name!r}: the model cannot read its input, which holds bytes that are not UTF-8") from None
        return {key: np.asarray(value) for key, value in results.items() if not outputs or key in outputs}

    def _run_options(self, deadline: float | None) -> tf.compat.v1.RunOptions:
        seconds = self._timeout_seconds
        if deadline is not None:
            seconds = min(seconds, deadline - time.monotonic())
        if seconds <= 0:
            raise RequestError(Code.DEADLINE_EXCEEDED, "the time for this request was over before the model could run")
        # TensorFlow takes 32 bits of milliseconds.
        return tf.compat.v1.RunOptions(timeout_in_ms=int(min(max(1.0, seconds * 1000), 2**31 - 1)))

    def close(self) -> None:
        """Free the graph, its variables and its tables."""
        self._session.close()
        release_memory()


def _text_bytes(arrays: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """Bytes of all strings, and of the longest."""
    lengths = [len(text) for array in arrays.values() if array.dtype == object for text in array.reshape(-1)]
    return sum(lengths), max(lengths, default=0)


def _request_error(error: tf.errors.OpError) -> RequestError:
    """The error of a run for its caller."""
    # What follows is where the op was created: the exporter's call stack.
    message = error.message.split("\n\t [[")[0].split("\n\nOriginal stack trace")[0]
    return RequestError(Code(error.error_code), message)


def replay_warmup(servable: Servable) -> int:
    """Send a servable the requests that its folder carries for that, as TensorFlow Serving does before it serves a version.

    The first request to a ScaNN index builds its searcher, and a model whose ops are missing fails only when it runs: both show here.

    Returns:
        The number of requests replayed; 0 if the folder carries none.

    Raises:
        RequestError: Naming the record that failed, or too many records.
    """
    path = servable.folder / WARMUP_FILE
    if not path.is_file():
        logger.warning("%s carries no warm-up requests: its first requests will be slow", servable.folder)
        return 0
    position = 0
    try:
        for position, record in enumerate(tf.data.TFRecordDataset(str(path)).as_numpy_iterator(), start=1):
            if position > MAX_WARMUP_RECORDS:
                raise RequestError(Code.INVALID_ARGUMENT, f"more than {MAX_WARMUP_RECORDS} warm-up requests in {WARMUP_FILE}")
            _replay(servable, position, record)
    except tf.errors.OpError as error:
        raise RequestError(Code.DATA_LOSS, f"{WARMUP_FILE} cannot be read after record {position}: {error.message}") from None
    return position


def _replay(servable: Servable, position: int, record: bytes) -> None:
    try:
        log = prediction_log_pb2.PredictionLog.FromString(record)
    except ValueError as error:  # DecodeError of protobuf is a ValueError
        raise RequestError(Code.DATA_LOSS, f"warm-up request {position} is not a PredictionLog: {error}") from None
    if log.WhichOneof("log_type") != "predict_log":
        raise RequestError(Code.UNIMPLEMENTED, f"warm-up request {position} is not a predict_log; only Predict is served here")
    request = log.predict_log.request
    try:
        arrays = servable.decode(request.model_spec.signature_name, request.inputs)
        servable.predict(request.model_spec.signature_name, arrays, list(request.output_filter))
    except RequestError as error:
        raise RequestError(error.code, f"warm-up request {position} failed: {error.message}") from None


def _load_scann_ops_if_used(folder: Path) -> None:
    """Register ScaNN's ops if the graph uses them. TensorFlow Serving has to be built with them instead."""
    graph_file = folder / "saved_model.pb"
    if not graph_file.is_file():
        raise RequestError(Code.NOT_FOUND, f"no saved_model.pb in {folder}; a version folder is complete or it is not one")
    if b"Scann>" not in graph_file.read_bytes():
        return
    from tfmi.index.scann import load_scann_ops

    try:
        load_scann_ops()
    except TfmiError as error:
        raise RequestError(Code.FAILED_PRECONDITION, f"{folder} searches with ScaNN: {error}") from None

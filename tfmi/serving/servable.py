"""One loaded version of a model, run the way TensorFlow Serving runs it: a session on the graph, fed by name."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import prediction_log_pb2

from tfmi.core.errors import TfmiError, nearest
from tfmi.serving.errors import Code, RequestError, invalid
from tfmi.serving.tensors import check_inputs, decode_tensor

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

    Raises:
        RequestError: The folder cannot be loaded, or its ops are missing here.
        OSError: The folder cannot be read.
    """

    def __init__(self, folder: Path, timeout_seconds: float) -> None:
        self.folder = folder
        self._options = tf.compat.v1.RunOptions(timeout_in_ms=max(1, int(timeout_seconds * 1000)))
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

    def predict(self, signature_name: str, arrays: Mapping[str, np.ndarray], outputs: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Run a signature.

        Args:
            signature_name: Empty for the default one.
            arrays: The inputs by name; strings as object arrays of ``bytes``.
            outputs: Names of the outputs to return; empty for all.

        Raises:
            RequestError: Inputs that do not fit the signature, an unknown output, or an error of the graph.
        """
        signature = self.signature(signature_name)
        name = signature_name or DEFAULT_SIGNATURE
        check_inputs(name, signature, arrays)
        unknown = sorted(set(outputs) - set(signature.outputs))
        if unknown:
            raise invalid(f"signature {name!r}: no output {', '.join(unknown)}; it gives {', '.join(sorted(signature.outputs))}")
        feeds = {signature.inputs[key].name: array for key, array in arrays.items()}
        fetches = {key: info.name for key, info in signature.outputs.items()}
        try:
            results = self._session.run(fetches, feeds, options=self._options)
        except tf.errors.OpError as error:
            # What follows is where the op was created: the exporter's call stack.
            message = error.message.split("\n\t [[")[0].split("\n\nOriginal stack trace")[0]
            raise RequestError(Code(error.error_code), message) from None
        return {key: np.asarray(value) for key, value in results.items() if not outputs or key in outputs}

    def close(self) -> None:
        """Free the graph, its variables and its tables."""
        self._session.close()


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
        arrays = {name: decode_tensor(name, proto) for name, proto in request.inputs.items()}
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

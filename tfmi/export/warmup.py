"""Warm-up requests: what a server replays before it lets a version answer, and what export replays before it publishes one.

TensorFlow Serving reports a model AVAILABLE that cannot answer a single request (missing ops, say), unless it has a warm-up record:
then loading fails instead and the old version goes on serving. ScaNN's searcher is built by the first request; warm-up pays for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.core.errors import ExportError
from tfmi.data.dataset import FIRST_INDEX, Catalogue, Feature
from tfmi.export.filter_inputs import ALLOW_ITEMS, unrestricted
from tfmi.export.profile_inputs import profile_values
from tfmi.export.saving import WarmupRequest
from tfmi.export.timestamp_inputs import TIMESTAMPS, believable_timestamps

WARMUP_PATH = Path("assets.extra") / "tf_serving_warmup_requests"
# TensorFlow Serving refuses a version with more records.
MOST_RECORDS = 1000
SCORE_TOLERANCE = 1e-4
RANKED_CANDIDATES = 20
ALLOWED_ITEMS = 8


def make_requests(
    inputs: Callable[[str, int], dict[str, np.ndarray]], signatures: Sequence[str], batch_sizes: Sequence[int]
) -> list[WarmupRequest]:
    """One request per signature and batch size.

    Args:
        inputs: Makes the inputs of a signature for so many rows.
        signatures: Names.
        batch_sizes: Numbers of rows.

    Raises:
        ExportError: That would be more records than TensorFlow Serving allows.
    """
    if len(signatures) * len(batch_sizes) > MOST_RECORDS:
        raise ExportError(
            f"export.warmup_batch_sizes: {len(batch_sizes)} sizes for {len(signatures)} signatures make more than the {MOST_RECORDS} "
            "warm-up records that TensorFlow Serving allows; give fewer sizes"
        )
    return [WarmupRequest(name, inputs(name, size)) for name in signatures for size in batch_sizes]


class RequestMaker:
    """Makes believable requests from a catalogue, the same ones every time.

    Args:
        catalogue: Gives the items, popular ones more often.
        history_length: L.
        exclusion_width: E.
        profile_features: The servable's profile features, whose rows serve as users.
        has_timestamps: Whether the servable takes timestamps.
        filters: The inputs by which its ``recommend_filtered`` and ``explain_interests`` restrict answers.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        history_length: int,
        exclusion_width: int,
        profile_features: Mapping[str, Feature],
        *,
        has_timestamps: bool = False,
        filters: Mapping[str, tf.TensorSpec] | None = None,
    ) -> None:
        self._random = np.random.default_rng(0)
        self._vocabulary = catalogue.vocabulary
        popularity = np.asarray(catalogue.counts, dtype=np.float64)[FIRST_INDEX:] + 1.0
        self._popularity = popularity / popularity.sum()
        self._history_length, self._exclusion_width = history_length, exclusion_width
        self._profile_features, self._has_timestamps = profile_features, has_timestamps
        self._filters = filters or {}

    def requests(self, signatures: Sequence[str], batch_sizes: Sequence[int]) -> list[WarmupRequest]:
        """See ``make_requests``."""
        return make_requests(self._inputs, signatures, batch_sizes)

    def _inputs(self, signature: str, batch_size: int) -> dict[str, np.ndarray]:
        if signature == "similar_items":
            return {"item_ids": self._ids(batch_size)}
        history = self._padded(batch_size, self._history_length, fewest=1)
        if signature == "rank":
            candidates = self._padded(batch_size, RANKED_CANDIDATES, fewest=1)
            return {"history": history, "candidates": candidates, **self._profile(batch_size)}
        inputs = {"history": history, **({TIMESTAMPS: believable_timestamps(history)} if self._has_timestamps else {})}
        if signature == "serving_default":
            return inputs
        inputs |= self._profile(batch_size)
        if signature == "user_interests":
            return inputs
        inputs["exclude"] = self._padded(batch_size, self._exclusion_width, fewest=0)
        if signature == "explain_interests":
            return inputs | unrestricted(self._filters, batch_size)
        # Both with and without diversity: each has its own branch of the graph.
        inputs["diversity"] = np.where(np.arange(batch_size) % 2 == 0, 0.1, 0.0).astype(np.float32)
        if signature == "recommend_filtered":
            inputs |= unrestricted(self._filters, batch_size)
            # Both with and without restrictions, likewise.
            inputs[ALLOW_ITEMS] = np.where(np.arange(batch_size)[:, None] % 2 == 0, self._padded(batch_size, ALLOWED_ITEMS, fewest=1), "")
        return {"examples": serialized_examples(inputs)} if signature == "recommend_examples" else inputs

    def _ids(self, count: int) -> np.ndarray:
        rows = self._random.choice(len(self._vocabulary), size=count, p=self._popularity)
        return np.array([self._vocabulary.ids[row] for row in rows], dtype=object)

    def _padded(self, rows: int, width: int, fewest: int) -> np.ndarray:
        table = np.full((rows, width), "", dtype=object)
        for row in table:
            length = int(self._random.integers(fewest, width, endpoint=True))
            row[:length] = self._ids(length)
        return table

    def _profile(self, batch_size: int) -> dict[str, np.ndarray]:
        users = min((len(feature.values) for feature in self._profile_features.values()), default=1)
        return profile_values(self._profile_features, self._random.integers(0, users, size=batch_size))


def serialized_examples(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Rows of a signature's inputs as serialised ``tf.train.Example``s, ``object`` array [B]; "" padding is left out.

    Timestamps become whole seconds (see ``tfmi.export.timestamp_inputs``).
    """
    rows = len(next(iter(inputs.values())))
    columns = [{name: values[row] for name, values in inputs.items()} for row in range(rows)]
    for row in columns:
        if TIMESTAMPS in row:
            row[TIMESTAMPS] = row[TIMESTAMPS][row["history"] != ""].astype(np.int64)
    return np.array([_example(row) for row in columns], dtype=object)


def _example(row: Mapping[str, Any]) -> bytes:
    features = {}
    for name, value in row.items():
        values = np.atleast_1d(np.asarray(value))
        weighted = row.get(name.removesuffix("_weights")) if name.endswith("_weights") else None
        if weighted is not None and np.ndim(weighted):
            values = values[np.asarray(weighted) != ""]  # left out with what they weigh
        if values.dtype.kind == "f":
            features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        elif values.dtype.kind == "i":
            features[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        else:
            strings = [text.encode("utf-8") for text in values if text]
            if strings or np.ndim(value):  # an absent string feature means "missing"; an empty list is not a string
                features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=strings))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write_warmup(folder: Path, model_name: str, requests: Sequence[WarmupRequest]) -> None:
    """Write the TFRecord file of ``PredictionLog``s that TensorFlow Serving replays."""
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    path = folder / WARMUP_PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            prediction = predict_pb2.PredictRequest()
            prediction.model_spec.name = model_name
            prediction.model_spec.signature_name = request.signature
            for name, values in request.inputs.items():
                prediction.inputs[name].CopyFrom(tf.make_tensor_proto(values))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=prediction))
            writer.write(log.SerializeToString())


def read_warmup(folder: Path) -> Iterator[WarmupRequest]:
    """Read the warm-up requests of a version folder."""
    from tensorflow_serving.apis import prediction_log_pb2

    for record in tf.data.TFRecordDataset(str(folder / WARMUP_PATH)):
        prediction = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.make_ndarray(proto) for name, proto in prediction.inputs.items()}
        yield WarmupRequest(prediction.model_spec.signature_name, inputs)


def compare_answers(request: WarmupRequest, expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> None:
    """Check that a reloaded model answers as the one in memory does.

    Raises:
        ExportError: Other outputs, shapes, ids, interests or scores.
    """
    if set(expected) != set(found):
        raise ExportError(f"signature {request.signature!r}: the saved model answers {sorted(found)}, expected {sorted(expected)}")
    for name, values in expected.items():
        other = found[name]
        if values.shape != other.shape:
            raise ExportError(f"signature {request.signature!r}: output {name!r} has the shape {other.shape}, expected {values.shape}")
        if values.dtype.kind == "f":
            same = np.allclose(values, other, rtol=SCORE_TOLERANCE, atol=SCORE_TOLERANCE)  # -inf equals -inf; NaN never passes
        else:
            same = bool(np.array_equal(values, other))
        if not same:
            raise ExportError(f"signature {request.signature!r}: the saved model's {name!r} differ from those of the model in memory")

"""A SavedModel with the signatures of an exported model and an answer that tests can predict; nothing of tfmi in it.

Items "a" to "h" are ranked by the history's newest known item: that item's successors in the alphabet first, going round. Scores count
down from 1 in steps of 1/8, the interest is 0 for even positions and 1 for odd ones. A history without a known item answers "a", "b", ...
``rank`` scores "a" 0, "b" -1, and so on, what comes first after the history 10 more, and everything 100 more for each year of age.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

ITEMS = list("abcdefgh")
HISTORY_LENGTH = 5
EXCLUSION_WIDTH = 3
NUM_RESULTS = 4

# Of the server that serves it to tests, and of the fixture that asks that server.
MAX_REQUEST_BYTES = 4 << 20
Rest = Callable[..., tuple[int, Any]]


class ToyServable(tf.Module):
    """Args: ``first``, the first answer to an unknown history, to tell versions apart; ``history_length``, L."""

    def __init__(self, first: str = "a", history_length: int = HISTORY_LENGTH) -> None:
        super().__init__()
        keys = tf.constant(ITEMS)
        self.first = ITEMS.index(first)
        self.history_length = history_length
        self.items = tf.Variable(keys, trainable=False)
        self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, tf.range(len(ITEMS), dtype=tf.int64)), -1)

    def rank(self, history: tf.Tensor, exclude: tf.Tensor) -> dict[str, tf.Tensor]:
        """The answer of ``serving_default`` and ``recommend``."""
        width = tf.shape(history)[1]
        message = f"history must have exactly {self.history_length} columns, padded with ''"
        with tf.control_dependencies([tf.debugging.assert_equal(width, self.history_length, message)]):
            known = self.table.lookup(history)
        positions = tf.where(known >= 0, tf.range(width)[None, :], -1)
        newest = tf.gather(known, tf.maximum(tf.argmax(positions, axis=1), 0), batch_dims=1)
        start = tf.where(tf.reduce_max(positions, axis=1) >= 0, newest + 1, self.first)
        order = (start[:, None] + tf.range(len(ITEMS), dtype=tf.int64)[None, :]) % len(ITEMS)
        ranked = tf.gather(self.items, order)
        scores = tf.broadcast_to(1.0 - tf.range(len(ITEMS), dtype=tf.float32) / len(ITEMS), tf.shape(ranked))
        excluded = tf.reduce_any(ranked[:, :, None] == exclude[:, None, :], axis=2)
        scores = tf.where(excluded, -float("inf"), scores)
        best, places = tf.math.top_k(scores, NUM_RESULTS)
        found = best > -float("inf")
        return {
            "item_ids": tf.where(found, tf.gather(ranked, places, batch_dims=1), ""),
            "scores": best,
            "interests": tf.where(found, places % 2, -1),
        }

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """All signatures of the contract that the server has to carry: strings, floats, ints and serialised examples."""
        history = tf.TensorSpec([None, self.history_length], tf.string, "history")
        exclude = tf.TensorSpec([None, EXCLUSION_WIDTH], tf.string, "exclude")
        diversity = tf.TensorSpec([None], tf.float32, "diversity")
        age = tf.TensorSpec([None], tf.float32, "profile_age")
        city = tf.TensorSpec([None], tf.string, "profile_home_city")
        tags = tf.TensorSpec([None, 2], tf.string, "profile_tags")
        weights = tf.TensorSpec([None, 2], tf.float32, "profile_tags_weights")
        items = tf.TensorSpec([None], tf.string, "item_ids")
        examples = tf.TensorSpec([None], tf.string, "examples")

        def serving_default(history: tf.Tensor) -> dict[str, tf.Tensor]:
            return self.rank(history, tf.fill([tf.shape(history)[0], 1], ""))

        def recommend(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            answer = self.rank(inputs["history"], inputs["exclude"])
            # Diversity and the profile show in the scores, so that tests see that they arrived.
            age = tf.where(tf.math.is_nan(inputs["profile_age"]), 0.0, inputs["profile_age"])
            counted = tf.reduce_sum(tf.where(inputs["profile_tags"] != "", inputs["profile_tags_weights"], 0.0), axis=1)
            counted += tf.cast(inputs["profile_home_city"] != "", tf.float32)
            shift = tf.where(tf.math.is_nan(inputs["diversity"]), 0.0, inputs["diversity"]) + 10.0 * age + 100.0 * counted
            return answer | {"scores": answer["scores"] + shift[:, None]}

        def recommend_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            parsed = tf.io.parse_example(examples, {"history": tf.io.RaggedFeature(tf.string)})
            newest = parsed["history"][:, -self.history_length :].to_tensor("", shape=[None, self.history_length])
            return serving_default(newest)

        def user_interests(history: tf.Tensor) -> dict[str, tf.Tensor]:
            count = tf.minimum(tf.reduce_sum(tf.cast(history != "", tf.int32), axis=1), 2)
            active = tf.range(2)[None, :, None] < count[:, None, None]
            return {"interests": tf.where(active, 0.25, tf.zeros([tf.shape(history)[0], 2, 3])), "count": count}

        def explain_interests(history: tf.Tensor, exclude: tf.Tensor) -> dict[str, tf.Tensor]:
            # One interest for each of the two newest items, made of it alone; both find the same.
            answer = self.rank(history, exclude)
            count = user_interests(history)["count"]
            own = tf.one_hot(tf.reduce_sum(tf.cast(history != "", tf.int32), axis=1)[:, None] - [1, 2], self.history_length)  # [B, 2, L]
            two = {name: tf.repeat(answer[name][:, None, :], 2, axis=1) for name in ("item_ids", "scores")}
            return {"count": count, "weights": own, **two}

        def similar_items(item_ids: tf.Tensor) -> dict[str, tf.Tensor]:
            answer = self.rank(tf.pad(item_ids[:, None], [[0, 0], [0, self.history_length - 1]]), tf.fill([tf.shape(item_ids)[0], 1], ""))
            known = self.table.lookup(item_ids)[:, None] >= 0
            return {"item_ids": tf.where(known, answer["item_ids"], ""), "scores": tf.where(known, answer["scores"], -float("inf"))}

        def rank(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            order = serving_default(inputs["history"])["item_ids"]  # the first NUM_RESULTS of it
            age = tf.where(tf.math.is_nan(inputs["profile_age"]), 0.0, inputs["profile_age"])
            known = self.table.lookup(inputs["candidates"])
            best = tf.cast(tf.equal(inputs["candidates"], order[:, :1]), tf.float32)
            scores = 10.0 * best - tf.cast(known, tf.float32) + 100.0 * age[:, None]
            return {"scores": tf.where(known >= 0, scores, -float("inf"))}

        functions = {
            "rank": (rank, [history, age, tf.TensorSpec([None, None], tf.string, "candidates")]),
            "serving_default": (serving_default, [history]),
            "recommend": (recommend, [history, exclude, diversity, age, city, tags, weights]),
            "recommend_examples": (recommend_examples, [examples]),
            "user_interests": (user_interests, [history]),
            "explain_interests": (explain_interests, [history, exclude]),
            "similar_items": (similar_items, [items]),
        }
        return {
            name: tf.function(function, autograph=False).get_concrete_function(**{spec.name: spec for spec in specs})
            for name, (function, specs) in functions.items()
        }


def save_version(
    folder: Path, first: str = "a", history_length: int = HISTORY_LENGTH, warmup: Sequence[predict_pb2.PredictRequest] = ()
) -> Path:
    """Write a version folder, complete at once as an export does, and return it."""
    temporary = folder.parent / f"tmp-{folder.name}"
    servable = ToyServable(first, history_length)
    tf.saved_model.save(servable, str(temporary), signatures=servable.signatures())
    if warmup:
        write_warmup(temporary, warmup)
    return temporary.rename(folder)


def write_warmup(folder: Path, requests: Sequence[predict_pb2.PredictRequest]) -> None:
    """Write warm-up requests into a version folder."""
    (folder / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


def predict_request(signature: str = "", model: str = "toy", **inputs: object) -> predict_pb2.PredictRequest:
    """A ``PredictRequest`` whose inputs are given as keyword arguments, ready-made ``TensorProto``s or anything that becomes one."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        proto = value if isinstance(value, tf.make_tensor_proto(0).__class__) else tf.make_tensor_proto(value)
        request.inputs[name].CopyFrom(proto)
    return request

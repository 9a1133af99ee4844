"""An extractor that asks for timestamps gets them everywhere, with no other file touched: training, evaluation, export, serving."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.export.fake_recommenders import TableRecommender, make_catalogue
from tfmi.config import EvaluationConfig, ExportConfig, IndexConfig, RunConfig, validate_config
from tfmi.core.errors import ConfigError, DataError, ExportError
from tfmi.data.dataset import Catalogue, CategoricalFeature, EvaluationSet, InteractionDataset, Sequences, UserProfiles, Vocabulary
from tfmi.data.pipeline import evaluation_batches, training_batches
from tfmi.evaluation.full_catalogue import recommend
from tfmi.export import ExportedModel, export_savedmodel
from tfmi.export.retrieval.evaluate_exported import ServedRanker
from tfmi.export.warmup import read_warmup, serialized_examples
from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput, masked_softmax
from tfmi.models.recommender import UserInputs
from tfmi.models.retrieval.build_retriever import build_model
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval, drop_unknown_items
from tfmi.serving.client import Client
from tfmi.serving.local_server import LocalServer, discover_models

pytestmark = pytest.mark.slow  # trains and exports

NAME, LENGTH, ITEMS, DAY = "test_recency", 5, 30, 86_400.0


class RecencyInterests(InterestExtractor):
    """Two interests: items weighted by how long before the newest they were seen, over one day and over ten."""

    num_interests = 2

    def call(self, history: tf.Tensor, mask: tf.Tensor, timestamps: tf.Tensor, training: bool | None = None) -> InterestOutput:
        age = tf.reduce_max(timestamps, axis=1, keepdims=True) - timestamps  # [B, L]
        days = tf.cast(tf.where(mask, age, 0.0) / DAY, tf.float32)
        logits = -days[:, None, :] / tf.constant([1.0, 10.0])[None, :, None]  # [B, K, L]
        weights = masked_softmax(logits, mask[:, None, :])
        interests = tf.einsum("bkl,bld->bkd", tf.cast(weights, history.dtype), history)
        return InterestOutput(interests, tf.ones(tf.shape(interests)[:2], tf.bool), weights, {})


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    EXTRACTORS.names()  # what the package holds is found first
    EXTRACTORS.register(NAME)(RecencyInterests)
    yield
    del EXTRACTORS._components[NAME]


def random_sequences(lengths: np.ndarray, seed: int, timed: bool = True) -> Sequences:
    random = np.random.default_rng(seed)
    items = random.integers(2, ITEMS + 2, lengths.sum()).astype(np.int32)
    gaps = random.integers(1, int(20 * DAY), lengths.sum()).astype(np.float64)
    return Sequences(
        np.concatenate([[0], np.cumsum(lengths)]),
        items,
        1_600_000_000.0 + np.cumsum(gaps) if timed else None,
        None,
        np.arange(len(lengths), dtype=np.int32) % 3,
    )


def make_dataset(timed: bool = True) -> InteractionDataset:
    """Random histories longer and shorter than L, a profile of one column."""

    def users(seed: int) -> EvaluationSet:
        lengths = np.random.default_rng(seed).integers(1, 9, 12)
        return EvaluationSet(random_sequences(lengths, seed, timed), random_sequences(np.full(12, 2), seed + 1, timed))

    counts = np.concatenate([[0, 0], np.arange(ITEMS, 0, -1)])
    region = CategoricalFeature(Vocabulary(["north", "south"]), np.array([0, 2, 3], np.int32))
    return InteractionDataset(
        "timed",
        Catalogue(Vocabulary([f"item-{i}" for i in range(ITEMS)]), {}, None, counts),
        random_sequences(np.full(40, 7), 0, timed),
        users(1),
        users(5),
        UserProfiles(["", "u1", "u2"], {"region": region}),
    )


def make_config() -> RunConfig:
    return validate_config(
        {
            "system": "timed",
            "data": {"history_length": LENGTH, "min_history": 1},
            "model": {"dimension": 8, "extractor": {"name": NAME}, "objective": {"name": "full_softmax"}, "readout": {"name": "max_sim"}},
        }
    )


@dataclasses.dataclass(frozen=True)
class Trained:
    model: InterestRetrieval
    dataset: InteractionDataset
    folder: Path
    exported: ExportedModel


@pytest.fixture(scope="module")
def trained(registered: None, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    dataset, config = make_dataset(), make_config()
    model = build_model(config, dataset)
    batches = training_batches(
        dataset.train, history_length=LENGTH, min_history=1, batch_size=16, seed=0, order="prefixes", profiles=dataset.profiles
    )
    model.compile(optimizer=tf.keras.optimizers.Adam(0.05))
    model.fit(batches, steps_per_epoch=20, epochs=1, verbose=0)
    folder = export_savedmodel(
        model,
        dataset.catalogue,
        tmp_path_factory.mktemp("timed") / "timed",
        export=ExportConfig(num_results=6, exclusion_width=4, warmup_batch_sizes=[1, 3]),
        index=IndexConfig(kind="exact"),
        profiles=dataset.profiles,
        histories=dataset.valid.histories,
    )
    return Trained(model, dataset, folder, ExportedModel(folder))


def without_times(examples: EvaluationSet) -> EvaluationSet:
    return EvaluationSet(dataclasses.replace(examples.histories, timestamps=None), examples.targets)


def same_time(examples: EvaluationSet) -> EvaluationSet:
    times = np.full_like(examples.histories.timestamps, 1.0)
    return EvaluationSet(dataclasses.replace(examples.histories, timestamps=times), examples.targets)


def test_evaluation_gives_the_model_its_timestamps(trained: Trained) -> None:
    test, profiles = trained.dataset.test, trained.dataset.profiles
    found = recommend(trained.model, test, 6, batch_size=5, profiles=profiles)
    (batch,) = evaluation_batches(test, history_length=LENGTH, batch_size=100, profiles=profiles)
    interests, _ = trained.model.user_interests(UserInputs.of_batch(batch))
    scores = np.einsum("bkd,nd->bkn", interests, trained.model.item_vectors().numpy()[2:]).max(axis=1)
    np.testing.assert_array_equal(found.items, np.argsort(-scores, axis=1, kind="stable")[:, :6] + 2)
    assert (found.items != recommend(trained.model, same_time(test), 6, batch_size=5, profiles=profiles).items).any()


def test_times_stay_beside_their_items_when_unknown_ones_are_dropped(trained: Trained) -> None:
    times = tf.constant([[9.0, 1.0, 8.0, 2.0, 7.0]], tf.float64) * DAY
    known = drop_unknown_items(UserInputs(tf.constant([[1, 5, 0, 7, 1]]), timestamps=times))
    assert known.history.numpy().tolist() == [[5, 7, 0, 0, 0]]
    np.testing.assert_array_equal(known.timestamps, [[DAY, 2 * DAY, 0, 0, 0]])
    region = {"region": tf.constant([2])}
    littered, _ = trained.model.user_interests(UserInputs(tf.constant([[1, 5, 0, 7, 1]]), region, times))
    clean = UserInputs(tf.constant([[5, 7, 0, 0, 0]]), region, tf.constant([[1.0, 2.0, 0, 0, 0]], tf.float64) * DAY)
    np.testing.assert_array_equal(littered, trained.model.user_interests(clean)[0])


def test_every_signature_with_a_history_asks_for_timestamps(trained: Trained) -> None:
    signatures = trained.exported.metadata["signatures"]
    for name in ("serving_default", "recommend", "user_interests", "explain_interests"):
        assert signatures[name]["inputs"]["timestamps"] == {"dtype": "float64", "shape": [None, LENGTH]}
    assert set(signatures["recommend_examples"]["inputs"]) == {"examples"}
    requests = [request for request in read_warmup(trained.folder) if "timestamps" in request.inputs]
    assert {request.signature for request in requests} == {"serving_default", "recommend", "user_interests", "explain_interests"}
    assert all(((request.inputs["timestamps"] > 0) == (request.inputs["history"] != b"")).all() for request in requests)


@pytest.mark.parametrize("exclude_history", [False, True])
def test_what_is_served_is_what_was_measured(trained: Trained, exclude_history: bool) -> None:
    dataset, config = trained.dataset, EvaluationConfig(cutoffs=[6], batch_size=5, exclude_history=exclude_history)
    exported = trained.exported
    served = ServedRanker(exported, dataset.catalogue.vocabulary, dataset.profiles, config).rank(dataset.test)
    expected = recommend(trained.model, dataset.test, 6, batch_size=5, profiles=dataset.profiles, exclude_history=exclude_history)
    np.testing.assert_array_equal(served.items, expected.items)
    with pytest.raises(DataError, match="time of each event"):
        ServedRanker(exported, dataset.catalogue.vocabulary, dataset.profiles, config).rank(without_times(dataset.test))


def request_of(histories: list[list[str]], times: list[list[float]]) -> dict[str, Any]:
    history, seconds = np.full((len(histories), LENGTH), "", dtype=object), np.zeros((len(histories), LENGTH))
    for row, (items, clock) in enumerate(zip(histories, times, strict=True)):
        history[row, : len(items)], seconds[row, : len(items)] = items, clock
    return {"history": history, "timestamps": seconds}


HISTORIES = [["item-3", "item-9", "item-4"], ["item-7", "", "nobody", "item-2", "item-1"]]
TIMES = [[1.0e9, 1.0e9 + 9 * DAY, 1.0e9 + 10 * DAY], [1.0e9, 1.1e9, 1.2e9, 1.0e9 + DAY, 1.0e9 + 2 * DAY]]


def test_odd_times_have_defined_answers(trained: Trained) -> None:
    exported = trained.exported
    unknown = exported.predict("serving_default", request_of(HISTORIES, [[0.0] * 3, [0.0] * 5]))
    not_finite = exported.predict("serving_default", request_of(HISTORIES, [[np.nan, np.inf, -np.inf], [np.nan] * 5]))
    np.testing.assert_array_equal(unknown["item_ids"], not_finite["item_ids"])
    np.testing.assert_array_equal(unknown["scores"], not_finite["scores"])
    timed = exported.predict("serving_default", request_of(HISTORIES, TIMES))
    assert not np.array_equal(unknown["scores"], timed["scores"])


def test_timestamps_of_the_wrong_shape_are_refused(trained: Trained) -> None:
    exported, request = trained.exported, request_of(HISTORIES, TIMES)
    for wrong, complaint in (
        (request["timestamps"][:, :4], "exactly 5 columns .pad rows on the right with zeros"),
        (request["timestamps"][:1], "as many rows"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"timestamps must have .*{complaint}"):
            exported.predict("serving_default", {**request, "timestamps": wrong})


def example(history: list[str], seconds: list[int]) -> bytes:
    features = {
        "history": tf.train.Feature(bytes_list=tf.train.BytesList(value=[item.encode() for item in history])),
        "timestamps": tf.train.Feature(int64_list=tf.train.Int64List(value=seconds)),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def test_examples_hold_whole_seconds_or_none(trained: Trained) -> None:
    exported = trained.exported
    long = [f"item-{i}" for i in range(9)]
    clock = [int(1.0e9 + day * DAY) for day in (0, 1, 2, 4, 5, 9, 10, 12, 13)]
    examples = np.array(
        [
            example(HISTORIES[1], [int(second) for second in TIMES[1]]),
            example(HISTORIES[0], []),
            example([*long[:6], "", *long[6:]], [*clock[:6], 99, *clock[6:]]),
            example([], []),
        ],
        dtype=object,
    )
    answer = exported.predict("recommend_examples", {"examples": examples})
    request = request_of([HISTORIES[1], HISTORIES[0], long[-LENGTH:], []], [TIMES[1], [0.0] * 3, [float(s) for s in clock[-LENGTH:]], []])
    expected = exported.predict("serving_default", request)
    np.testing.assert_array_equal(answer["item_ids"], expected["item_ids"])
    np.testing.assert_array_equal(answer["scores"], expected["scores"])
    with pytest.raises(tf.errors.InvalidArgumentError, match="timestamps in an example must be as many as the items of its history"):
        exported.predict("recommend_examples", {"examples": np.array([example(["item-1", "item-2"], [5])], dtype=object)})
    made = serialized_examples(request_of([["item-1", "item-2"]], [[5.0, 6.0]]))
    assert made.tolist() == [example(["item-1", "item-2"], [5, 6])]


def test_clients_send_and_pad_timestamps(trained: Trained) -> None:
    exported = trained.exported
    histories, times = [["item-3", "item-9"], [f"item-{i}" for i in range(8)]], [[1.0e9, 1.0e9 + DAY], [1.0e9 + i * DAY for i in range(8)]]
    request = request_of([histories[0], histories[1][-LENGTH:]], [times[0], times[1][-LENGTH:]])
    expected = exported.predict("serving_default", request)
    unknown = exported.predict("serving_default", {**request, "timestamps": np.zeros((2, LENGTH))})
    with LocalServer(lambda: discover_models(trained.folder.parents[1]), rest_port=0, grpc_port=0, poll_seconds=0.2) as server:
        for protocol, address in (("rest", server.rest_address), ("grpc", server.grpc_address)):
            client = Client(address, "timed", protocol, 30.0)  # type: ignore[arg-type]
            assert client.metadata().reads_timestamps
            for answers, outputs in (
                (client.recommend(histories, timestamps=times), expected),
                (client.recommend(histories, diversity=0.0, timestamps=times), expected),
                (client.recommend(histories), unknown),
            ):
                found = [[item.item.encode() for item in answer.items] for answer in answers]
                assert found == outputs["item_ids"].tolist()
            (one, _) = client.user_interests(histories, timestamps=times)
            assert len(one.vectors) == 2


def test_data_without_times_is_refused_when_the_model_is_built() -> None:
    with pytest.raises(ConfigError, match=r"model\.extractor: .*needs the time of each event.*data\.log\.columns\.time"):
        build_model(make_config(), make_dataset(timed=False))


def test_a_model_that_needs_times_says_so_when_it_gets_none(trained: Trained) -> None:
    with pytest.raises(DataError, match="trained with timestamps"):
        recommend(trained.model, without_times(trained.dataset.test), 6, batch_size=5, profiles=trained.dataset.profiles)


def test_inputs_that_no_request_can_hold_are_refused(tmp_path: Path) -> None:
    catalogue = make_catalogue()
    recommender = TableRecommender(catalogue)
    recommender.requested_inputs = ("weather",)
    with pytest.raises(ExportError, match=r"requests \['weather'\]"):
        export_savedmodel(recommender, catalogue, tmp_path / "m", index=IndexConfig(kind="exact"))

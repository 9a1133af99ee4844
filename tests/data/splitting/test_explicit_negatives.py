"""Types of events: weights by type, and items that users have turned down, in memory and streaming alike."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.config import DataConfig, validate_config
from tfmi.core.errors import ConfigError
from tfmi.data.dataset import InteractionDataset, Sequences
from tfmi.data.loading import load_dataset
from tfmi.data.pipeline import training_batches
from tfmi.data.splitting.slicing import sequences_from_ranges
from tfmi.evaluation.full_catalogue import excluded_items
from tfmi.models.retrieval.interest_retrieval import turned_down_loss

USERS = 40


@pytest.fixture(scope="module")
def log_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each user takes six of ten items, buys the fourth, and turns one down at the beginning and one in the middle."""
    rows = []
    for user in range(USERS):
        kinds = ("view", "view", "view", "buy", "view", "other")
        rows += [f"u{user},i{(user + place) % 10},{1_500_000_000 + 10 * place},{kinds[place]}" for place in range(6)]
        rows += [f"u{user},i{(user + 7) % 10},1500000001,dislike", f"u{user},i{(user + 8) % 10},1500000035,dislike"]
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_text("user,item,time,kind\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(params=[False, True], ids=["in memory", "streaming"])
def streaming(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def config(path: Path, cache: Path, streaming: bool, **log: Any) -> DataConfig:
    log = {"columns": {"event": "kind"}, "streaming": streaming, "shards": 2, **log}
    return validate_config({"data": {"dataset": "log", "path": str(path), "cache": str(cache), "log": log}}).data


def loaded(path: Path, cache: Path, streaming: bool, **log: Any) -> InteractionDataset:
    return load_dataset(config(path, cache, streaming, **log))


def ids_of(dataset: InteractionDataset, items: np.ndarray) -> list[str]:
    return [dataset.catalogue.vocabulary.identifier(int(item)) for item in items if item > 0]


def test_weights_follow_types(log_path: Path, tmp_path: Path, streaming: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    dataset = loaded(log_path, tmp_path, streaming, event_weights={"view": 1, "buy": 5, "buys": 2}, event_types=["view", "buy", "other"])
    train = dataset.train.in_memory()
    assert train.weights is not None
    assert set(map(tuple, train.weights.reshape(-1, 6).tolist())) == {(1, 1, 1, 5, 1, 1)}
    assert "data.log.event_weights: no event of type 'buys' (did you mean 'buy'?); the log has: buy, dislike, other, view" in caplog.text


def test_a_weight_column_is_multiplied(tmp_path: Path) -> None:
    rows = [f"u{n % 9},i{n % 5},{n},{'ab'[n % 2]},{1 + n % 3}" for n in range(90)]
    (tmp_path / "log.csv").write_text("user,item,time,kind,score\n" + "\n".join(rows) + "\n")
    dataset = loaded(tmp_path / "log.csv", tmp_path, False, columns={"event": "kind", "weight": "score"}, event_weights={"b": 10})
    weights = dataset.train.in_memory().weights
    assert weights is not None
    assert set(weights.tolist()) == {1.0, 2.0, 3.0, 10.0, 20.0, 30.0}


def test_turned_down_items_are_no_positives(log_path: Path, tmp_path: Path, streaming: bool) -> None:
    dataset = loaded(log_path, tmp_path, streaming, negative_events=["dislike"])
    train = dataset.train.in_memory()
    assert set(train.lengths().tolist()) == {6}
    assert dataset.report["read"]["negative_events"] == 2 * USERS
    assert (dataset.report["events"], dataset.report["events_left_out_as_rare"]) == (6 * USERS, 0)
    assert train.negatives is not None
    for row in range(len(train)):
        first = int(ids_of(dataset, train.row(row)[:1])[0][1:])
        # The newest first.
        assert ids_of(dataset, train.negatives[row]) == [f"i{(first + 8) % 10}", f"i{(first + 7) % 10}"]


@pytest.mark.slow
def test_a_history_knows_what_was_turned_down_before_its_targets(log_path: Path, tmp_path: Path, streaming: bool) -> None:
    # A history of half of the events ends before the second item was turned down.
    described = config(log_path, tmp_path, streaming, negative_events=["dislike"])
    halves = described.model_copy(update={"split": described.split.model_copy(update={"history_share": 0.5})})
    for each, known in ((described, 2), (halves, 1)):
        dataset = load_dataset(each)
        negatives = dataset.test.histories.negatives
        assert negatives is not None
        assert set((negatives > 0).sum(axis=1).tolist()) == {known}
        assert ((excluded_items(dataset.test.histories, False) > 0).sum(axis=1) == known).all()


def test_batches_hold_them(log_path: Path, tmp_path: Path, streaming: bool) -> None:
    dataset = loaded(log_path, tmp_path, streaming, negative_events=["dislike"])
    batches = training_batches(dataset.train, history_length=4, min_history=1, batch_size=8, seed=1)
    batch = next(iter(batches.take(1)))
    assert ((batch["negatives"].numpy() > 0).sum(axis=1) == 2).all()
    for target, negatives in zip(batch["target"].numpy(), batch["negatives"].numpy(), strict=True):
        assert target not in negatives


def test_other_logs_have_none(log_path: Path, tmp_path: Path, streaming: bool) -> None:
    dataset = loaded(log_path, tmp_path, streaming, event_types=["view", "buy", "other"])
    assert dataset.train.in_memory().negatives is None
    assert dataset.train.in_memory().weights is None


def test_without_times_the_order_of_the_log_tells_what_came_first(tmp_path: Path) -> None:
    rows = [f"u{user},i{user % 3},a\nu{user},i9,no\nu{user},i{1 + user % 3},a\nu{user},i8,no" for user in range(12)]
    (tmp_path / "log.csv").write_text("user,item,kind\n" + "\n".join(rows) + "\n")
    columns = {"event": "kind", "time": None}
    described = config(tmp_path / "log.csv", tmp_path, False, columns=columns, negative_events=["no"])
    split = {"min_user_events": 1, "min_item_events": 1, "history_share": 0.5}
    dataset = load_dataset(described.model_copy(update={"split": described.split.model_copy(update=split)}))
    places = dataset.train.in_memory().negative_places
    assert places is not None
    assert set(map(tuple, places.tolist())) == {(2, 1)}


def test_ranges_keep_what_came_before_their_ends() -> None:
    source = Sequences(
        offsets=np.array([0, 4]),
        items=np.array([2, 3, 4, 5], np.int32),
        timestamps=None,
        weights=None,
        users=np.array([0], np.int32),
        negatives=np.array([[9, 8, 7]], np.int32),
        negative_places=np.array([[4, 2, 0]]),
    )
    cut = sequences_from_ranges(source, np.array([0, 0]), np.array([0, 0]), np.array([1, 2]))
    assert cut.negatives is not None
    assert cut.negatives.tolist() == [[-1, -1, 7], [-1, 8, 7]]


class Table:
    """Items whose vectors are rows of a table."""

    def __init__(self, vectors: list[list[float]]) -> None:
        self.vectors = tf.constant(vectors)

    def embed(self, items: tf.Tensor) -> tf.Tensor:
        return tf.gather(self.vectors, items)


def test_the_loss_is_pairwise_and_leaves_padding_and_the_target_out() -> None:
    items: Any = Table([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    queries, target = tf.constant([[1.0, 1.0], [1.0, 0.0]]), tf.constant([2, 2])
    negatives = tf.constant([[3, 4, 0], [2, 0, 0]])
    loss = turned_down_loss(queries, target, items.embed(target), negatives, items)
    expected = float(np.mean([np.log1p(np.exp(2.0 - 1.0)), np.log1p(np.exp(-1.0 - 1.0))]))
    np.testing.assert_allclose(loss.numpy(), np.array([expected, 0.0]), rtol=1e-6)
    by_interest = turned_down_loss(tf.constant([[[1.0, 0.0], [0.0, 1.0]]]), target[:1], items.embed(target[:1]), negatives[:1], items)
    np.testing.assert_allclose(by_interest.numpy(), [np.mean([np.log1p(np.exp(2.0 - 1.0)), np.log1p(np.exp(0.0 - 1.0))])], rtol=1e-6)


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ({"columns": {}, "negative_events": ["a"]}, "negative_events needs columns.event"),
        ({"event_weights": {"a": 0}}, "greater than 0"),
        ({"event_weights": {"a": 1}, "negative_events": ["a"]}, "cannot have a weight in event_weights, too"),
    ],
)
def test_what_cannot_be_is_refused(log: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, tmp_path, False, **log)

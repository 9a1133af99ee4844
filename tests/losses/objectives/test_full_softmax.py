"""Full softmax: exact, whatever the block size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.base import MASKED_LOGIT
from tfmi.losses.base import candidate_logits, target_logits
from tfmi.losses.objectives import full_softmax
from tfmi.losses.objectives.full_softmax import FullSoftmax

TARGETS = tf.constant([2, 3, 17, 41, 2])


@pytest.fixture(params=["kept", "kept in tiles", "blocked"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores that are few enough to keep, and too many."""
    if request.param == "blocked":
        monkeypatch.setattr(full_softmax, "KEPT_SCORES", 0)
    if request.param == "kept in tiles":
        monkeypatch.setattr(full_softmax, "_TILE_SCORES", 5 * 16)  # 40 items and two rows before them are three tiles


@pytest.mark.slow
@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("block_rows", [7, 40, 1000])
@pytest.mark.parametrize("shape", [(5, 8), (5, 3, 8)])
def test_loss_and_gradient_equal_the_plain_formula(
    block_rows: int,
    shape: tuple[int, ...],
    item_table: Callable[..., Any],
    random_queries: Callable[..., tf.Variable],
    reference_losses: Callable[..., np.ndarray],
) -> None:
    items, queries = item_table(40), random_queries(*shape)
    objective = FullSoftmax(block_rows)

    @tf.function(autograph=False)
    def blocked() -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            losses = objective.losses(queries, TARGETS, items, training=True)
        return losses, tape.gradient(losses, [queries, items.table])

    losses, gradients = blocked()
    np.testing.assert_allclose(losses, reference_losses(queries.numpy(), TARGETS.numpy(), items.table.numpy()), atol=1e-5)
    with tf.GradientTape() as tape:
        catalogue = items.embed_catalogue()
        plain = tf.reduce_logsumexp(candidate_logits(queries, catalogue), axis=1) - target_logits(
            queries, tf.gather(catalogue, TARGETS - 2)
        )
    for ours, expected in zip(gradients, tape.gradient(plain, [queries, items.table]), strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(ours), tf.convert_to_tensor(expected), atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("batch_size", [5, 23])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_a_table_gives_what_its_rows_give(
    normalize: bool, batch_size: int, scale: float, item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    """Rows before the first item, which hold no numbers, are left alone; items that do not count are left out in every tile."""
    queries, targets = random_queries(batch_size, 8), 2 + tf.range(batch_size) % 40
    queries.assign(queries * scale)
    left_out = tf.stack([targets, tf.zeros_like(targets), 41 - targets % 7], axis=1)
    items, plain = (item_table(40, shows_table=shows, normalize=normalize) for shows in (True, False))
    items.table.assign(tf.tensor_scatter_nd_update(items.table, [[9]], tf.zeros([1, 8])))  # a vector without a direction
    plain.table.assign(items.table)

    @tf.function(autograph=False)
    def of_table() -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            contrast = FullSoftmax(16).contrast(queries, targets, items, left_out)
            total = tf.reduce_sum(contrast.log_negatives * tf.range(1.0, batch_size + 1)) + tf.reduce_sum(contrast.positive)
        return contrast.log_negatives, tape.gradient(total, [queries, items.table])

    log_negatives, gradients = of_table()
    with tf.GradientTape() as tape:
        catalogue = plain.embed_catalogue()
        scores = tf.matmul(queries, catalogue, transpose_b=True)
        counts = tf.reduce_all(tf.range(2, 42)[None, None, :] != left_out[:, :, None], axis=1)
        expected = tf.reduce_logsumexp(tf.where(counts, scores, -1e9), axis=1)
        positive = tf.reduce_sum(queries * tf.gather(catalogue, targets - 2), axis=1)
        total = tf.reduce_sum(expected * tf.range(1.0, batch_size + 1)) + tf.reduce_sum(positive)
    by_queries, by_table = tape.gradient(total, [queries, plain.table])
    np.testing.assert_allclose(log_negatives, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradients[0], by_queries, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        tf.convert_to_tensor(gradients[1])[2:], tf.convert_to_tensor(by_table)[2:], rtol=1e-4, atol=1e-4 * scale * batch_size
    )
    np.testing.assert_array_equal(tf.convert_to_tensor(gradients[1])[:2], np.zeros([2, 8]))


@pytest.mark.usefixtures("both_ways")
def test_nothing_is_left_where_everything_is_left_out(item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]) -> None:
    queries = random_queries(1, 8)
    with tf.GradientTape() as tape:
        contrast = FullSoftmax(16).contrast(queries, tf.constant([2]), item_table(20), tf.range(2, 22)[None])
    assert contrast.log_negatives[0] <= MASKED_LOGIT
    assert np.isfinite(tape.gradient(contrast.log_negatives, queries)).all()


def test_equal_interests_share_the_gradient_and_the_loss_is_that_of_one(
    item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    items, single = item_table(40), random_queries(5, 8)
    twice = tf.Variable(tf.stack([single, single], axis=1))
    with tf.GradientTape() as tape:
        losses = FullSoftmax(16).losses(twice, TARGETS, items)
    gradient = tape.gradient(losses, twice)
    np.testing.assert_allclose(losses, FullSoftmax(16).losses(single, TARGETS, items), rtol=1e-6)
    np.testing.assert_allclose(gradient[:, 0], gradient[:, 1], atol=1e-6)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("scale", [10.0, 1000.0])
def test_large_scores_stay_exact(scale: float, item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]) -> None:
    """Also where the bound on scores is so far above them that exp of the difference would vanish."""
    items, queries = item_table(40), random_queries(5, 8)
    queries.assign(queries * scale)
    with tf.GradientTape(persistent=True) as tape:
        losses = FullSoftmax(16).losses(queries, TARGETS, items)
        catalogue = items.embed_catalogue()
        positive = tf.reduce_sum(queries * tf.gather(catalogue, TARGETS - 2), axis=-1)
        plain = tf.reduce_logsumexp(tf.matmul(queries, catalogue, transpose_b=True), axis=1) - positive
    np.testing.assert_allclose(losses, plain, rtol=1e-5, atol=1e-6 * scale)
    np.testing.assert_allclose(tape.gradient(losses, queries), tape.gradient(plain, queries), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_low_precision_vectors_meet_a_float32_softmax(
    dtype: tf.DType, item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable], reference_losses: Callable[..., np.ndarray]
) -> None:
    items, queries = item_table(40), random_queries(5, 3, 8)
    low = tf.Variable(tf.cast(queries, dtype))
    objective = FullSoftmax(16, dtype=tf.keras.mixed_precision.Policy(f"mixed_{dtype.name}"))
    with tf.GradientTape() as tape:
        losses = objective.losses(low, TARGETS, items)
    assert losses.dtype == tf.float32
    np.testing.assert_allclose(losses, reference_losses(queries.numpy(), TARGETS.numpy(), items.table.numpy()), atol=0.1)
    assert tape.gradient(losses, low).dtype == dtype


@pytest.mark.parametrize("shape", [(37, 8), (37, 3, 8)])
def test_only_one_block_of_many_scores_exists_at_a_time(
    shape: tuple[int, ...],
    item_table: Callable[..., Any],
    random_queries: Callable[..., tf.Variable],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No tensor of the compiled step, forward or backward, is as wide as the catalogue and as long as the batch."""
    monkeypatch.setattr(full_softmax, "KEPT_SCORES", 37 * 501 - 1)
    items, queries, targets = item_table(501), random_queries(*shape), tf.fill([37], 5)
    objective = FullSoftmax(block_rows=50)

    @tf.function(autograph=False)
    def step() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            losses = objective.losses(queries, targets, items)
        return tape.gradient(losses, [queries, items.table])

    graph = step.get_concrete_function().graph
    graphs = [graph]
    for inner in graphs:
        graphs += [branch for operation in inner.get_operations() for branch in _bodies(inner, operation)]
    shapes = [tensor.shape for inner in graphs for operation in inner.get_operations() for tensor in operation.outputs]
    assert len(graphs) > 1
    assert not [shape for shape in shapes if shape.rank in (2, 3) and shape[0] == 37 and shape[-1] == 501]


def _bodies(graph: Any, operation: Any) -> list[Any]:
    """The function graphs that a loop operation calls."""
    if operation.type not in {"While", "StatelessWhile"}:
        return []
    return [graph._get_function(operation.get_attr(name).name).graph for name in ("body", "cond")]


def test_configuration_round_trip() -> None:
    assert FullSoftmax.from_config(FullSoftmax(77).get_config()).block_rows == 77


def test_empty_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="block_rows must be at least 1"):
        FullSoftmax(0)


@pytest.mark.parametrize("shape", [(5, 8), (5, 3, 8)])
def test_smoothed_labels_give_every_item_a_share(
    shape: tuple[int, ...], item_table: Callable[..., Any], random_queries: Callable[..., tf.Variable]
) -> None:
    items, queries = item_table(40), random_queries(*shape)
    loss = FullSoftmax(label_smoothing=0.2).losses(queries, TARGETS, items)
    scores = candidate_logits(queries, items.embed_catalogue())
    labels = 0.8 * tf.one_hot(TARGETS - 2, 40) + 0.2 / 40
    np.testing.assert_allclose(loss, tf.nn.softmax_cross_entropy_with_logits(labels, scores), atol=1e-5)
    assert FullSoftmax(label_smoothing=0.2).get_config()["label_smoothing"] == 0.2


def test_smoothed_labels_are_no_softmax_for_others_and_keep_to_their_range() -> None:
    assert FullSoftmax().why_no_softmax is None
    assert FullSoftmax(label_smoothing=0.1).why_no_softmax is not None
    with pytest.raises(ValueError, match=r"label_smoothing: .* below 1, got 1"):
        FullSoftmax(label_smoothing=1.0)

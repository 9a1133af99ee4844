"""What the interests of a trained model are like: do they look at few items, do they differ, are they used?

Shapes: B users, L history length, K interests that the extractor makes, Q that are served (K, unless the readout serves others), d width,
n recommended items.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, EvaluationSet, UserProfiles
from tfmi.data.pipeline import evaluation_batches
from tfmi.data.splitting.slicing import whole_rows
from tfmi.layers.base import num_real_items
from tfmi.models.recommender import UserInputs
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval, drop_unknown_items

MAX_USERS = 5000

NO_QUERY = -1


def interest_diagnostics(
    model: InterestRetrieval,
    recommended: np.ndarray,
    examples: EvaluationSet,
    *,
    batch_size: int,
    profiles: UserProfiles | None = None,
    max_users: int = MAX_USERS,
    seed: int = 0,
) -> dict[str, Any]:
    """Describe the interests of users whose history has a known item.

    Args:
        model: A trained model.
        recommended: int32 [U, n], the users' lists by this model, best first, 0 where missing.
        examples: The U users.
        batch_size: Users at a time.
        profiles: As for ``CatalogueRanker.rank``.
        max_users: Of more users, as many are drawn.
        seed: Decides the draw.

    Returns:
        Empty if there is no such user, else

        - ``users``: how many were looked at;
        - ``active``: mean number of active interests per user;
        - ``attention_entropy``: entropy of the weights of a history's items in an interest, divided by the logarithm of their number: 1
          where all weigh the same, 0 where one has all; mean over the active interests of each user with at least two items, then
          over users;
        - ``cosine``: mean over the pairs of a user's active, scored interests, then over the users with at least one pair;
        - ``contributing@n``: mean number of served interests that found something of a user's list;
        - ``recommendation_share``: for each served interest, the share of all recommended items that it found;
        - ``recommendation_balance``: entropy of these shares over its largest possible value: 1 where all find the same number, 0 where
          one finds all.

        An item is found by the interest that scores it highest, of equals the first. A figure that nobody has is left out: a single
        interest has neither pairs nor balance.
    """
    rows = _sample(examples, model.history_length, max_users, seed)
    if not len(rows):
        return {}
    chosen = EvaluationSet(whole_rows(examples.histories, rows), whole_rows(examples.targets, rows))
    batches = evaluation_batches(chosen, history_length=model.history_length, batch_size=batch_size, profiles=profiles)
    # With the dataset's own specification the last, smaller batch needs no second trace.
    describe = tf.function(
        lambda batch, items, vectors: _describe(model, UserInputs.of_batch(batch), items, vectors),
        input_signature=[batches.element_spec, tf.TensorSpec([None, recommended.shape[1]], tf.int32), tf.TensorSpec([None, None])],
        autograph=False,
    )
    vectors = model.item_vectors()
    parts = []
    for batch in batches:
        items = recommended[rows[batch["row"].numpy()]]
        parts.append([part.numpy() for part in describe(batch, tf.constant(items, tf.int32), vectors)])
    active, entropy, cosine, contributing, found = (np.concatenate(part) for part in zip(*parts, strict=True))
    means = {
        "active": active,
        "attention_entropy": entropy,
        "cosine": cosine,
        f"contributing@{recommended.shape[1]}": contributing,
    }
    figures: dict[str, Any] = {"users": len(rows)}
    figures |= {name: float(np.nanmean(values)) for name, values in means.items() if not np.isnan(values).all()}
    return figures | _balance(found.sum(axis=0))


def _sample(examples: EvaluationSet, history_length: int, max_users: int, seed: int) -> np.ndarray:
    """Rows, rising, of at most ``max_users`` users of whom a model knows an item."""
    rows = np.flatnonzero((examples.histories.padded(history_length) >= FIRST_INDEX).any(axis=1))
    if len(rows) > max_users:
        rows = np.sort(np.random.default_rng(seed).choice(rows, max_users, replace=False))
    return rows


def _balance(found: np.ndarray) -> dict[str, Any]:
    """Shares and balance of the numbers of items [Q] that each served interest found."""
    if not found.sum():
        return {}
    share = found / found.sum()
    figures: dict[str, Any] = {"recommendation_share": share.tolist()}
    if len(share) > 1:
        figures["recommendation_balance"] = float(-(share * np.log(np.where(share > 0, share, 1))).sum() / np.log(len(share)))
    return figures


def _describe(model: InterestRetrieval, inputs: UserInputs, items: tf.Tensor, item_vectors: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Of each user: active interests, entropy, cosine, contributing interests [B] (NaN for none), and items found [B, Q]."""
    known = drop_unknown_items(inputs)
    output, scored, _ = model.extract(*known, training=False)
    queries, served = model.user_interests(inputs)
    found = _items_found(queries, served, items, item_vectors)
    return (
        tf.reduce_sum(tf.cast(output.active, tf.float32), axis=1),
        _attention_entropy(output.weights, output.active, num_real_items(known.history >= FIRST_INDEX)),
        _pairwise_cosine(tf.cast(scored, tf.float32), output.active),
        tf.reduce_sum(tf.cast(found > 0, tf.float32), axis=1),
        found,
    )


def _attention_entropy(weights: tf.Tensor, active: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """float32 [B]: mean over active interests that weigh anything of the entropy of weights [B, K, L], by log of ``lengths`` [B]."""
    total = tf.reduce_sum(weights, axis=2, keepdims=True)  # [B, K, 1]
    share = tf.math.divide_no_nan(weights, total)
    entropy = -tf.reduce_sum(tf.math.xlogy(share, share), axis=2)  # [B, K]
    entropy /= tf.math.log(tf.cast(lengths, tf.float32))[:, None]
    counts = tf.cast(active & (total[:, :, 0] > 0), tf.float32)
    mean = tf.reduce_sum(tf.where(counts > 0, entropy, 0.0), axis=1) / tf.reduce_sum(counts, axis=1)
    return tf.where(lengths > 1, mean, float("nan"))


def _pairwise_cosine(vectors: tf.Tensor, active: tf.Tensor) -> tf.Tensor:
    """float32 [B]: mean cosine of the pairs of active vectors [B, K, d]; NaN without a pair."""
    unit = tf.where(active[..., None], tf.math.l2_normalize(vectors, axis=-1), 0.0)
    # |sum of vectors|^2 counts each pair twice, and each vector with itself once.
    twice = tf.reduce_sum(tf.square(tf.reduce_sum(unit, axis=1)), axis=1) - tf.reduce_sum(tf.square(unit), axis=[1, 2])
    count = tf.reduce_sum(tf.cast(active, tf.float32), axis=1)
    return tf.where(count > 1, twice / (count * (count - 1)), float("nan"))


def _items_found(queries: tf.Tensor, active: tf.Tensor, items: tf.Tensor, item_vectors: tf.Tensor) -> tf.Tensor:
    """int32 [B, Q]: how many of the ``items`` [B, n] each of the active ``queries`` [B, Q, d] scores highest."""
    scores = tf.matmul(tf.gather(item_vectors, items), queries, transpose_b=True)  # [B, n, Q]
    best = tf.argmax(tf.where(active[:, None, :], scores, scores.dtype.min), axis=2, output_type=tf.int32)  # [B, n]
    best = tf.where(items >= FIRST_INDEX, best, NO_QUERY)
    return tf.reduce_sum(tf.one_hot(best, tf.shape(queries)[1], dtype=tf.int32), axis=1)

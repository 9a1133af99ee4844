"""Softmax against sampled negatives that the whole batch shares."""

from __future__ import annotations

import math
from typing import Any, Literal

import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX
from tfmi.layers.base import MASKED_LOGIT
from tfmi.layers.common.randomness import RandomStream
from tfmi.losses.base import OBJECTIVES, Contrast, ItemSpace, Objective, candidate_logits, log_sum_exp, target_logits
from tfmi.losses.objectives.full_softmax import full_softmax_contrast

Sampler = Literal["uniform", "log_uniform"]


def draw_probabilities(item_indices: tf.Tensor, num_items: int, sampler: Sampler) -> tf.Tensor:
    """float64 probability that one draw of ``sampler`` from ``num_items`` real items gives each of ``item_indices`` [...]."""
    if sampler == "uniform":
        return tf.fill(tf.shape(item_indices), tf.constant(1.0 / num_items, tf.float64))
    rank = tf.cast(item_indices - FIRST_INDEX, tf.float64)
    return (tf.math.log(rank + 2.0) - tf.math.log(rank + 1.0)) / math.log(num_items + 1.0)


def draw_distinct_items(stream: RandomStream, num_draws: int, num_items: int, sampler: Sampler) -> tf.Tensor:
    """Draw ``num_draws`` real items with replacement and keep each drawn item once: int32 [D], 1 <= D <= min(num_draws, num_items).

    "log_uniform" draws rank r (from 0, items in order of falling frequency) with probability proportional to log((r + 2) / (r + 1)),
    by inverting its distribution function.
    """
    if sampler == "uniform":
        ranks = stream.uniform([num_draws], 0, num_items, dtype=tf.int32)
    else:
        # float64: the steps of a float32 uniform number are wider than an item from about a million items on.
        exponents = stream.uniform([num_draws], dtype=tf.float64) * math.log(num_items + 1.0)
        ranks = tf.minimum(tf.cast(tf.exp(exponents), tf.int32) - 1, num_items - 1)
    return tf.unique(ranks + FIRST_INDEX).y


def log_expected_counts(item_indices: tf.Tensor, num_draws: int, num_items: int, sampler: Sampler) -> tf.Tensor:
    """float32 log of how often each item is expected among the distinct items of ``num_draws`` draws: ``log(1 - (1 - p)^num_draws)``."""
    probabilities = draw_probabilities(item_indices, num_items, sampler)
    # log1p of -1 is -inf where a catalogue has one item, and the count is then rightly 1.
    return tf.cast(tf.math.log(-tf.math.expm1(num_draws * tf.math.log1p(-probabilities))), tf.float32)


def log_share(sampled: tf.Tensor, num_items: int) -> tf.Tensor:
    """float32 log of the share of the catalogue that the distinct items ``sampled`` [D] are."""
    return tf.math.log(tf.cast(tf.size(sampled), tf.float32) / num_items)


def hit_columns(targets: tf.Tensor, sampled: tf.Tensor) -> tf.Tensor:
    """int32 [B]: where each of ``targets`` [B] stands among the distinct items ``sampled`` [D]; D or more if it is not among them."""
    # Distinct items keep their places, so a target's place is the column of its hit, or lies beyond all columns. Comparing every target
    # with every item drawn, and selecting by the outcome, takes three times as long.
    return tf.unique(tf.concat([sampled, targets], axis=0)).idx[tf.size(sampled) :]


def accidental_hits(targets: tf.Tensor, sampled: tf.Tensor, left_out: tf.Tensor | None = None, masked: float = MASKED_LOGIT) -> tf.Tensor:
    """float32 [B, D] to be added to scores: ``masked`` where the item drawn is the example's target or left out, 0 elsewhere.

    Args:
        targets: int32 [B].
        sampled: int32 [D], distinct.
        left_out: int32 [B, E]; 0 pads.
        masked: A large negative number, or -inf.
    """
    if left_out is None:
        return tf.one_hot(hit_columns(targets, sampled), tf.size(sampled), on_value=masked, off_value=0.0)
    return tf.where(among_columns(tf.concat([targets[:, None], left_out], axis=1), sampled), masked, 0.0)


def among_columns(items: tf.Tensor, sampled: tf.Tensor) -> tf.Tensor:
    """bool [B, D]: which of the distinct items ``sampled`` [D] are in each row of ``items`` int32 [B, E]."""
    rows, num_sampled = tf.shape(items)[0], tf.size(sampled)
    columns = tf.reshape(hit_columns(tf.reshape(items, [-1]), sampled), tf.shape(items))  # [B, E]
    cells = tf.where(columns < num_sampled)  # [M, 2]
    places = tf.stack([cells[:, 0], tf.cast(tf.gather_nd(columns, cells), tf.int64)], axis=1)
    hits = tf.tensor_scatter_nd_update(tf.zeros([rows, num_sampled], tf.int8), places, tf.ones([tf.shape(places)[0]], tf.int8))
    return hits > 0


def shared_negative_logits(queries: tf.Tensor, targets: tf.Tensor, sampled: tf.Tensor, items: ItemSpace) -> tuple[tf.Tensor, tf.Tensor]:
    """float32 scores of each example's target, [B], and of the items that the batch shares, [B, D].

    Args:
        queries: [B, d], or [B, K, d] where every item is scored by its best interest.
        targets: int32 [B].
        sampled: int32 [D].
        items: Gathered from by index, so that the gradient of an embedding table stays sparse.
    """
    # One gather for targets and negatives: an item tower with features then runs once.
    vectors = tf.cast(items.embed(tf.concat([targets, sampled], axis=0)), queries.dtype)  # [B + D, d]
    target_vectors, sampled_vectors = tf.split(vectors, [tf.size(targets), tf.size(sampled)])
    return target_logits(queries, target_vectors), candidate_logits(queries, sampled_vectors)


@OBJECTIVES.register("sampled_softmax")
class SampledSoftmax(Objective):
    """Cross-entropy of the target among itself and sampled items, corrected for how likely each was to be sampled.

    With S the distinct items drawn for the batch and Q(j) the expected number of times that item j is among them,

        loss = -(s_t - log Q(t)) + log(exp(s_t - log Q(t)) + sum over j in S, j != t of exp(s_j - log Q(j)))

    which tends to the full softmax as the number of draws grows, whatever the sampler (Jean et al. 2015; Bengio & Senécal 2008).
    Padding (0) and unknown (1) are never drawn.

    Args:
        num_sampled: Draws per batch, with replacement; an item drawn twice counts once. A catalogue of at most this many items is not
            sampled but used whole: the full softmax.
        sampler: "uniform", or "log_uniform" (Zipf-like: items are indexed by falling frequency).
        correct_frequency: Apply log Q. Without it, popular items are pushed down by a log-uniform sampler.
        remove_accidental_hits: Leave an example's own target out of its negatives.
        seed: Seed of the draws; their ``RandomStream`` is part of a checkpoint.

    Raises:
        ValueError: ``num_sampled`` below 1.
    """

    def __init__(
        self,
        num_sampled: int = 1280,
        sampler: Sampler = "uniform",
        correct_frequency: bool = True,
        remove_accidental_hits: bool = True,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        # Vectors keep the precision that the model computed them in; the softmax is float32 in any case.
        super().__init__(autocast=False, **kwargs)
        if num_sampled < 1:
            raise ValueError(f"num_sampled must be at least 1, got {num_sampled}")
        self.stream = RandomStream(seed, purpose="sampled negatives")

    def contrast(
        self, queries: tf.Tensor, targets: tf.Tensor, items: ItemSpace, left_out: tf.Tensor | None = None, training: bool | None = None
    ) -> Contrast:
        """See ``Objective``. Draws again at every call."""
        num_items = items.num_rows - FIRST_INDEX
        if num_items <= self.num_sampled and self.correct_frequency and self.remove_accidental_hits:
            return full_softmax_contrast(queries, targets, items, left_out)
        sampled = draw_distinct_items(self.stream, self.num_sampled, num_items, self.sampler)  # [D]
        positive, negative = shared_negative_logits(queries, targets, sampled, items)  # [B], [B, D]
        # Of a uniform sampler every item has the same log Q, which cancels in the softmax.
        if self.correct_frequency and self.sampler != "uniform":
            positive -= log_expected_counts(targets, self.num_sampled, num_items, self.sampler)
            negative -= log_expected_counts(sampled, self.num_sampled, num_items, self.sampler)
        if self.remove_accidental_hits:
            negative += accidental_hits(targets, sampled, left_out)
        elif left_out is not None:
            negative = tf.where(among_columns(left_out, sampled), MASKED_LOGIT, negative)
        uncorrected = self.sampler == "uniform" or not self.correct_frequency
        return Contrast(positive, log_sum_exp(negative), log_share(sampled, num_items) if uncorrected else 0.0)

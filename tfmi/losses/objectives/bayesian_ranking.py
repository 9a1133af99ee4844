"""Bayesian personalised ranking: the target against one item that was not taken."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX
from tfmi.layers.base import MASKED_LOGIT
from tfmi.layers.common.randomness import RandomStream
from tfmi.losses.base import OBJECTIVES, Contrast, ItemSpace, Objective, target_logits


@OBJECTIVES.register("bpr")
class BayesianRanking(Objective):
    """The log-likelihood that the target is preferred to one uniform negative of each example::

        loss = -log sigmoid(s_t - s_j),  j != t

    which is the cross-entropy of a choice between the two. A negative that an example leaves out is none: the example then teaches
    nothing in this step. The draws are not shared by the batch, unlike those of ``sampled_softmax``.

    Paper: Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009. Regularisation of the parameters, the
    paper's prior, is not part of it.

    Args:
        seed: Seed of the draws; their ``RandomStream`` is part of a checkpoint.
    """

    COMPARES_ALL_ALIKE = False

    def __init__(self, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.stream = RandomStream(seed, purpose="pairwise negatives")

    def contrast(
        self, queries: tf.Tensor, targets: tf.Tensor, items: ItemSpace, left_out: tf.Tensor | None = None, training: bool | None = None
    ) -> Contrast:
        """See ``Objective``. Draws again at every call."""
        num_others = items.num_rows - FIRST_INDEX - 1
        if num_others < 1:
            return Contrast(target_logits(queries, items.embed(targets)), tf.fill(tf.shape(targets), MASKED_LOGIT))
        drawn = self.stream.uniform(tf.shape(targets), FIRST_INDEX, FIRST_INDEX + num_others, dtype=tf.int32)
        negatives = drawn + tf.cast(drawn >= targets, tf.int32)  # all items but the target, alike
        # One gather for targets and negatives: an item tower with features then runs once.
        vectors = tf.cast(items.embed(tf.concat([targets, negatives], axis=0)), queries.dtype)
        positive, negative = (target_logits(queries, half) for half in tf.split(vectors, 2))
        if left_out is not None:
            negative = tf.where(tf.reduce_any(left_out == negatives[:, None], axis=1), MASKED_LOGIT, negative)
        return Contrast(positive, negative, -math.log(num_others))

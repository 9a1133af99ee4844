"""gBCE: binary cross-entropy of the target and sampled negatives, calibrated for how few of them there are."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX
from tfmi.layers.common.arguments import require_at_least
from tfmi.layers.common.randomness import RandomStream
from tfmi.losses.base import OBJECTIVES, Contrast, ItemSpace, Objective
from tfmi.losses.objectives.sampled_softmax import accidental_hits, draw_distinct_items, shared_negative_logits


@OBJECTIVES.register("gbce")
class GeneralizedBinaryCrossEntropy(Objective):
    r"""The target is taken or not, and so is each of a few uniform negatives; the target's probability is raised to a power::

        loss = -(b log sigmoid(s_t) + sum over j in S of log(1 - sigmoid(s_j))) / (|S| + 1)
        b = a (t (1 - 1 / a) + 1 / a),  a = |S| / (N - 1)

    With few negatives, plain binary cross-entropy (t = 0, b = 1) learns probabilities that are far too large, because it sees the target
    much more often than each negative; t = 1 (b = a) undoes that wholly, but learns slowly. The paper takes t = 0.75 and 256 negatives.

    The paper draws negatives for each target apart; here the distinct items drawn are shared by the batch, as in ``sampled_softmax``, so
    that scores are one matrix product. The target itself is left out of them. A logit of 0 means a probability of 1/2, so scores should be
    plain inner products: ``model.normalize: false`` and ``model.temperature: 1``.

    Paper: Petrov and Macdonald, "gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with Negative Sampling",
    RecSys 2023.

    Args:
        num_negatives: Draws per batch, with replacement; an item drawn twice counts once.
        calibration: t, from 0 to 1.
        seed: Seed of the draws; their ``RandomStream`` is part of a checkpoint.

    Raises:
        ValueError: An argument out of its range.
    """

    # Its losses are no shares of a softmax, whose sums over interests would commute.
    COMPARES_ALL_ALIKE = False

    def __init__(self, num_negatives: int = 256, calibration: float = 0.75, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        require_at_least(1, num_negatives=num_negatives)
        if not 0 <= calibration <= 1:
            raise ValueError(f"calibration: expected a number from 0 to 1, got {calibration}")
        self.stream = RandomStream(seed, purpose="binary negatives")

    @property
    def why_no_softmax(self) -> str:
        """Every item is judged by itself."""
        return "judges every item by itself"

    def contrast(
        self, queries: tf.Tensor, targets: tf.Tensor, items: ItemSpace, left_out: tf.Tensor | None = None, training: bool | None = None
    ) -> Contrast:
        """See ``Objective``. Draws again at every call."""
        num_items = items.num_rows - FIRST_INDEX
        sampled = draw_distinct_items(self.stream, self.num_negatives, num_items, "uniform")  # [D]
        positive, negative = shared_negative_logits(queries, targets, sampled, items)  # [B], [B, D]
        negative += accidental_hits(targets, sampled, left_out)
        drawn = tf.cast(tf.size(sampled), tf.float32)
        # A catalogue of one item has no negatives, and nothing to calibrate.
        rate = tf.minimum(drawn / max(num_items - 1, 1), 1.0)
        power = self.calibration * (rate - 1.0) + 1.0
        loss = (power * tf.nn.softplus(-positive) + tf.reduce_sum(tf.nn.softplus(negative), axis=1)) / (drawn + 1.0)
        return Contrast(positive, tf.reduce_logsumexp(negative, axis=1), own_loss=loss)

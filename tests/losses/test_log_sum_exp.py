"""The log of a row's sum of exp."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfmi.layers.base import MASKED_LOGIT
from tfmi.losses.base import log_sum_exp


def test_it_is_reduce_logsumexp_with_its_gradient() -> None:
    logits = np.random.default_rng(0).normal(scale=10.0, size=(6, 50)).astype(np.float32)
    logits[1, 7] = 300.0  # one far above all others
    logits[2, 1:] = MASKED_LOGIT
    logits[3] = MASKED_LOGIT  # none left
    values, weights = tf.constant(logits), tf.constant(np.arange(1.0, 7.0), tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(values)
        found, expected = log_sum_exp(values), tf.reduce_logsumexp(values, axis=1)
        totals = [tf.reduce_sum(weights * sums) for sums in (found, expected)]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)
    ours, theirs = (tape.gradient(total, values) for total in totals)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)

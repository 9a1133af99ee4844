"""The soft coarse loss: three cases, three weights."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfmi.losses.tasks.soft_coarse_loss import SoftCoarseLoss

LABELS = tf.constant([1.0, 0.0, 0.0])  # full, partial and no interest in the first feature
COARSE = tf.constant([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])


def test_the_three_cases() -> None:
    loss = SoftCoarseLoss(partial_interest=0.5, no_interest=0.25)
    np.testing.assert_array_equal(loss.row_weights(LABELS, COARSE), [[1.0, 1.0], [0.5, 0.25], [0.25, 0.5]])
    hard = SoftCoarseLoss(partial_interest=0.5, no_interest=0.25, soft=False)
    np.testing.assert_array_equal(hard.row_weights(LABELS, COARSE), np.ones((3, 2)))


def test_loss_by_hand() -> None:
    logits = tf.constant([[0.0], [2.0], [-1.0]])
    losses = SoftCoarseLoss(partial_interest=0.2, no_interest=0.1)(LABELS, COARSE[:, :1], logits)
    expected = [np.log(2), 0.2 * np.log1p(np.exp(-2.0)), 0.1 * np.log1p(np.exp(-1.0))]
    np.testing.assert_allclose(losses[:, 0], expected, rtol=1e-6)


def test_large_logits_are_finite() -> None:
    losses = SoftCoarseLoss()(LABELS, COARSE, tf.constant([[-80.0, 80.0], [80.0, -80.0], [80.0, -80.0]]))
    assert np.isfinite(losses.numpy()).all()


def test_half_precision_keeps_logits() -> None:
    loss = SoftCoarseLoss(dtype="mixed_bfloat16")
    logits = tf.fill([3, 2], 1.001)
    np.testing.assert_allclose(loss(LABELS, COARSE, logits), SoftCoarseLoss()(LABELS, COARSE, logits), rtol=1e-7)


def test_config_and_ranges() -> None:
    loss = SoftCoarseLoss(0.3, 0.05, soft=False)
    copy = SoftCoarseLoss.from_config(loss.get_config())
    assert (copy.partial_interest, copy.no_interest, copy.soft) == (0.3, 0.05, False)
    with pytest.raises(ValueError, match=r"no_interest: .* got 1.5"):
        SoftCoarseLoss(no_interest=1.5)
    with pytest.raises(ValueError, match="partial_interest"):
        SoftCoarseLoss(partial_interest=float("nan"))

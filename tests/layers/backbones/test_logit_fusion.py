"""Fusion of logits: linear, the mean at first."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfmi.layers.backbones.logit_fusion import LogitFusion

LOGITS = tf.constant([[[3.0, 1.0, -1.0], [0.5, 2.0, 8.0]]])


def test_it_starts_as_the_mean() -> None:
    np.testing.assert_allclose(LogitFusion()(LOGITS), [[1.0, 3.5]], rtol=1e-6)


def test_it_is_linear_without_bias() -> None:
    fusion = LogitFusion()
    fusion(LOGITS)
    fusion.set_weights([np.array([2.0, -1.0, 0.5])])
    np.testing.assert_allclose(fusion(LOGITS), [[4.5, 3.0]], rtol=1e-6)
    np.testing.assert_allclose(fusion(2 * LOGITS), 2 * fusion(LOGITS), rtol=1e-6)


@pytest.mark.parametrize("use_bias", [False, True])
def test_configuration(use_bias: bool) -> None:
    fusion = LogitFusion.from_config(LogitFusion(use_bias).get_config())
    fusion(LOGITS)
    assert [tuple(weight.shape) for weight in fusion.trainable_weights] == [(3,), ()][: 1 + use_bias]


def test_half_precision_keeps_logits() -> None:
    logits = tf.constant([[1.001, 1.001]])
    fused = LogitFusion(dtype="mixed_bfloat16")(logits)
    assert fused.dtype == tf.float32
    np.testing.assert_allclose(fused, [1.001], rtol=1e-6)

"""Sums of pairwise products, against a loop over pairs."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfmi.layers.interactions.factorization import pairwise_products

FIELDS = np.random.default_rng(0).normal(size=[3, 5, 4]).astype(np.float32)


def looped(fields: np.ndarray) -> np.ndarray:
    pairs = [fields[:, i] * fields[:, j] for i in range(fields.shape[1]) for j in range(i)]
    return sum(pairs, np.zeros_like(fields[:, 0]))


def test_equals_a_loop_over_pairs() -> None:
    np.testing.assert_allclose(pairwise_products(tf.constant(FIELDS)), looped(FIELDS), rtol=1e-5, atol=1e-5)


def test_one_field_has_no_pair() -> None:
    np.testing.assert_allclose(pairwise_products(tf.constant(FIELDS[:, :1])), 0, atol=1e-6)


def test_it_is_of_degree_two() -> None:
    once, thrice = pairwise_products(tf.constant(FIELDS)), pairwise_products(tf.constant(3 * FIELDS))
    np.testing.assert_allclose(thrice, 9 * once.numpy(), rtol=1e-4, atol=1e-4)


def test_a_missing_field_contributes_nothing() -> None:
    extended = np.concatenate([FIELDS, np.zeros([3, 1, 4], np.float32)], axis=1)
    np.testing.assert_allclose(pairwise_products(tf.constant(extended)), pairwise_products(tf.constant(FIELDS)), atol=1e-6)


def test_half_precision_keeps_what_would_cancel() -> None:
    fields = tf.constant([[[100.0], [0.01]]], tf.float16)
    np.testing.assert_allclose(pairwise_products(fields), [[1.0]], rtol=0.01)
    assert pairwise_products(fields).dtype == tf.float16

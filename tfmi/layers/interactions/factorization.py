"""Products of all pairs of fields, summed: the interaction of a factorization machine, kept as a vector."""

from __future__ import annotations

import tensorflow as tf


def pairwise_products(fields: tf.Tensor) -> tf.Tensor:
    r"""Sum of the elementwise products of all pairs of vectors, in time linear in their number::

        sum over f < g of  e_f * e_g  =  1/2 [ (sum over f of e_f)^2 - sum over f of e_f^2 ]

    Summed over its elements it is the second-order term of a factorization machine. A field that is 0 contributes nothing, and one field
    alone gives 0. Computed in float32: the two squares nearly cancel.

    Papers: Rendle, "Factorization Machines", ICDM 2010; Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR
    Prediction", IJCAI 2017; as a vector ("bi-interaction"): He and Chua, "Neural Factorization Machines for Sparse Predictive Analytics",
    SIGIR 2017.

    Args:
        fields: [B, F, d].

    Returns:
        [B, d], of the type of ``fields``.
    """
    vectors = tf.cast(fields, tf.float32)
    square_of_sum = tf.square(tf.reduce_sum(vectors, axis=1))
    sum_of_squares = tf.reduce_sum(tf.square(vectors), axis=1)
    return tf.cast(0.5 * (square_of_sum - sum_of_squares), fields.dtype)

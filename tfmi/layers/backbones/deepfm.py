"""DeepFM as a backbone: products of all pairs of fields next to a deep network."""

from __future__ import annotations

import tensorflow as tf

from tfmi.layers.backbones.backbone import BACKBONES, Backbone, RankingInputs, SharedInteraction
from tfmi.layers.common.fields import flattened
from tfmi.layers.interactions.factorization import pairwise_products


@BACKBONES.register("deepfm")
class DeepFM(Backbone):
    r"""A factorization machine whose logit is added to every head's, on the same embeddings::

        logit   = sum over f of w_f  +  sum over f < g of  <e_f, e_g>
        head    = w . network(fields) + b + logit

    Paper: Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction", IJCAI 2017.
    """

    def call(self, inputs: RankingInputs, training: bool | None = None) -> SharedInteraction:
        """The fields, and the factorization machine's logit."""
        # In float32: half precision would lose what the products have in common.
        products = pairwise_products(tf.cast(inputs.fields, tf.float32))  # [B, d]
        return SharedInteraction(flattened(inputs.fields), logit=inputs.first_order + tf.reduce_sum(products, axis=-1))

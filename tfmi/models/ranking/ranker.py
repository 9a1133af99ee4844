"""The ranker: how likely is it that a user clicks a candidate, by a click-prediction backbone that may also learn coarse interests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.core.errors import ConfigError
from tfmi.data.dataset import FIRST_INDEX, Feature, NumericFeature, Vocabulary
from tfmi.layers.backbones.backbone import BACKBONES, Backbone, RankingInputs, SharedInteraction
from tfmi.layers.backbones.logit_fusion import LogitFusion
from tfmi.layers.common.fields import FieldEmbedding
from tfmi.losses.tasks.soft_coarse_loss import SoftCoarseLoss
from tfmi.models.ranking.item_fields import ItemFields, ItemVectors
from tfmi.models.training_step import Batch, TrainedByLoss

HISTORY_LENGTH_FIELD = "history_length"


class InterestRanker(TrainedByLoss):
    r"""Predicts clicks on candidates, and with the same shared layers coarse interests: will the user click anything of this category?

    With the backbone's shared layers phi, a head for the fine label and one for each of C coarse features::

        z_0 = head_0(phi)       z_c = head_c(phi)       z = sum over c of w_c z_c

        loss = BCE(y, z)  +  fine_weight BCE(y, z_0)  +  coarse_weight  sum over c of  omega_c BCE(y_c, z_c)

    with omega of ``SoftCoarseLoss``. Without fusion the prediction is z = z_0 and the loss has no second term, which would repeat the
    first; without coarse features the model is the bare backbone.

    The fields of a pair of user and candidate are the candidate's, by ``ItemFields``; the means of the history's, by the same embeddings;
    the profile's; and the logarithm of the number of known items in the history. Each field has a first-order weight, and an item's in a
    history is another than the candidate's.

    A batch is a mapping: ``history`` int32 [B, L], item indices clicked before; ``profile``, a mapping of feature to values, if the model
    has profile features; ``item`` int32 [B], the candidate; ``label`` float32 [B], 0 or 1; ``coarse`` float32 [B, C], for training alone;
    ``weight`` float32 [B], how much each row counts, if not alike. Coarse labels are never looked at but for the loss.

    Paper: "MGIPF: Multi-Granularity Interest Prediction Framework for Personalized Recommendation", SIGIR 2025.

    Args:
        items: The items' fields.
        backbone: The backbone.
        history_length: L, the largest number of items of history.
        profile_features: The profile's features by name; only their kinds and vocabularies are used.
        hidden: Widths of the network of the fine head.
        coarse_features: Names of the C coarse features, in the order of the columns of ``coarse``.
        coarse_hidden: Widths of the network of each coarse head.
        coarse_loss: Weighs rows by their interest; None: as ``SoftCoarseLoss`` does by default.
        fine_weight: How much z_0's own loss counts.
        coarse_weight: How much each coarse loss counts.
        detach: Coarse heads leave the shared layers and embeddings alone.
        fusion: Predict z instead of z_0; has an effect only with coarse features.
        fusion_bias: Whether the fusion has a bias.
        seed: Seed of the heads' initial weights.

    Raises:
        ConfigError: A coarse feature is named twice, a weight is negative, or a profile feature has the name of a field of the ranker's
            own.
    """

    def __init__(
        self,
        *,
        items: ItemFields,
        backbone: Backbone,
        history_length: int,
        profile_features: Mapping[str, Feature] | None = None,
        hidden: Sequence[int] = (256, 128),
        coarse_features: Sequence[str] = (),
        coarse_hidden: Sequence[int] = (128, 64),
        coarse_loss: SoftCoarseLoss | None = None,
        fine_weight: float = 1.0,
        coarse_weight: float = 0.2,
        detach: bool = False,
        fusion: bool = True,
        fusion_bias: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if len(set(coarse_features)) != len(coarse_features):
            raise ConfigError(f"coarse features: each once, got {', '.join(coarse_features)}")
        for name, weight in (("fine_weight", fine_weight), ("coarse_weight", coarse_weight)):
            if not weight >= 0:
                raise ConfigError(f"{name}: expected a number of at least 0, got {weight}")
        if HISTORY_LENGTH_FIELD in (profile_features or {}):
            raise ConfigError(f"the profile's feature {HISTORY_LENGTH_FIELD!r} has the name of a field of the ranker's own; rename it")
        self.items, self.backbone, self.history_length = items, backbone, history_length
        self.coarse_features = tuple(coarse_features)
        self.coarse_loss = SoftCoarseLoss() if coarse_loss is None else coarse_loss
        self.fine_weight, self.coarse_weight, self.detach = fine_weight, coarse_weight, detach
        self.profile_features = sorted(profile_features or {})
        users = {**(profile_features or {}), HISTORY_LENGTH_FIELD: NumericFeature(np.zeros(0, np.float32), mean=0.0, deviation=1.0)}
        # Numbers would be rounded by the policy's type before they are embedded.
        self._user_fields = FieldEmbedding(users, items.dimension, autocast=False, name="user_fields")
        self._user_first_order = FieldEmbedding(users, 1, initializer_deviation=1e-4, dtype=tf.float32, name="user_first_order")
        self.fine_head = backbone.make_head(hidden, seed=seed, name="fine_head")
        # Seeds far enough from each other that no two layers start alike.
        self.coarse_heads = [
            backbone.make_head(coarse_hidden, seed=seed + 100 * position, name=f"coarse_head_{position}")
            for position in range(1, len(self.coarse_features) + 1)
        ]
        self.fusion = LogitFusion(fusion_bias, name="fusion") if fusion and self.coarse_features else None
        parts = ["final", *(["fine"] if self.fusion is not None else []), *(f"coarse_{name}" for name in self.coarse_features)]
        self._part_means = {name: tf.keras.metrics.Mean(name=name) for name in parts}

    @property
    def vocabulary(self) -> Vocabulary:
        """The items that it knows."""
        return self.items.vocabulary

    def describe(self) -> dict[str, Any]:
        """The backbone and the coarse features, for reports."""
        return {"backbone": BACKBONES.name_of(self.backbone), "coarse_features": list(self.coarse_features)}

    # Forward

    def all_logits(
        self, history: tf.Tensor, profile: Mapping[str, tf.Tensor] | None, candidates: tf.Tensor, training: bool | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The prediction's logits, and those it is made of.

        Args:
            history: int32 [U, L] item indices; padding and unknown items may stand anywhere.
            profile: Profile features by name, U rows; unused without profile features.
            candidates: int32 [U, R] item indices.
            training: Whether the model is training.

        Returns:
            z float32 [U, R]; z_0 and the z_c, float32 [U, R, 1 + C].
        """
        shared = self.backbone(self._inputs(history, profile, candidates), training=training)
        for_coarse = _stopped(shared) if self.detach else shared
        logits = tf.stack([self.fine_head(shared), *(head(for_coarse) for head in self.coarse_heads)], axis=-1)
        logits = tf.reshape(logits, tf.concat([tf.shape(candidates), [1 + len(self.coarse_heads)]], axis=0))
        return logits[..., 0] if self.fusion is None else self.fusion(logits), logits

    def _inputs(self, history: tf.Tensor, profile: Mapping[str, tf.Tensor] | None, candidates: tf.Tensor) -> RankingInputs:
        """The embedded features of B = U R pairs. What is the user's is embedded once, and its fields are repeated."""
        mask = history >= FIRST_INDEX
        met = self.items(history)  # [U, L, Fi, d]
        averaged = met.averaged(mask)
        fields, present, first_order = self._user(profile, mask)
        fields = tf.concat([averaged.fields, fields], axis=1)  # [U, Fu, d]
        present = tf.concat([averaged.present, present], axis=1)
        first_order += tf.reduce_sum(averaged.first_order[..., 1], axis=1)  # [U]
        num_candidates = tf.shape(candidates)[1]
        offered: ItemVectors = self.items(tf.reshape(candidates, [-1]))  # [B, Fi, d]
        return RankingInputs(
            fields=tf.concat([offered.fields, tf.repeat(fields, num_candidates, axis=0)], axis=1),
            present=tf.concat([offered.present, tf.repeat(present, num_candidates, axis=0)], axis=1),
            first_order=tf.reduce_sum(offered.first_order[..., 0], axis=1) + tf.repeat(first_order, num_candidates),
            history=tf.reshape(met.fields, tf.concat([tf.shape(history), [self.items.width]], axis=0)),
            history_mask=mask,
            candidate=tf.reshape(offered.fields, [-1, self.items.width]),
        )

    def _user(self, profile: Mapping[str, tf.Tensor] | None, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Fields [U, F, d], which are present, bool [U, F], and the sum of their first-order weights, float32 [U]."""
        length = tf.reduce_sum(tf.cast(mask, tf.float32), axis=1)
        values = {**(profile or {}), HISTORY_LENGTH_FIELD: tf.math.log1p(length) / np.log1p(self.history_length)}
        fields, present = self._user_fields(values).pooled()
        first_order, _ = self._user_first_order(values).pooled()  # [U, F, 1], 0 where missing
        return fields, present, tf.reduce_sum(first_order, axis=[1, 2])

    def call(self, inputs: Batch, training: bool | None = None) -> tf.Tensor:
        """The prediction's logits float32 [B] for a batch, for ``predict``."""
        return self.all_logits(inputs["history"], inputs.get("profile"), inputs["item"][:, None], training)[0][:, 0]

    def score(self, history: tf.Tensor, profile: Mapping[str, tf.Tensor] | None, candidates: tf.Tensor) -> tf.Tensor:
        """Logits float32 [U, R] of candidates int32 [U, R]; -inf for padding and unknown items. Arguments as for ``all_logits``."""
        logits, _ = self.all_logits(history, profile, candidates, training=False)
        return tf.where(candidates >= FIRST_INDEX, logits, -np.inf)

    # Training

    def compute_loss(self, inputs: Batch, training: bool = False) -> tf.Tensor:
        """Mean loss of a batch; without ``coarse``, as rows to validate on are, the coarse terms are left out.

        Raises:
            ValueError: The model has coarse features, and a training batch has no ``coarse``.
        """
        if training and self.coarse_features and "coarse" not in inputs:
            raise ValueError(f"training batches need 'coarse', the labels of {', '.join(self.coarse_features)}")
        predicted, logits = self.all_logits(inputs["history"], inputs.get("profile"), inputs["item"][:, None], training)
        label = tf.cast(inputs["label"], tf.float32)
        weight = inputs.get("weight")
        final = self._part("final", tf.nn.sigmoid_cross_entropy_with_logits(label, predicted[:, 0]), weight)
        total = final
        if self.fusion is not None:
            fine = tf.nn.sigmoid_cross_entropy_with_logits(label, logits[:, 0, 0])
            total += self.fine_weight * self._part("fine", fine, weight)
        if self.coarse_features and "coarse" in inputs:
            coarse = self.coarse_loss(label, tf.cast(inputs["coarse"], tf.float32), logits[:, 0, 1:])  # [B, C]
            for position, name in enumerate(self.coarse_features):
                total += self.coarse_weight * self._part(f"coarse_{name}", coarse[:, position], weight)
        return total

    def _part(self, name: str, per_row: tf.Tensor, weight: tf.Tensor | None) -> tf.Tensor:
        """The mean of one part of the loss [B] by the rows' weights, which is also reported."""
        if weight is None:
            value = tf.reduce_mean(per_row)
        else:
            weight = tf.cast(weight, tf.float32)
            value = tf.math.divide_no_nan(tf.reduce_sum(per_row * weight), tf.reduce_sum(weight))
        self._part_means[name].update_state(value)
        return value

    @property
    def part_trackers(self) -> list[tf.keras.metrics.Mean]:
        """Each part of the loss by name, before it is weighed against the others; coarse ones with their rows' weights."""
        return list(self._part_means.values())


def _stopped(shared: SharedInteraction) -> SharedInteraction:
    """What heads share, without a way back for gradients."""
    return SharedInteraction(*(None if part is None else tf.stop_gradient(part) for part in shared))

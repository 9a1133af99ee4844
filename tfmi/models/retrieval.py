"""The multi-interest retrieval model: extractor, readout, objective and regularisers put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfmi.data.structures import FIRST_INDEX, PADDING_INDEX
from tfmi.errors import ConfigError
from tfmi.layers.base import InterestExtractor, InterestOutput, Readout
from tfmi.layers.history_dropout import HistoryDropout
from tfmi.losses.base import Objective, Regularizer, RegularizerInputs
from tfmi.models.towers import ItemTower, ProfileEncoder, UserTower

Batch = Mapping[str, Any]


def drop_unknown_items(history: tf.Tensor) -> tf.Tensor:
    """Move the real items of each history [B, L] to the left, in order; everything else becomes padding.

    Padding and unknown items may stand anywhere: what remains is the history that the model was trained on.
    """
    known = history >= FIRST_INDEX
    order = tf.argsort(tf.cast(known, tf.int32), axis=1, direction="DESCENDING", stable=True)
    return tf.gather(tf.where(known, history, PADDING_INDEX), order, batch_dims=1)


def unit_length(vectors: tf.Tensor) -> tf.Tensor:
    """L2-normalise the last axis in float32, whose epsilon float16 would round to 0; zero vectors stay 0."""
    return tf.cast(tf.math.l2_normalize(tf.cast(vectors, tf.float32), axis=-1), vectors.dtype)


class ScoredItems:
    """The ``ItemSpace`` of a retrieval model: item vectors as scores use them."""

    def __init__(self, tower: ItemTower, normalize: bool, log_frequencies: tf.Variable) -> None:
        self._tower = tower
        self._normalize = normalize
        self._log_frequencies = log_frequencies
        self.num_rows = tower.num_rows

    def embed(self, item_indices: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Item vectors [..., d]."""
        vectors = self._tower(item_indices, training=training)
        return unit_length(vectors) if self._normalize else vectors

    def embed_catalogue(self, training: bool | None = None) -> tf.Tensor:
        """Item vectors [N, d] of every real item."""
        return self.embed(tf.range(FIRST_INDEX, self.num_rows), training=training)

    def log_frequencies(self) -> tf.Tensor:
        """float32 [num_rows] log share of each item in the training events."""
        return self._log_frequencies


class InterestRetrieval(tfrs.Model):
    """Two towers in which a user is several vectors. A ``VectorRecommender``, trained with plain ``fit`` on ``training_batches``.

    Args:
        item_tower: Item vectors; shared by histories and candidates.
        user_tower: From interests (and profile) to user vectors.
        extractor: From history to interests.
        readout: How the interests answer for one target in training.
        objective: The main loss.
        regularizers: Auxiliary losses, added to the batch mean of the main one.
        history_length: L, the number of items of history.
        item_counts: [num_rows] occurrences in the training events, for frequency corrections.
        profile_encoder: The user's profile, or None.
        normalize: L2-normalise user and item vectors, so that scores are cosines.
        temperature: Training scores are divided by it.
        history_dropout: Dropout on the history's item vectors in training.
        seed: Seed of the dropout.

    Raises:
        ConfigError: A regulariser cannot work with the extractor, or the extractor needs an input that is missing.
    """

    def __init__(
        self,
        *,
        item_tower: ItemTower,
        user_tower: UserTower,
        extractor: InterestExtractor,
        readout: Readout,
        objective: Objective,
        regularizers: Sequence[Regularizer],
        history_length: int,
        item_counts: np.ndarray,
        profile_encoder: ProfileEncoder | None = None,
        normalize: bool = True,
        temperature: float = 1.0,
        history_dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.item_tower, self.user_tower, self.profile_encoder = item_tower, user_tower, profile_encoder
        self.extractor, self.readout, self.objective = extractor, readout, objective
        self.regularizers = list(regularizers)
        self.history_length, self.normalize, self.temperature = history_length, normalize, temperature
        self.num_rows = item_tower.num_rows
        self.history_dropout = HistoryDropout(history_dropout, seed=seed)
        # Smoothed by one count, so that an item without a training event has a finite frequency.
        smoothed = np.asarray(item_counts, dtype=np.float64) + 1.0
        log_frequencies = np.log(smoothed / smoothed[FIRST_INDEX:].sum()).astype(np.float32)
        self.items = ScoredItems(item_tower, normalize, tf.Variable(log_frequencies, trainable=False, name="log_frequencies"))
        # The names of the profile's features, which export turns into inputs.
        self.profile_features = [] if profile_encoder is None else profile_encoder.feature_names
        self._loss_tracker = tf.keras.metrics.Mean(name="loss")
        self._regularization_tracker = tf.keras.metrics.Mean(name="regularization_loss")
        for regularizer in self.regularizers:
            regularizer.check(extractor)
        self._check_inputs()

    def _check_inputs(self) -> None:
        requested = self.extractor.requested_inputs()
        if "profile" in requested and self.profile_encoder is None:
            raise ConfigError("model.extractor: this extractor needs a user profile, but the data has no profile features")

    # Forward

    def extract(
        self,
        history: tf.Tensor,
        profile: Mapping[str, tf.Tensor] | None = None,
        timestamps: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tuple[InterestOutput, tf.Tensor, tf.Tensor]:
        """Interests with their internals.

        Args:
            history: int32 [B, L] item indices, real items first.
            profile: Profile features by name, or None.
            timestamps: float64 [B, L], for extractors that ask for them.
            training: Whether dropout and random routing are on.

        Returns:
            The extractor's output; the scored vectors [B, K, d] (0 where inactive); the history's item vectors [B, L, d].
        """
        mask = history >= FIRST_INDEX
        vectors = self.item_tower(history, training=training)
        vectors = tf.where(mask[..., None], vectors, tf.zeros([], vectors.dtype))
        profile_vector = self.profile_encoder(profile) if self.profile_encoder is not None else None
        optional = {"profile": profile_vector, "timestamps": timestamps}
        requested = {name: optional[name] for name in self.extractor.requested_inputs()}
        dropped = self.history_dropout(vectors, training=training)
        output = self.extractor(dropped, mask, training=training, **requested)
        users = self.user_tower(output.interests, profile_vector, training=training)
        if self.normalize:
            users = unit_length(users)
        users = tf.where(output.active[..., None], users, tf.zeros([], users.dtype))
        return output, users, vectors

    def compute_loss(self, inputs: Batch, training: bool = False) -> tf.Tensor:
        """Mean loss of a batch of ``training_batches``: weighted main loss plus regularisers."""
        history, target = inputs["history"], inputs["target"]
        output, users, vectors = self.extract(history, inputs.get("profile"), inputs.get("timestamps"), training)
        target_vectors = self.items.embed(target, training=training)
        queries = self.readout(users, output.active, target_vectors) / tf.cast(self.temperature, users.dtype)
        per_example = self.objective(queries, target, self.items, training=training)
        weight = inputs.get("weight")
        main = tf.reduce_mean(per_example) if weight is None else _weighted_mean(per_example, weight)
        if not self.regularizers:
            return main
        regularized = RegularizerInputs(output, vectors, history, history >= FIRST_INDEX, target_vectors, users)
        return main + tf.add_n([regularizer(regularized, training=training) for regularizer in self.regularizers])

    def call(self, inputs: Batch, training: bool | None = None) -> tf.Tensor:
        """Scored interests [B, K, d] of a batch, for ``predict``."""
        return self.extract(inputs["history"], inputs.get("profile"), inputs.get("timestamps"), training)[1]

    # Training

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        """The running means that ``fit`` resets at every epoch."""
        return [self._loss_tracker, self._regularization_tracker]

    def train_step(self, inputs: Batch) -> dict[str, tf.Tensor]:
        """One step; unlike TFRS's, it reports means over the epoch and scales the loss under mixed_float16."""
        with tf.GradientTape() as tape:
            loss = self.compute_loss(inputs, training=True)
            regularization = tf.add_n([tf.cast(tf.reduce_sum(value), tf.float32) for value in self.losses] or [tf.constant(0.0)])
            total = loss + regularization
            scales = isinstance(self.optimizer, tf.keras.mixed_precision.LossScaleOptimizer)
            scaled = self.optimizer.get_scaled_loss(total) if scales else total
        gradients = tape.gradient(scaled, self.trainable_variables)
        if scales:
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        pairs = [(g, v) for g, v in zip(gradients, self.trainable_variables, strict=True) if g is not None]
        self.optimizer.apply_gradients(pairs)
        return self._report(loss, regularization)

    def test_step(self, inputs: Batch) -> dict[str, tf.Tensor]:
        """The loss of a held-out batch."""
        return self._report(self.compute_loss(inputs, training=False), tf.constant(0.0))

    def _report(self, loss: tf.Tensor, regularization: tf.Tensor) -> dict[str, tf.Tensor]:
        self._loss_tracker.update_state(loss)
        self._regularization_tracker.update_state(regularization)
        return {metric.name: metric.result() for metric in self.metrics}

    # Recommending

    def user_interests(self, history: tf.Tensor, profile: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Scored interests float32 [B, K, d] and which are active, bool [B, K]; see ``VectorRecommender``."""
        output, users, _ = self.extract(drop_unknown_items(history), profile, training=False)
        return tf.cast(users, tf.float32), output.active

    def item_vectors(self) -> tf.Tensor:
        """Item vectors float32 [num_rows, d]; rows 0 and 1 are 0."""
        catalogue = tf.cast(self.items.embed_catalogue(training=False), tf.float32)
        return tf.concat([tf.zeros([FIRST_INDEX, catalogue.shape[1]]), catalogue], axis=0)


def _weighted_mean(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    weights = tf.cast(weights, values.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(values * weights), tf.reduce_sum(weights))

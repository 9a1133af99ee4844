"""The multi-interest retrieval model: extractor, readout, objective and regularisers put together."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import tensorflow as tf

from tfmi.core.errors import ConfigError, DataError
from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX
from tfmi.layers.base import InterestExtractor, InterestOutput, Readout, RealItems, RepeatScorer, unit_length, zero_at_padding
from tfmi.layers.common.history_dropout import HistoryDropout
from tfmi.layers.sequence_encoders.sequence_encoder import SequenceEncoder
from tfmi.losses.base import BatchContext, CatalogueTable, Contrast, Objective, Regularizer, Weighting, target_logits
from tfmi.losses.repeats import with_repeats
from tfmi.losses.weightings.cross_entropy import CrossEntropy
from tfmi.models.recommender import REQUESTABLE_INPUTS, OwnItems, UserInputs
from tfmi.models.retrieval.counted_votes import CountedVotes, Votes
from tfmi.models.retrieval.part_checks import check_parts, check_sequences, usage_of
from tfmi.models.towers import ItemTower, ProfileEncoder, UserTower
from tfmi.models.training_step import Batch, TrainedByLoss


def drop_unknown_items(inputs: UserInputs) -> UserInputs:
    """Move the real items of each history [B, L] to the left, in order and with their timestamps; everything else becomes padding.

    Padding and unknown items may stand anywhere: what remains is the history that the model was trained on.
    """
    known = inputs.history >= FIRST_INDEX
    order = _known_first(known)
    history = tf.gather(tf.where(known, inputs.history, PADDING_INDEX), order, batch_dims=1)
    if inputs.timestamps is None:
        return inputs._replace(history=history)
    timestamps = tf.where(known, inputs.timestamps, tf.zeros([], inputs.timestamps.dtype))
    return inputs._replace(history=history, timestamps=tf.gather(timestamps, order, batch_dims=1))


def _known_first(known: tf.Tensor) -> tf.Tensor:
    """int32 [B, L]: the places at which ``known`` [B, L] is True, in order, then the others."""
    return tf.argsort(tf.cast(known, tf.int32), axis=1, direction="DESCENDING", stable=True)


class ScoredItems:
    """The ``ItemSpace`` of a retrieval model: item vectors as scores use them."""

    def __init__(self, tower: ItemTower, normalize: bool) -> None:
        self._tower = tower
        self._normalize = normalize
        self.num_rows = tower.num_rows

    def embed(self, item_indices: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Item vectors [..., d]."""
        vectors = self._tower(item_indices, training=training)
        return unit_length(vectors) if self._normalize else vectors

    def embed_catalogue(self, training: bool | None = None) -> tf.Tensor:
        """Item vectors [N, d] of every real item."""
        self._tower.require_whole()
        return self.embed(tf.range(FIRST_INDEX, self.num_rows), training=training)

    def catalogue_table(self) -> CatalogueTable | None:
        """The catalogue as rows of the tower's table, if it has one."""
        self._tower.require_whole()
        table = self._tower.table()
        return None if table is None else CatalogueTable(table, FIRST_INDEX, self._normalize)


class TargetPlaces:
    """Where the R targets of a batch of whole histories stand, so that what is known after each item becomes R examples.

    Args:
        history: int32 [B, L] item indices.
        target: int32 [B, L], what follows each item; padding or unknown where that is no target.
    """

    def __init__(self, history: tf.Tensor, target: tf.Tensor) -> None:
        self._places = tf.where((target >= FIRST_INDEX) & (history >= FIRST_INDEX))  # [R, 2]

    def of_each(self, values: tf.Tensor | None) -> tf.Tensor | None:
        """[R, ...]: what ``values`` [B, L, ...] hold at the targets."""
        return None if values is None else tf.gather_nd(values, self._places)

    def of_users(self, values: tf.Tensor | None) -> tf.Tensor | None:
        """[R, ...]: what ``values`` [B, ...] hold of each target's user."""
        return None if values is None else tf.gather(values, self._places[:, 0])

    def histories(self, values: tf.Tensor) -> tf.Tensor:
        """[R, L, ...]: the history before each target, of ``values`` [B, L, ...], 0 after it."""
        rows = tf.gather(values, self._places[:, 0])
        before = self._before(values)
        return tf.where(before[..., None] if values.shape.rank == 3 else before, rows, tf.zeros([], rows.dtype))

    def masks(self, mask: tf.Tensor) -> tf.Tensor:
        """bool [R, L]: which places of ``mask`` [B, L] are in the history before each target."""
        return tf.gather(mask, self._places[:, 0]) & self._before(mask)

    def _before(self, values: tf.Tensor) -> tf.Tensor:
        """bool [R, L] for ``values`` [B, L, ...]: the places up to the item that each target follows."""
        return tf.range(tf.shape(values, tf.int64)[1]) <= self._places[:, 1:]

    def outputs(self, output: InterestOutput) -> InterestOutput:
        """The R examples' outputs, from those after every item."""
        return InterestOutput(*(tf.nest.map_structure(self.of_each, part) for part in output))


class InterestRetrieval(TrainedByLoss):
    """Two towers in which a user is several vectors. A ``VectorRecommender``, trained with plain ``fit`` on ``training_batches``.

    Args:
        item_tower: Item vectors; shared by histories and candidates.
        user_tower: From interests (and profile) to user vectors.
        extractor: From history to interests.
        encoder: Reads the history's item vectors first; the extractor then reads its states. None: it reads the item vectors.
        readout: How the interests answer for one target in training.
        objective: The main loss.
        regularizers: Auxiliary losses by name, added to the batch mean of the main one and reported by these names.
        history_length: L, the number of items of history.
        weighting: How the main loss weighs examples; None takes all alike.
        repetition: Scores the items of a user's own history; None ranks them like all others.
        votes: What counts add to the scores of some items when the model answers; None adds nothing.
        profile_encoder: The user's profile, or None.
        has_timestamps: Whether histories come with the times of their items, for extractors that ask for them.
        normalize: L2-normalise user and item vectors, so that scores are cosines.
        temperature: Training scores are divided by it.
        history_dropout: Dropout on the history's item vectors in training.
        negatives_weight: Weight of the loss by which a target stands above the items that its user has turned down, of batches with any.
        seed: Seed of the dropout.

    Raises:
        ConfigError: The readout or a regulariser cannot work with the extractor, or the weighting with the objective, or the extractor
            needs an input that is missing.
    """

    def __init__(
        self,
        *,
        item_tower: ItemTower,
        user_tower: UserTower,
        extractor: InterestExtractor,
        readout: Readout,
        objective: Objective,
        regularizers: Mapping[str, Regularizer],
        history_length: int,
        encoder: SequenceEncoder | None = None,
        weighting: Weighting | None = None,
        repetition: RepeatScorer | None = None,
        votes: CountedVotes | None = None,
        profile_encoder: ProfileEncoder | None = None,
        has_timestamps: bool = False,
        normalize: bool = True,
        temperature: float = 1.0,
        history_dropout: float = 0.0,
        negatives_weight: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.item_tower, self.user_tower, self.profile_encoder = item_tower, user_tower, profile_encoder
        self.extractor, self.readout, self.objective = extractor, readout, objective
        self.encoder = encoder
        width = item_tower.dimension
        if encoder is not None and encoder.state_dimension(width) != width:
            raise ConfigError(f"model.encoder: expected states of the items' width, {width}, got {encoder.state_dimension(width)}")
        self.weighting = CrossEntropy() if weighting is None else weighting
        self.repetition = repetition
        self.votes = votes
        self.regularizers = dict(regularizers)
        self.history_length, self.normalize, self.temperature = history_length, normalize, temperature
        self.negatives_weight = negatives_weight
        self.num_rows = item_tower.num_rows
        self.history_dropout = HistoryDropout(history_dropout, seed=seed)
        self.items = ScoredItems(item_tower, normalize)
        # Histories hold item vectors as the tower makes them.
        self._history_items = ScoredItems(item_tower, normalize=False)
        # The names of the profile's features, which export turns into inputs.
        self.profile_features = [] if profile_encoder is None else profile_encoder.feature_names
        self._regularization_trackers = {name: tf.keras.metrics.Mean(name=name) for name in self.regularizers}
        learned = votes is not None and votes.learned
        repeats = repetition is not None
        check_parts(extractor, readout, objective, self.weighting, self.regularizers, repeats=repeats, learned_votes=learned)
        self._check_inputs(has_timestamps)
        available = {"profile": profile_encoder is not None, "timestamps": has_timestamps, "history_indices": True, "items": True}
        self._extractor_inputs = tuple(name for name in self.extractor.requested_inputs() if available[name])
        # What users' interests need beyond history and profile; see ``VectorRecommender``.
        self.requested_inputs = tuple(name for name in self._extractor_inputs if name in REQUESTABLE_INPUTS)

    def _check_inputs(self, has_timestamps: bool) -> None:
        required = self.extractor.required_inputs()
        reads_profile = self.user_tower.joins_profile or "profile" in self.extractor.requested_inputs()
        if self.profile_encoder is not None and not reads_profile:
            raise ConfigError(
                "model.user_tower.join_profile: false, but this extractor does not read the profile either; to train without profile, set "
                "model.user_tower.profile_features to []"
            )
        if "profile" in required and self.profile_encoder is None:
            raise ConfigError("model.extractor: this extractor needs a user profile, but the data has no profile features")
        if "timestamps" in required and not has_timestamps:
            raise ConfigError(
                "model.extractor: this extractor needs the time of each event, but the data has none; name the log's time column in "
                "data.log.columns.time, or choose another extractor"
            )

    # Forward

    def extract(
        self,
        history: tf.Tensor,
        profile: Mapping[str, tf.Tensor] | None = None,
        timestamps: tf.Tensor | None = None,
        training: bool | None = None,
        examples: TargetPlaces | None = None,
    ) -> tuple[InterestOutput, tf.Tensor, tf.Tensor]:
        """Interests with their internals.

        Args:
            history: int32 [B, L] item indices, real items first.
            profile: Profile features by name, or None.
            timestamps: float64 [B, L], for extractors that ask for them.
            training: Whether dropout and random routing are on.
            examples: None for the interests after each history's newest item; otherwise those at the given places are returned, as if the
                histories up to there had been the batch.

        Returns:
            The extractor's output; the scored vectors [B, K, d] (0 where inactive); the history's item vectors [B, L, d].
        """
        mask = history >= FIRST_INDEX
        # Padding is neither looked up nor dropped from, nor does it reach the item table's gradient.
        real = RealItems(mask)
        real_vectors = self.item_tower(real.rows(history), training=training, with_ids=True)  # [R, d]
        vectors = real.spread(real_vectors)
        profile_vector = self.profile_encoder(profile) if self.profile_encoder is not None else None
        optional = {"profile": profile_vector, "timestamps": timestamps, "history_indices": history, "items": self._history_items}
        requested = {name: optional[name] for name in self._extractor_inputs}
        dropped = real.spread(self.history_dropout(real_vectors, training=training))
        if examples is not None:
            check_sequences(self.extractor, self.encoder)
        if self.encoder is not None:
            with zero_at_padding(dropped):
                dropped = self.encoder(dropped, mask, training=training).states
        if examples is None:
            # Of an encoder's states nobody has promised it.
            with zero_at_padding(dropped) if self.encoder is None else nullcontext():
                output = self.extractor(dropped, mask, training=training, **requested)
        else:
            output = self._at_every_target(examples, dropped, mask, requested, training)
            profile_vector, vectors = examples.of_users(profile_vector), examples.histories(vectors)
        users = self.user_tower(output.interests, profile_vector, training=training)
        if self.normalize:
            users = unit_length(users)
        users = tf.where(output.active[..., None], users, tf.zeros([], users.dtype))
        return output, users, vectors

    def _at_every_target(
        self, examples: TargetPlaces, states: tf.Tensor, mask: tf.Tensor, requested: Mapping[str, Any], training: bool | None
    ) -> InterestOutput:
        """The extractor's output for every example: in one pass where it can, otherwise of each prefix of the states."""
        if self.extractor.why_not_every_item is None:
            with zero_at_padding(states) if self.encoder is None else nullcontext():
                return examples.outputs(self.extractor(states, mask, training=training, every_item=True, **requested))
        by_user = {"profile": examples.of_users, "timestamps": examples.histories, "history_indices": examples.histories}
        prefixes = {name: by_user[name](value) if name in by_user else value for name, value in requested.items()}
        return self.extractor(examples.histories(states), examples.masks(mask), training=training, **prefixes)

    def compute_loss(self, inputs: Batch, training: bool = False) -> tf.Tensor:
        """Mean loss of a batch of ``training_batches``: weighted main loss plus regularisers.

        Raises:
            ConfigError: The batch has a target after every item, and the extractor no interests for each of them.
        """
        with self.item_tower.propagated(training):
            return self._loss(inputs, training)

    def _loss(self, inputs: Batch, training: bool) -> tf.Tensor:
        history, target, weight, negatives = inputs["history"], inputs["target"], inputs.get("weight"), inputs.get("negatives")
        if target.shape.rank == 1:
            output, users, vectors = self.extract(history, inputs.get("profile"), inputs.get("timestamps"), training)
        else:
            examples = TargetPlaces(history, target)
            output, users, vectors = self.extract(history, inputs.get("profile"), inputs.get("timestamps"), training, examples)
            history, target, weight = examples.histories(history), examples.of_each(target), examples.of_each(weight)
            negatives = examples.of_users(negatives)
        target_vectors = self.items.embed(target, training=training)
        mask = history >= FIRST_INDEX
        context = BatchContext(output, vectors, history, mask, target_vectors, users, self._unpropagated(history, mask, training))
        for_readout = {"output": output} if self.readout.wants_output() else {}
        answers = self._unit_mixtures(self.readout(users, output.active, target_vectors, **for_readout))
        queries = answers / tf.cast(self.temperature, users.dtype)
        learned = self.votes(history, training=training) if self.votes is not None and self.votes.learned else None
        if self.repetition is None and learned is None:
            contrast = self._contrast(queries, target, None, context, training)
        else:
            apart = self._scored_apart(users, output, vectors, history, self._serve(output, users), learned)
            contrast = self._contrast(queries, target, apart.items, context, training)
            contrast = with_repeats(contrast, apart.scores / self.temperature, apart.items == target[:, None])
        per_example = self.weighting(contrast)
        if negatives is not None and self.negatives_weight:
            per_example += self.negatives_weight * turned_down_loss(queries, target, target_vectors, negatives, self.items)
        total = tf.reduce_mean(per_example) if weight is None else _weighted_mean(per_example, weight)
        for name, regularizer in self.regularizers.items():
            value = regularizer(context, training=training)
            self._regularization_trackers[name].update_state(value)
            total += value
        return total

    def _contrast(
        self, queries: tf.Tensor, target: tf.Tensor, left_out: tf.Tensor | None, context: BatchContext, training: bool
    ) -> Contrast:
        for_objective = {"context": context} if self.objective.wants_context() else {}
        if not self.readout.SUMS_INTERESTS:
            return self.objective(queries, target, self.items, training, left_out=left_out, **for_objective)
        # Every interest is compared for itself; the sums over catalogue and interests commute.
        active = context.output.active
        num_interests = queries.shape[1]
        flat = tf.reshape(queries, [-1, queries.shape[2]])  # [B K, d]
        left_out = None if left_out is None else tf.repeat(left_out, num_interests, axis=0)
        targets = tf.repeat(target, num_interests)
        contrast: Contrast = self.objective(flat, targets, self.items, training, left_out=left_out)
        return contrast.summed_over_interests(active)

    def _scored(self, vectors: tf.Tensor) -> tf.Tensor:
        """Item vectors of the tower as scores use them."""
        return unit_length(vectors) if self.normalize else vectors

    def _unpropagated(self, history: tf.Tensor, mask: tf.Tensor, training: bool) -> tf.Tensor | None:
        if self.item_tower.propagation is None:
            return None
        real = RealItems(mask)
        return real.spread(self.item_tower.own_vectors(real.rows(history), training, with_ids=True))

    def _unit_mixtures(self, answers: tf.Tensor) -> tf.Tensor:
        """A readout's answers, with mixtures of unit vectors brought to unit length again."""
        return unit_length(answers) if self.normalize and self.readout.MIXES_INTERESTS else answers

    def call(self, inputs: Batch, training: bool | None = None) -> tf.Tensor:
        """Scored interests [B, K, d] of a batch, for ``predict``."""
        return self.extract(inputs["history"], inputs.get("profile"), inputs.get("timestamps"), training)[1]

    @property
    def part_trackers(self) -> list[tf.keras.metrics.Mean]:
        """Each regulariser's share of the loss, by name."""
        return list(self._regularization_trackers.values())

    # Recommending

    def user_interests(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor]:
        """Scored interests float32 [B, K, d] and which are active, bool [B, K]; see ``VectorRecommender``.

        Raises:
            DataError: The extractor needs timestamps, and the inputs have none.
        """
        output, users, _, _ = self._extract_known_items(inputs)
        return self._serve(output, users)

    def interests_with_shares(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """``user_interests``, and each interest's share of what is consumed next, float32 [B, K]; see ``SharingRecommender``.

        Raises:
            ConfigError: The model has no regulariser ``interest_usage``, which learns the shares; see ``usage_of``.
            DataError: As for ``user_interests``.
        """
        network = usage_of(self.regularizers.values(), self.readout)
        output, users, _, history = self._extract_known_items(inputs)
        return *self._serve(output, users), network.shares(output, users, history >= FIRST_INDEX)

    def interests_with_weights(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """``user_interests``, and which items they come from, float32 [B, K, L]; see ``ExplainableRecommender``.

        The weights are the extractor's ``InterestOutput.weights``: routing or attention weights, of the states at those places where a
        sequence encoder reads the history first.

        Raises:
            DataError: As for ``user_interests``.
        """
        output, users, _, _ = self._extract_known_items(inputs)
        interests, active = self._serve(output, users)
        weights = tf.cast(self.readout.served_weights(output), tf.float32)
        # The model has seen known items only: back to where they stand in the request.
        places = tf.argsort(_known_first(inputs.history >= FIRST_INDEX), axis=1)
        weights = tf.gather(weights, tf.repeat(places[:, None, :], tf.shape(weights)[1], axis=1), batch_dims=2)
        return interests, active, tf.where(active[:, :, None], weights, 0.0)

    @property
    def knows_repeats(self) -> bool:
        """Whether some items have scores of their own: those of a user's history, or what counts vote for; see ``RepeatingRecommender``."""
        return self.repetition is not None or self.votes is not None

    @property
    def apart(self) -> dict[str, str]:
        """See ``RepeatingRecommender``."""
        repeated = {} if self.repetition is None else {"own_items": "scored by the model's repetition"}
        return repeated | ({} if self.votes is None else {"voted_items": f"inner product and votes of {self.votes.counts.name}"})

    def interests_with_repeats(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor, OwnItems]:
        """``user_interests``, and the items with scores of their own; see ``RepeatingRecommender``.

        Raises:
            ConfigError: The model has neither ``repetition`` nor ``votes``.
            DataError: As for ``user_interests``.
        """
        if not self.knows_repeats:
            raise ConfigError("model.repetition: this model scores a user's own items like all others")
        output, users, vectors, history = self._extract_known_items(inputs)
        served, active = self._serve(output, users)
        votes = None if self.votes is None else self.votes(history)
        return served, active, self._scored_apart(users, output, vectors, history, (served, active), votes)

    def _scored_apart(  # noqa: PLR0917 - all of what a batch of users is
        self,
        users: tf.Tensor,
        output: InterestOutput,
        vectors: tf.Tensor,
        history: tf.Tensor,
        served: tuple[tf.Tensor, tf.Tensor],
        votes: Votes | None,
    ) -> OwnItems:
        """What has scores of its own: items of the history where there is a repetition, and those that are voted for."""
        parts = []
        if self.repetition is not None:
            scores, interests = self.repetition(users, output.active, self._scored(vectors), history)
            if votes is not None and votes.own_votes is not None:
                scores += votes.own_votes
            if not self.readout.serves_interests:
                interests = tf.zeros_like(interests)  # what is served is one vector
            parts.append(OwnItems(history, tf.cast(scores, tf.float32), interests))
        if votes is not None:
            parts.append(self._voted(votes, *served, history))
        items, scores, interests = (tf.concat([part[column] for part in parts], axis=1) for column in range(3))
        # Learned votes may be below 0: then, too, they say what an item's score is.
        learned = votes is not None and votes.own_votes is not None
        replaced = items if learned else history[:, :0] if self.repetition is None else history
        return OwnItems(items, scores, interests, replaced)

    def _voted(self, voted: Votes, served: tf.Tensor, active: tf.Tensor, history: tf.Tensor) -> OwnItems:
        """What counts vote for, by inner product and votes together; without the items of ``history`` where a repetition scores them."""
        items, votes, _ = voted  # [B, C]
        similarities = tf.einsum("bkd,bcd->bkc", served, tf.cast(self.items.embed(items), tf.float32))
        similarities = tf.where(active[:, :, None], similarities, similarities.dtype.min)
        scored = items >= FIRST_INDEX
        if self.repetition is not None:
            scored &= ~tf.reduce_any(items[:, :, None] == history[:, None, :], axis=2)
        scores = tf.where(scored, tf.reduce_max(similarities, axis=1) + votes, -float("inf"))
        return OwnItems(items, scores, tf.argmax(similarities, axis=1, output_type=tf.int32))

    def _extract_known_items(self, inputs: UserInputs) -> tuple[InterestOutput, tf.Tensor, tf.Tensor, tf.Tensor]:
        """The extractor's output, the scored vectors [B, K, d], and the vectors [B, L, d] and indices [B, L] of the known items."""
        missing = [name for name in self.requested_inputs if getattr(inputs, name) is None]
        if missing:
            raise DataError(f"this model was trained with {', '.join(missing)}, which the histories to recommend for lack")
        known = drop_unknown_items(inputs)
        return *self.extract(*known, training=False), known.history

    def _serve(self, output: InterestOutput, users: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        served, active = self.readout.serve(tf.cast(users, tf.float32), output.active, output)
        return self._unit_mixtures(served), active

    def item_vectors(self) -> tf.Tensor:
        """Item vectors float32 [num_rows, d]; rows 0 and 1 are 0."""
        self.item_tower.refresh()
        catalogue = tf.cast(self.items.embed_catalogue(training=False), tf.float32)
        return tf.concat([tf.zeros([FIRST_INDEX, catalogue.shape[1]]), catalogue], axis=0)


def turned_down_loss(
    queries: tf.Tensor, target: tf.Tensor, target_vectors: tf.Tensor, negatives: tf.Tensor, items: ScoredItems
) -> tf.Tensor:
    """float32 [B]: the mean over each user's explicit negatives j of ``-log sigmoid(s_t - s_j)``, 0 where there are none.

    The pairwise loss of Rendle et al. (UAI 2009), with items that the user has turned down instead of drawn ones. It asks for more than
    that they count as negatives: a softmax over the catalogue has them among its negatives already, each as one of many.

    Args:
        queries: [B, d], or [B, K, d] where the best interest scores.
        target, target_vectors: int32 [B] and [B, d].
        negatives: int32 [B, M]; 0 pads. A user's target is none of its negatives.
        items: Embeds.
    """
    vectors = tf.cast(items.embed(negatives), queries.dtype)  # [B, M, d]
    if queries.shape.rank == 2:
        scores = tf.einsum("bd,bmd->bm", queries, vectors)
    else:
        scores = tf.reduce_max(tf.einsum("bkd,bmd->bkm", queries, vectors), axis=1)
    of_target = target_logits(queries, tf.cast(target_vectors, queries.dtype))
    losses = tf.nn.softplus(tf.cast(scores, tf.float32) - of_target[:, None])  # [B, M]
    real = tf.cast((negatives >= FIRST_INDEX) & (negatives != target[:, None]), tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * real, axis=1), tf.reduce_sum(real, axis=1))


def _weighted_mean(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    weights = tf.cast(weights, values.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(values * weights), tf.reduce_sum(weights))

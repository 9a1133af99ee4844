"""From a configuration and a dataset to a model that retrieves, trained or counted."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfmi.config import ModelConfig, RunConfig
from tfmi.core.errors import ConfigError
from tfmi.data.dataset import FIRST_INDEX, Catalogue, InteractionDataset
from tfmi.layers.base import EXTRACTORS, READOUTS, REPETITIONS
from tfmi.layers.common.adapting import AdaptsToSequences
from tfmi.layers.graph.propagation import PROPAGATIONS
from tfmi.layers.sequence_encoders.sequence_encoder import ENCODERS
from tfmi.losses.base import OBJECTIVES, REGULARIZERS, WEIGHTINGS
from tfmi.models.heuristics.heuristic import HEURISTICS
from tfmi.models.recommender import DirectRecommender
from tfmi.models.retrieval.counted_votes import CountedVotes
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval
from tfmi.models.towers import ItemTower, ProfileEncoder, UserTower, select_features


def build_heuristic(config: RunConfig, dataset: InteractionDataset) -> DirectRecommender:
    """A heuristic model that has counted the dataset's training sequences."""
    heuristic = HEURISTICS.build(config.model.heuristic or {}, "model.heuristic")
    heuristic.fit(dataset.train.in_memory(), dataset.catalogue.num_rows, config.data.history_length)
    return heuristic


def build_model(config: RunConfig, dataset: InteractionDataset, *, adapt: bool = True) -> InterestRetrieval:
    """A retrieval model for the dataset, adapted to it. Sets the global random seed, from which initial weights come.

    Args:
        config: The run.
        dataset: The data.
        adapt: Whether components count in the training sequences what they have to.

    Raises:
        ConfigError: A component's parameters, a feature's name or a combination is wrong.
    """
    tf.keras.utils.set_random_seed(config.seed)
    model_config = config.model
    profile_features = {}
    if dataset.profiles is not None:
        wanted = model_config.user_tower.profile_features
        profile_features = select_features(wanted, dataset.profiles.features, "model.user_tower.profile_features")
    item_tower = _item_tower(model_config, dataset, config.seed)
    encoder = ProfileEncoder(profile_features, model_config.user_tower.profile_dimension) if profile_features else None
    for_extractor = {
        "seed": config.seed + 2000,
        "profile_fields": [] if encoder is None else encoder.field_widths,
        "num_rows": dataset.catalogue.num_rows,
    }
    model = InterestRetrieval(
        item_tower=item_tower,
        user_tower=UserTower(
            model_config.dimension,
            hidden=model_config.user_tower.hidden,
            project=model_config.user_tower.project,
            joins_profile=encoder is not None and model_config.user_tower.join_profile,
            final_activation=model_config.user_tower.final_activation,
            dropout=model_config.user_tower.dropout,
            seed=config.seed + 1000,
        ),
        encoder=None if model_config.encoder is None else ENCODERS.build(model_config.encoder, "model.encoder", seed=config.seed + 9000),
        extractor=EXTRACTORS.build(model_config.extractor, "model.extractor", **for_extractor),
        readout=READOUTS.build(model_config.readout, "model.readout", seed=config.seed + 6000),
        objective=OBJECTIVES.build(model_config.objective, "model.objective", seed=config.seed + 3000),
        repetition=None
        if model_config.repetition is None
        else REPETITIONS.build(model_config.repetition, "model.repetition", seed=config.seed + 7000),
        votes=build_votes(config),
        weighting=WEIGHTINGS.build(model_config.weighting, "model.weighting", seed=config.seed + 8000),
        regularizers={
            name: REGULARIZERS.build(spec, f"model.regularizers.{name}", seed=config.seed + 4000 + position)
            for position, (name, spec) in enumerate(sorted(model_config.regularizers.items()))
        },
        history_length=config.data.history_length,
        profile_encoder=encoder,
        has_timestamps=dataset.valid.histories.timestamps is not None,
        normalize=model_config.normalize,
        temperature=model_config.temperature,
        history_dropout=model_config.history_dropout,
        negatives_weight=model_config.negatives_weight,
        seed=config.seed + 5000,
    )
    adapting = [component for component in _components(model) if isinstance(component, AdaptsToSequences)]
    if adapting and adapt:
        sequences = dataset.train.in_memory()
        for component in adapting:
            component.adapt(sequences, dataset.catalogue.num_rows)
    return model


def build_votes(config: RunConfig) -> CountedVotes | None:
    """What ``model.votes`` describes, before it has counted.

    Raises:
        ConfigError: Its heuristic model's parameters are wrong, or one of its own would be ignored.
    """
    votes = config.model.votes
    if votes is None:
        return None
    if not votes.learned and (votes.answer_weight != 1.0 or votes.own_offset):
        raise ConfigError("model.votes: answer_weight and own_offset correct votes that are learned; set learned: true, or leave them out")
    if votes.own_offset and config.model.repetition is None:
        raise ConfigError("model.votes.own_offset: without model.repetition own items are scored as all others; set it to 0")
    given = votes.model_dump()
    return CountedVotes(given.pop("heuristic"), **given, history_length=config.data.history_length, name="votes")


def _components(model: InterestRetrieval) -> list[tf.Module | None]:
    """Everything that a configuration names, and what these are made of."""
    named = [
        model.item_tower.propagation,
        model.encoder,
        model.extractor,
        model.readout,
        model.objective,
        model.weighting,
        model.repetition,
        model.votes,
    ]
    named += model.regularizers.values()
    parts = [part for component in named if component is not None for part in component.submodules]
    # A component adapts its own parts, so that only those of others are left.
    adapted = {id(part) for component in named if isinstance(component, AdaptsToSequences) for part in component.submodules}
    return [*named, *(part for part in parts if id(part) not in adapted)]


def _item_tower(config: ModelConfig, dataset: InteractionDataset, seed: int) -> ItemTower:
    tower = config.item_tower
    return ItemTower(
        dataset.catalogue.num_rows,
        config.dimension,
        features=select_features(tower.features, dataset.catalogue.features, "model.item_tower.features"),
        use_id=tower.use_id,
        combine=tower.combine,
        hidden=tower.hidden,
        dropout=tower.dropout,
        id_dropout=tower.id_dropout,
        without_id=_without_trained_id(dataset.catalogue),
        initializer_deviation=tower.initializer_deviation,
        propagation=None if tower.propagation is None else PROPAGATIONS.build(tower.propagation, "model.item_tower.propagation"),
        seed=seed,
    )


def _without_trained_id(catalogue: Catalogue) -> np.ndarray | None:
    """bool [rows]: items without a training event, whose id means nothing; None where there is no such item, or no feature to go by."""
    unseen = np.asarray(catalogue.counts) == 0
    unseen[:FIRST_INDEX] = False
    if catalogue.without_id is not None:
        unseen |= catalogue.without_id
    return unseen if catalogue.features and unseen.any() else None

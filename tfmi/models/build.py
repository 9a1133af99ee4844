"""From a configuration and a dataset to a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfmi.config import ModelConfig, RunConfig
from tfmi.data.exposures.coarse import coarse_feature_names
from tfmi.data.exposures.structures import RankingDataset
from tfmi.data.structures import Dataset
from tfmi.layers.adapting import AdaptsToSequences
from tfmi.layers.backbone import BACKBONES
from tfmi.layers.base import EXTRACTORS, READOUTS, REPETITIONS
from tfmi.layers.propagation import PROPAGATIONS
from tfmi.losses.base import OBJECTIVES, REGULARIZERS, WEIGHTINGS
from tfmi.losses.coarse_labels import SoftCoarseLoss
from tfmi.models.counting import COUNTERS
from tfmi.models.item_fields import ItemFields
from tfmi.models.ranker import InterestRanker
from tfmi.models.recommender import DirectRecommender
from tfmi.models.retrieval import InterestRetrieval
from tfmi.models.towers import ItemTower, ProfileEncoder, UserTower, select_features
from tfmi.registry import Registry


def build_counter(config: RunConfig, dataset: Dataset) -> DirectRecommender:
    """A counting model that has counted the dataset's training sequences."""
    counter = COUNTERS.build(config.model.counter or {}, "model.counter")
    counter.fit(dataset.train.in_memory(), dataset.catalogue.num_rows, config.data.history_length)
    return counter


def build_model(config: RunConfig, dataset: Dataset) -> InterestRetrieval:
    """A retrieval model for the dataset, adapted to it. Sets the global random seed, from which initial weights come.

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
        extractor=EXTRACTORS.build(_given(EXTRACTORS, model_config.extractor, **for_extractor), "model.extractor"),
        readout=READOUTS.build(_given(READOUTS, model_config.readout, seed=config.seed + 6000), "model.readout"),
        objective=OBJECTIVES.build(_given(OBJECTIVES, model_config.objective, seed=config.seed + 3000), "model.objective"),
        repetition=None
        if model_config.repetition is None
        else REPETITIONS.build(_given(REPETITIONS, model_config.repetition, seed=config.seed + 7000), "model.repetition"),
        weighting=WEIGHTINGS.build(_given(WEIGHTINGS, model_config.weighting, seed=config.seed + 8000), "model.weighting"),
        regularizers={
            name: REGULARIZERS.build(_given(REGULARIZERS, spec, seed=config.seed + 4000 + position), f"model.regularizers.{name}")
            for position, (name, spec) in enumerate(sorted(model_config.regularizers.items()))
        },
        history_length=config.data.history_length,
        profile_encoder=encoder,
        has_timestamps=dataset.valid.histories.timestamps is not None,
        normalize=model_config.normalize,
        temperature=model_config.temperature,
        history_dropout=model_config.history_dropout,
        seed=config.seed + 5000,
    )
    adapting = [component for component in _components(model) if isinstance(component, AdaptsToSequences)]
    if adapting:
        sequences = dataset.train.in_memory()
        for component in adapting:
            component.adapt(sequences, dataset.catalogue.num_rows)
    return model


def build_ranker(config: RunConfig, dataset: RankingDataset) -> InterestRanker:
    """A model that ranks, for the dataset. Sets the global random seed, from which initial weights come.

    Raises:
        ConfigError: A component's parameters, a feature's name or a combination is wrong.
    """
    tf.keras.utils.set_random_seed(config.seed)
    ranker = config.model.ranker
    profiles = {} if dataset.profiles is None else dataset.profiles.features
    return InterestRanker(
        items=ItemFields(
            dataset.catalogue,
            ranker.dimension,
            select_features(ranker.features, dataset.catalogue.features, "model.ranker.features"),
            use_id=ranker.use_id,
            use_popularity=ranker.use_popularity,
            initializer_deviation=ranker.initializer_deviation,
        ),
        backbone=BACKBONES.build(_given(BACKBONES, ranker.backbone, seed=config.seed + 2000), "model.ranker.backbone"),
        history_length=config.data.history_length,
        profile_features=select_features(ranker.profile_features, profiles, "model.ranker.profile_features"),
        hidden=ranker.hidden,
        coarse_features=coarse_feature_names(dataset, ranker.coarse_features, "model.ranker.coarse_features"),
        coarse_hidden=ranker.coarse_hidden,
        coarse_loss=SoftCoarseLoss(ranker.partial_interest, ranker.no_interest, ranker.soft),
        fine_weight=ranker.fine_weight,
        coarse_weight=ranker.coarse_weight,
        detach=ranker.detach,
        fusion=ranker.fusion,
        fusion_bias=ranker.fusion_bias,
        seed=config.seed + 3000,
    )


def _components(model: InterestRetrieval) -> list[tf.Module | None]:
    """Everything that a configuration names, and what these are made of."""
    named = [model.item_tower.propagation, model.extractor, model.readout, model.objective, model.weighting, model.repetition]
    named += model.regularizers.values()
    parts = [part for component in named if component is not None for part in component.submodules]
    # A component adapts its own parts, so that only those of others are left.
    adapted = {id(part) for component in named if isinstance(component, AdaptsToSequences) for part in component.submodules}
    return [*named, *(part for part in parts if id(part) not in adapted)]


def create_variables(model: tf.keras.Model, batch: Mapping[str, Any]) -> None:
    """Create every variable of the model by computing the loss of one batch, without counting as training."""
    model.compute_loss(batch, training=False)
    model.built = True


def count_parameters(model: tf.keras.Model) -> int:
    """The number of trainable numbers."""
    return int(sum(variable.shape.num_elements() for variable in model.trainable_variables))


def _given(registry: Registry[Any], spec: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Give a component what only the run or the data knows, if it takes such a parameter and the recipe does not set it."""
    taken = registry.parameters(str(spec["name"]))
    return {**{name: value for name, value in values.items() if name in taken}, **spec}


def _item_tower(config: ModelConfig, dataset: Dataset, seed: int) -> ItemTower:
    tower = config.item_tower
    return ItemTower(
        dataset.catalogue.num_rows,
        config.dimension,
        features=select_features(tower.features, dataset.catalogue.features, "model.item_tower.features"),
        use_id=tower.use_id,
        combine=tower.combine,
        hidden=tower.hidden,
        dropout=tower.dropout,
        initializer_deviation=tower.initializer_deviation,
        propagation=None if tower.propagation is None else PROPAGATIONS.build(tower.propagation, "model.item_tower.propagation"),
        seed=seed,
    )

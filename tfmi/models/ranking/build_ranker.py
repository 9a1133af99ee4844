"""From a configuration and a dataset to a model that ranks."""

from __future__ import annotations

import tensorflow as tf

from tfmi.config import RunConfig
from tfmi.data.impressions.impression_dataset import RankingDataset
from tfmi.data.impressions.training_coarse_labels import coarse_feature_names
from tfmi.layers.backbones.backbone import BACKBONES
from tfmi.losses.tasks.soft_coarse_loss import SoftCoarseLoss
from tfmi.models.ranking.item_fields import ItemFields
from tfmi.models.ranking.ranker import InterestRanker
from tfmi.models.towers import select_features, without_vectors


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
            select_features(ranker.features, without_vectors(dataset.catalogue.features), "model.ranker.features"),
            use_id=ranker.use_id,
            use_popularity=ranker.use_popularity,
            initializer_deviation=ranker.initializer_deviation,
        ),
        backbone=BACKBONES.build(ranker.backbone, "model.ranker.backbone", seed=config.seed + 2000),
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

"""The named systems, as recipes: fragments of configuration over shared parts. A new paper is one more entry here.

``load_config`` puts a run's description together: defaults, the system's recipe, a YAML file, settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfmi.config import RunConfig, merge, parse_settings, read_config_file, validate_config
from tfmi.errors import ConfigError, nearest
from tfmi.layers.base import EXTRACTORS, READOUTS
from tfmi.losses.base import OBJECTIVES, REGULARIZERS
from tfmi.models.counting import COUNTERS

# What a system is known by: with another of these, it is another system.
IDENTIFYING_COMPONENTS = ("extractor", "counter")


@dataclass(frozen=True)
class System:
    """A named recipe.

    Attributes:
        summary: One line for ``--help`` and tables.
        source: The paper.
        recipe: Configuration that differs from the defaults.
    """

    summary: str
    source: str
    recipe: Mapping[str, Any]


SYSTEMS: dict[str, System] = {
    "mind": System(
        summary="capsule routing with an adaptive number of interests, label-aware attention",
        source="Li et al., Multi-Interest Network with Dynamic Routing for Recommendation at Tmall, CIKM 2019",
        recipe={
            "model": {
                "extractor": {
                    "name": "capsule_routing",
                    "num_interests": 4,
                    "initial_identity": 1.0,
                    "initializer_deviation": 0.02,
                },
                "readout": {"name": "label_aware"},
            }
        },
    ),
    "comirec_dr": System(
        summary="capsule routing with a matrix per position and interest, hard readout",
        source="Cen et al., Controllable Multi-Interest Framework for Recommendation, KDD 2020",
        recipe={
            "model": {
                "extractor": {
                    "name": "comirec_routing",
                    "num_interests": 4,
                    "initial_identity": 1.0,
                    "initializer_deviation": 0.02,
                    "positions": "newest",
                },
                "readout": {"name": "label_aware"},
                "history_dropout": 0.5,  # its L K d^2 weights overfit soonest
            }
        },
    ),
    "comirec_sa": System(
        summary="self-attentive interests, hard readout",
        source="Cen et al., Controllable Multi-Interest Framework for Recommendation, KDD 2020",
        recipe={
            "model": {
                "extractor": {"name": "self_attentive", "num_interests": 4, "positions": "newest"},
                "readout": {"name": "label_aware"},
            }
        },
    ),
    "youtube_dnn": System(
        summary="one vector: the recency-weighted mean of the history",
        source="Covington et al., Deep Neural Networks for YouTube Recommendations, RecSys 2016",
        recipe={
            "model": {
                "extractor": {"name": "mean_pooling", "recency_decay": 0.9},
                "readout": {"name": "label_aware"},
            }
        },
    ),
    "popularity": System(
        summary="the most popular items for everybody",
        source="counting baseline",
        recipe={"model": {"kind": "counting", "counter": {"name": "popularity"}}},
    ),
    "item_knn": System(
        summary="cosine co-occurrence, summed over the history with recency decay",
        source="counting baseline",
        recipe={"model": {"kind": "counting", "counter": {"name": "item_knn", "neighbours": 1000, "decay": 0.8}}},
    ),
}


def load_config(
    config_file: str | Path | None = None,
    system: str | None = None,
    settings: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Put a run's configuration together and check it.

    Args:
        config_file: A YAML file; it may name its ``system`` and override any of its values.
        system: A name of ``SYSTEMS``; wins over the file's. A description with an extractor or counter of its own gives itself a
            ``system`` name of its own, and starts from the defaults instead of a recipe.
        settings: ``section.key=value`` strings, the strongest.
        overrides: A nested mapping, between the file and ``settings``.

    Raises:
        ConfigError: An unknown key or name, a wrong type, or a combination that cannot work.
    """
    from_file = read_config_file(config_file) if config_file is not None else {}
    from_settings = parse_settings(settings)
    explicit = merge(merge(from_file, overrides or {}), from_settings)
    name = system if system is not None else explicit.get("system", RunConfig().system)
    # The defaults are merged too, so that a component's parameter can be set without repeating its name.
    base = merge(RunConfig().model_dump(), _recipe(name, explicit if system is None else {}))
    config = validate_config({**merge(base, explicit), "system": name})
    check_components(config)
    if name in SYSTEMS:
        _check_is_system(config, validate_config(base))
    return config


def _recipe(name: Any, explicit: Mapping[str, Any]) -> Mapping[str, Any]:
    """The named system's recipe; nothing for a description that brings an extractor or counter of its own."""
    if isinstance(name, str) and name in SYSTEMS:
        return SYSTEMS[name].recipe
    if any(_component_name(explicit, part) is not None for part in IDENTIFYING_COMPONENTS):
        return {}
    raise ConfigError(
        f"system: unknown system {name!r}{nearest(str(name), SYSTEMS)}; available: {', '.join(SYSTEMS)}. A system of your own needs a "
        "configuration that names its model.extractor or model.counter"
    )


def _check_is_system(config: RunConfig, recipe: RunConfig) -> None:
    """Refuse to call something else by a named system's name: it would keep that recipe's towers and be published as that system."""
    for part in IDENTIFYING_COMPONENTS:
        given, expected = (_component_name(described.model_dump(), part) for described in (config, recipe))
        if given != expected:
            raise ConfigError(
                f"model.{part}: {given!r}, but system {config.system!r} is made of {expected!r}; give your own combination a name of its "
                "own: a line 'system: my_name' in the configuration file, or --set system=my_name"
            )


def _component_name(described: Mapping[str, Any], part: str) -> str | None:
    model = described.get("model")
    component = model.get(part) if isinstance(model, Mapping) else None
    return component.get("name") if isinstance(component, Mapping) else None


def check_components(config: RunConfig) -> None:
    """Check every component's parameters and the combinations that the schema cannot express; raises ``ConfigError``."""
    model = config.model
    # Constructors check ranges. In a graph of their own, which is thrown away, they neither wake devices nor use up Keras' names.
    with tf.Graph().as_default():
        EXTRACTORS.build(model.extractor, "model.extractor")
        READOUTS.build(model.readout, "model.readout")
        OBJECTIVES.build(model.objective, "model.objective")
        for label, regularizer in model.regularizers.items():
            REGULARIZERS.build(regularizer, f"model.regularizers.{label}")
        if model.counter is not None:
            COUNTERS.build(model.counter, "model.counter")
    if model.kind == "counting":
        if model.counter is None:
            raise ConfigError(f"model.counter: model.kind 'counting' needs one; available: {', '.join(COUNTERS.names())}")
    elif model.counter is not None:
        raise ConfigError("model.counter: given, but model.kind is 'interests'; set model.kind to 'counting' or leave the counter out")
    if not model.item_tower.use_id and model.item_tower.features == []:
        raise ConfigError("model.item_tower: use_id is false and features is empty, so nothing is left to embed")
    metric, _, cutoff = config.training.monitor.partition("@")
    known = ("recall", "hr", "ndcg", "mrr", "precision", "coverage")
    if metric not in known or not cutoff.isdigit() or int(cutoff) not in config.evaluation.cutoffs:
        raise ConfigError(
            f"training.monitor: expected one of {', '.join(known)} at one of evaluation.cutoffs {config.evaluation.cutoffs}, "
            f"such as recall@{config.evaluation.cutoffs[-1]}, got {config.training.monitor!r}"
        )

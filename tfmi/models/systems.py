"""The named systems, as recipes: fragments of configuration over shared parts. A new paper is one more file in ``recipes/``.

``load_config`` puts a run's description together: defaults, the system's recipe, a YAML file, settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import tensorflow as tf
from tf_keras.src.utils import version_utils

from tfmi.config import RankerConfig, RunConfig, merge, parse_settings, parse_yaml, read_config_file, validate_config
from tfmi.core.errors import ConfigError, nearest
from tfmi.data.tags.tag_tasks import task_thresholds
from tfmi.layers.backbones.backbone import BACKBONES
from tfmi.layers.base import EXTRACTORS, READOUTS, REPETITIONS, InterestExtractor, require_every_item
from tfmi.layers.graph.propagation import PROPAGATIONS
from tfmi.layers.user_encoders.user_encoder import USER_ENCODERS
from tfmi.losses.base import OBJECTIVES, REGULARIZERS, WEIGHTINGS, require_softmax, require_summable
from tfmi.losses.regularizers.interest_usage import usage_network
from tfmi.losses.tasks.task_losses import TASK_LOSSES
from tfmi.models.heuristics.heuristic import HEURISTICS

RECIPES = "recipes"  # the folder beside this file
# What a system is known by: with another of these, it is another system.
IDENTIFYING_COMPONENTS = ("extractor", "heuristic", "ranker.backbone", "user_tags.encoder")
RETRIEVAL_MONITORS = ("recall", "hr", "ndcg", "mrr", "precision", "coverage")
TAG_MONITORS, ROW_MONITORS = ("precision", "recall", "ndcg"), ("auc", "log_loss")
RANKING_MONITORS = ("auc", "gauc", "log_loss", "calibration_error")


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


def _read_recipes() -> dict[str, System]:
    """Every file of the recipes folder, by its name."""
    files = [file for file in resources.files("tfmi.models").joinpath(RECIPES).iterdir() if file.name.endswith(".yaml")]
    files.sort(key=lambda file: file.name)
    return {file.name.removesuffix(".yaml"): System(**parse_yaml(file.read_text(encoding="utf-8"), file.name)) for file in files}


SYSTEMS: dict[str, System] = _read_recipes()


def load_config(
    config_file: str | Path | None = None,
    system: str | None = None,
    settings: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Put a run's configuration together and check it.

    Args:
        config_file: A YAML file; it may name its ``system`` and override any of its values.
        system: A name of ``SYSTEMS``; wins over the file's. A description with an extractor, heuristic or backbone of its own
            gives itself a ``system`` name of its own, and starts from the defaults instead of a recipe.
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
    """The named system's recipe; nothing for a description that brings an identifying component of its own."""
    if isinstance(name, str) and name in SYSTEMS:
        return SYSTEMS[name].recipe
    if any(_component_name(explicit, part) is not None for part in IDENTIFYING_COMPONENTS):
        return {}
    raise ConfigError(
        f"system: unknown system {name!r}{nearest(str(name), SYSTEMS)}; available: {', '.join(SYSTEMS)}. A system of your own needs a "
        f"configuration that names its {' or '.join(f'model.{part}' for part in IDENTIFYING_COMPONENTS)}"
    )


def _check_is_system(config: RunConfig, recipe: RunConfig) -> None:
    """Refuse to call something else by a named system's name: it would keep that recipe's towers and be published as that system."""
    for part in IDENTIFYING_COMPONENTS:
        given, expected = (_identity(described, part) for described in (config, recipe))
        if given != expected:
            raise ConfigError(
                f"model.{part}: {given!r}, but system {config.system!r} is made of {expected!r}; give your own combination a name of its "
                "own: a line 'system: my_name' in the configuration file, or --set system=my_name"
            )


def _identity(config: RunConfig, part: str) -> str | None:
    """What stands for ``part`` in what a system is known by. Coarse heads make a system, whatever backbone they are around."""
    if part == "ranker.backbone" and config.model.ranker.coarse_features:
        return "any, with coarse features"
    return _component_name(config.model_dump(), part)


def _component_name(described: Mapping[str, Any], part: str) -> str | None:
    component: Any = described.get("model")
    for key in part.split("."):
        component = component.get(key) if isinstance(component, Mapping) else None
    return component.get("name") if isinstance(component, Mapping) else None


# What has passed check_components: constructing every component takes a while, and the same description comes again and again.
_passed: set[str] = set()


def check_components(config: RunConfig) -> None:
    """Check every component's parameters and the combinations that the schema cannot express; raises ``ConfigError``."""
    described = repr(config)  # JSON would have no word for nan
    if described not in _passed:
        _check_components(config)
        _passed.add(described)


@contextmanager
def _thrown_away() -> Iterator[None]:
    """A graph of its own, which is thrown away: layers that are made in it neither wake devices nor use up Keras' names."""
    decide = version_utils.should_use_v2
    # In a graph Keras would put its version 1 under a layer's class, and under the layers of that class in models that are alive.
    version_utils.should_use_v2 = lambda: True
    try:
        with tf.Graph().as_default():
            yield
    finally:
        version_utils.should_use_v2 = decide


def _check_components(config: RunConfig) -> None:
    model = config.model
    # Constructors check ranges.
    with _thrown_away():
        extractor = EXTRACTORS.build(model.extractor, "model.extractor")
        readout = READOUTS.build(model.readout, "model.readout")
        readout.check(extractor)
        _check_examples(config, extractor)
        if model.item_tower.propagation is not None:
            PROPAGATIONS.build(model.item_tower.propagation, "model.item_tower.propagation")
        objective = OBJECTIVES.build(model.objective, "model.objective")
        require_summable(readout, objective)
        WEIGHTINGS.build(model.weighting, "model.weighting").check(objective, readout)
        if model.repetition is not None:
            REPETITIONS.build(model.repetition, "model.repetition")
            require_softmax(objective, "model.repetition")
        regularizers = [REGULARIZERS.build(spec, f"model.regularizers.{label}") for label, spec in model.regularizers.items()]
        for regularizer in regularizers:
            regularizer.check(extractor)
        if model.heuristic is not None:
            HEURISTICS.build(model.heuristic, "model.heuristic")
        BACKBONES.build(model.ranker.backbone, "model.ranker.backbone")
        _check_user_tags(config)
    if model.kind == "heuristic":
        if model.heuristic is None:
            raise ConfigError(f"model.heuristic: model.kind 'heuristic' needs one; available: {', '.join(HEURISTICS.names())}")
    elif model.heuristic is not None:
        raise ConfigError(
            f"model.heuristic: given, but model.kind is {model.kind!r}; set model.kind to 'heuristic' or leave the heuristic out"
        )
    # A ranker's retriever has a configuration of its own.
    if config.index.integration == "allotted" and model.kind != "ranking":
        if model.kind == "heuristic":
            raise ConfigError("index.integration: 'allotted' shares an answer among interests, and a model that counts has none")
        if model.repetition is not None:
            raise ConfigError("index.integration: 'allotted' gives places to interests, but model.repetition to a user's own items")
        usage_network(regularizers, readout)
    if not model.item_tower.use_id and model.item_tower.features == []:
        raise ConfigError("model.item_tower: use_id is false and features is empty, so nothing is left to embed")
    if model.kind == "ranking":
        _check_ranker(model.ranker)
    _check_monitor(config)


def _check_examples(config: RunConfig, extractor: InterestExtractor) -> None:
    if config.data.examples == "sequences" and config.model.kind == "interests":
        require_every_item(extractor)


def _check_ranker(ranker: RankerConfig) -> None:
    if not ranker.use_id and not ranker.use_popularity and ranker.features == []:
        raise ConfigError("model.ranker: use_id and use_popularity are false and features is empty, so nothing is left to embed")
    if len(set(ranker.coarse_features)) != len(ranker.coarse_features) and ranker.coarse_features != "auto":
        raise ConfigError(f"model.ranker.coarse_features: each once, got {', '.join(ranker.coarse_features)}")


def _check_user_tags(config: RunConfig) -> None:
    user_tags = config.model.user_tags
    sizes = {"dimension": user_tags.dimension, "num_tasks": len(task_thresholds(config.data))}
    if sizes.keys() & user_tags.encoder.keys():
        raise ConfigError(
            "model.user_tags.encoder: leave out dimension and num_tasks; model.user_tags.dimension and data.tagging.tasks say them"
        )
    USER_ENCODERS.build({**user_tags.encoder, **sizes}, "model.user_tags.encoder")
    TASK_LOSSES.build(user_tags.task_loss, "model.user_tags.task_loss")
    if user_tags.tag_hidden is None and user_tags.tag_dimension not in (None, user_tags.dimension):
        raise ConfigError(
            f"model.user_tags.tag_dimension: {user_tags.tag_dimension}, but without tag_hidden a tag's embedding is its vector, as wide as "
            f"model.user_tags.dimension {user_tags.dimension}"
        )


def _check_monitor(config: RunConfig) -> None:
    monitor, cutoffs = config.training.monitor, config.evaluation.cutoffs
    if config.model.kind == "user_tags":
        metric, _, cutoff = monitor.partition("@")
        at_cutoff = metric in TAG_MONITORS and cutoff.isdigit() and int(cutoff) in cutoffs
        if monitor not in ROW_MONITORS and not at_cutoff:
            raise ConfigError(
                f"training.monitor: a model of tags is chosen by {' or '.join(ROW_MONITORS)}, or by {', '.join(TAG_MONITORS)} at one of "
                f"evaluation.cutoffs {cutoffs}, such as ndcg@{cutoffs[0]}, got {monitor!r}"
            )
        return
    if config.model.kind == "ranking":
        if monitor not in RANKING_MONITORS:
            raise ConfigError(f"training.monitor: a model that ranks is chosen by one of {', '.join(RANKING_MONITORS)}, got {monitor!r}")
        return
    metric, _, cutoff = monitor.partition("@")
    if metric not in RETRIEVAL_MONITORS or not cutoff.isdigit() or int(cutoff) not in cutoffs:
        raise ConfigError(
            f"training.monitor: expected one of {', '.join(RETRIEVAL_MONITORS)} at one of evaluation.cutoffs {cutoffs}, "
            f"such as recall@{cutoffs[-1]}, got {monitor!r}"
        )

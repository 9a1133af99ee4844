"""The named systems, as recipes: fragments of configuration over shared parts. A new paper is one more file in ``recipes/``.

``load_config`` puts a run's description together: defaults, the system's recipe, a YAML file, settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfmi.config import RunConfig, merge, parse_settings, parse_yaml, read_config_file, validate_config
from tfmi.errors import ConfigError, nearest
from tfmi.layers.base import EXTRACTORS, READOUTS, REPETITIONS
from tfmi.layers.propagation import PROPAGATIONS
from tfmi.losses.base import OBJECTIVES, REGULARIZERS, WEIGHTINGS, require_summable
from tfmi.losses.interest_usage import usage_network
from tfmi.models.counting import COUNTERS

RECIPES = "recipes"  # the folder beside this file
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
        extractor = EXTRACTORS.build(model.extractor, "model.extractor")
        readout = READOUTS.build(model.readout, "model.readout")
        readout.check(extractor)
        if model.item_tower.propagation is not None:
            PROPAGATIONS.build(model.item_tower.propagation, "model.item_tower.propagation")
        require_summable(readout, OBJECTIVES.build(model.objective, "model.objective"))
        WEIGHTINGS.build(model.weighting, "model.weighting")
        if model.repetition is not None:
            REPETITIONS.build(model.repetition, "model.repetition")
        regularizers = [REGULARIZERS.build(spec, f"model.regularizers.{label}") for label, spec in model.regularizers.items()]
        for regularizer in regularizers:
            regularizer.check(extractor)
        if model.counter is not None:
            COUNTERS.build(model.counter, "model.counter")
    if model.kind == "counting":
        if model.counter is None:
            raise ConfigError(f"model.counter: model.kind 'counting' needs one; available: {', '.join(COUNTERS.names())}")
    elif model.counter is not None:
        raise ConfigError("model.counter: given, but model.kind is 'interests'; set model.kind to 'counting' or leave the counter out")
    if config.index.integration == "allotted":
        if model.kind == "counting":
            raise ConfigError("index.integration: 'allotted' shares an answer among interests, and a model that counts has none")
        if model.repetition is not None:
            raise ConfigError("index.integration: 'allotted' gives places to interests, but model.repetition to a user's own items")
        usage_network(regularizers, readout)
    if not model.item_tower.use_id and model.item_tower.features == []:
        raise ConfigError("model.item_tower: use_id is false and features is empty, so nothing is left to embed")
    metric, _, cutoff = config.training.monitor.partition("@")
    known = ("recall", "hr", "ndcg", "mrr", "precision", "coverage")
    if metric not in known or not cutoff.isdigit() or int(cutoff) not in config.evaluation.cutoffs:
        raise ConfigError(
            f"training.monitor: expected one of {', '.join(known)} at one of evaluation.cutoffs {config.evaluation.cutoffs}, "
            f"such as recall@{config.evaluation.cutoffs[-1]}, got {config.training.monitor!r}"
        )

"""The named systems, as recipes: fragments of configuration over shared parts. A new paper is one more file in ``recipes/``.

``load_config`` puts a run's description together: defaults, the system's recipe, a YAML file, settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from tfmi.config import ModelConfig, RunConfig, in_current_form, merge, parse_settings, parse_yaml, read_config_file, validate_config
from tfmi.core.errors import ConfigError, nearest
from tfmi.core.registry import outside_modules
from tfmi.data.public.public_sets import with_set
from tfmi.layers.common.randomness import only_checked
from tfmi.models.kind_settings import (
    MODEL_KINDS,
    refuse_unread,
    refuse_unread_of_file,
    settings_of_kind,
    with_defaults_where_unread,
)

RECIPES = "recipes"  # the folder beside this file


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

    @property
    def kind(self) -> str:
        """The kind of model, ``model.kind``."""
        return str(self.recipe["model"].get("kind", ModelConfig().kind))


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
    where_read: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Put a run's configuration together and check it.

    Args:
        config_file: A YAML file; it may name its ``system`` and override any of its values.
        system: A name of ``SYSTEMS``; wins over the file's. A description with an extractor, heuristic, backbone or encoder of its own
            gives itself a ``system`` name of its own, and starts from the defaults instead of a recipe.
        settings: ``section.key=value`` strings, the strongest.
        overrides: A nested mapping, between the file and ``settings``.
        where_read: A nested mapping for many systems alike, between the file and ``overrides``. What this system does not read of it is
            left out; anywhere else that is an error.

    Returns:
        The configuration. What has no effect in it is at its default.

    Raises:
        ConfigError: An unknown key or name, a wrong type, a combination that cannot work, or a setting that has no effect.
    """
    from_file = read_config_file(config_file) if config_file is not None else {}
    of_set, from_file = with_set(in_current_form(from_file))
    of_own_set, from_caller = with_set(in_current_form(merge(overrides or {}, parse_settings(settings))))
    explicit = merge(from_file, from_caller)
    name = system if system is not None else explicit.get("system", RunConfig().system)
    # The defaults are merged too, so that a component's parameter can be set without repeating its name.
    base = merge(merge(RunConfig().model_dump(), _recipe(name, explicit if system is None else {})), of_own_set or of_set)
    everything = merge(merge(merge(base, from_file), in_current_form(where_read or {})), from_caller)
    config = validate_config({**everything, "system": name})
    refuse_unread_of_file(config, from_file)
    refuse_unread(config, from_caller)
    config = with_defaults_where_unread(config)
    check_components(config)
    if name in SYSTEMS:
        _check_is_system(config, validate_config(base))
    return _naming_its_plugins(config)


def _naming_its_plugins(config: RunConfig) -> RunConfig:
    """The configuration that names every module its components come from, those that an installed package announces included.

    Stored with a run or an export, it then says what another environment needs.
    """
    used = outside_modules(config.model.model_dump())
    added = sorted(module for module in used if not any(f"{module}.".startswith(f"{plugin}.") for plugin in config.plugins))
    return config.model_copy(update={"plugins": [*config.plugins, *added]}) if added else config


def _recipe(name: Any, explicit: Mapping[str, Any]) -> Mapping[str, Any]:
    """The named system's recipe; nothing for a description that brings an identifying component of its own."""
    if isinstance(name, str) and name in SYSTEMS:
        return SYSTEMS[name].recipe
    kinds = [settings_of_kind(kind) for kind in MODEL_KINDS.names()]
    described = explicit.get("model")
    if isinstance(described, Mapping) and any(kind.component(described) is not None for kind in kinds):
        return {}
    parts = " or ".join(f"model.{kind.identity_key}" for kind in kinds)
    raise ConfigError(
        f"system: unknown system {name!r}{nearest(str(name), SYSTEMS)}; available: {', '.join(SYSTEMS)}. A system of your own needs a "
        f"configuration that names its {parts}"
    )


def _check_is_system(config: RunConfig, recipe: RunConfig) -> None:
    """Refuse to call something else by a named system's name: it would keep that recipe's towers and be published as that system."""
    own_name = "give your own combination a name of its own: a line 'system: my_name' in the configuration file, or --set system=my_name"
    if config.model.kind != recipe.model.kind:
        raise ConfigError(f"model.kind: {config.model.kind!r}, but system {config.system!r} is of kind {recipe.model.kind!r}; {own_name}")
    kind = settings_of_kind(config.model.kind)
    given, expected = (kind.identity(described.model.model_dump()) for described in (config, recipe))
    if given != expected:
        raise ConfigError(f"model.{kind.identity_key}: {given!r}, but system {config.system!r} is made of {expected!r}; {own_name}")


# What has passed check_components: constructing every component takes a while, and the same description comes again and again.
_passed: set[str] = set()


def check_components(config: RunConfig) -> None:
    """Check every component's parameters and the combinations that the schema cannot express; raises ``ConfigError``."""
    kind = settings_of_kind(config.model.kind)
    described = repr((kind.name, *kind.checked(config)))  # JSON would have no word for nan
    if described not in _passed:
        with only_checked():
            kind.check(config)
        _passed.add(described)
    kind.check_monitor(config)

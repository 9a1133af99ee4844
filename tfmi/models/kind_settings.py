"""What a configuration has to know of the kinds of model: which settings each reads, and which values work together.

``KindSettings`` is the part of a kind of model that reading a configuration needs. The kinds themselves, with their data, training,
measures and exports, are ``tfmi.kinds``; they register there and are found from here by ``model.kind`` alone.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import yaml

from tfmi.config import ModelConfig, RunConfig, validate_config
from tfmi.config.effects import (
    Reasons,
    given_settings,
    is_complete,
    reason_for,
    unread_by_dataset,
    unread_of_index,
    unread_of_optimizer,
    value_at,
    without,
)
from tfmi.core.errors import ConfigError
from tfmi.core.registry import Registry


class KindSettings(ABC):
    """The settings of one kind of model.

    Attributes:
        name: The value of ``model.kind``.
        heading: What lists of systems call this kind.
        a_model: One such model, in messages: "a ranker".
        model_keys: What it reads of the section ``model``.
        identity_key: The component in ``model`` that a system of this kind is known by: with another, it is another system.
    """

    name: ClassVar[str]
    heading: ClassVar[str]
    a_model: ClassVar[str]
    model_keys: ClassVar[tuple[str, ...]]
    identity_key: ClassVar[str]

    def unread(self, config: RunConfig) -> Reasons:
        """What a run of this kind does not read, with the reason why not. Kinds add what is theirs."""
        read = {"kind", *self.model_keys}
        reasons = {f"model.{key}": self._belongs_elsewhere(key) for key in ModelConfig.model_fields if key not in read}
        if config.training.strategy not in (None, "none"):
            reasons["training.steps_per_execution"] = "replicas take one step at a time (training.strategy)"
        if config.training.strategy != "mirrored":
            reasons["training.replicas"] = "training.strategy is not mirrored, which alone has several replicas in one process"
        if not config.evaluation.report:
            reasons["evaluation.report_users"] = "evaluation.report is false, so that no report is written"
        return {**unread_by_dataset(config.data), **unread_of_optimizer(config.optimizer), **unread_of_index(config.index), **reasons}

    def _belongs_elsewhere(self, key: str) -> str:
        owners = [name for name in MODEL_KINDS.names() if key in MODEL_KINDS.get(name).model_keys]
        readable = ", ".join(f"model.{each}" for each in self.model_keys)
        return f"model.kind is {self.name!r}, which reads {readable}; model.{key} is for models of kind {' or '.join(owners)}"

    @abstractmethod
    def check(self, config: RunConfig) -> None:
        """Construct every component and check the combinations that the schema cannot express; raises ``ConfigError``."""

    def checked(self, config: RunConfig) -> tuple[Any, ...]:
        """What ``check`` depends on: what has passed is not constructed again."""
        return (config.model,)

    @abstractmethod
    def check_monitor(self, config: RunConfig) -> None:
        """Check that ``training.monitor`` is measured on the validation part; raises ``ConfigError``."""

    def component(self, model: Mapping[str, Any]) -> str | None:
        """The name of the component at ``identity_key`` of a described ``model``, None where there is none."""
        described = value_at(model, self.identity_key)
        return described.get("name") if isinstance(described, Mapping) else None

    def identity(self, model: Mapping[str, Any]) -> str | None:
        """What a described ``model`` of this kind is known by: its ``component``, if kinds do not say otherwise."""
        return self.component(model)


Kind = TypeVar("Kind", bound=type[KindSettings])

MODEL_KINDS: Registry[KindSettings] = Registry("kind of model", "tfmi.kinds")


def register_kind(kind: Kind) -> Kind:
    """Class decorator that makes a kind known by its ``name``."""
    MODEL_KINDS.register(kind.name)(kind)
    return kind


@functools.cache
def settings_of_kind(name: str) -> KindSettings:
    """The kind that ``model.kind`` names."""
    return MODEL_KINDS.get(name)()


def unread_settings(config: RunConfig) -> Reasons:
    """What has no effect in a run: dotted keys, or sections as a whole, each with its reason."""
    return settings_of_kind(config.model.kind).unread(config)


def reads(config: RunConfig, key: str) -> bool:
    """Whether the setting at ``key`` has an effect in a run."""
    return reason_for(key, unread_settings(config)) is None


def refuse_unread(config: RunConfig, given: Mapping[str, Any], *, lenient: bool = False) -> None:
    """Refuse settings that would be ignored.

    Args:
        config: The whole configuration.
        given: What somebody has set of it.
        lenient: Accept what is given as its default: a file that holds all defaults does not ask for them. To set nothing (null) where
            nothing is the default is always accepted: it takes back what a file gives.

    Raises:
        ConfigError: One line for each setting that nothing reads, with the reason.
    """
    reasons, defaults = unread_settings(config), RunConfig().model_dump()
    refused = []
    for key, value in given_settings(given):
        reason = reason_for(key, reasons)
        is_default = value == value_at(defaults, key)
        if reason is not None and not (is_default and (lenient or value is None)):
            refused.append(f"{key}: given, but {reason}; leave it out")
    if refused:
        raise ConfigError("\n".join(refused))


def refuse_unread_of_file(config: RunConfig, from_file: Mapping[str, Any]) -> None:
    """``refuse_unread`` for what a file holds: one that names every section may do so with defaults."""
    refuse_unread(config, from_file, lenient=is_complete(from_file))


def read_settings(config: RunConfig) -> dict[str, Any]:
    """What the run reads, as a nested mapping: what is stored of a configuration and compared."""
    return without(config.model_dump(), unread_settings(config))


def settings_yaml(config: RunConfig) -> str:
    """What the run reads, as YAML that ``load_config`` reads back to an equal configuration."""
    return yaml.safe_dump(read_settings(config), sort_keys=False, allow_unicode=True, width=120)


def with_defaults_where_unread(config: RunConfig) -> RunConfig:
    """The configuration in which whatever has no effect is at its default, so that two that mean the same are equal."""
    normalized = validate_config(read_settings(config))
    return config if normalized == config else normalized

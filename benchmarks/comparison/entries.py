"""What is compared: configuration files and named systems, and the variants with a single interest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tfmi.config import RunConfig
from tfmi.core.errors import ConfigError
from tfmi.layers.base import EXTRACTORS
from tfmi.models.kind_settings import reads
from tfmi.models.systems import load_config


@dataclass(frozen=True)
class Entry:
    """One row of the tables.

    Attributes:
        label: What the tables call it.
        file: Its configuration, or None for a named system.
        system: Its name in ``tfmi.models.systems``, or None for a configuration.
        final_settings: ``a.b=value`` settings that win over all others.
        base: The label of the entry that this one is a variant of; its own label if of none. A variant takes over the chosen settings.
    """

    label: str
    file: Path | None
    system: str | None
    final_settings: tuple[str, ...] = ()
    base: str = ""

    def __post_init__(self) -> None:
        if not self.base:
            object.__setattr__(self, "base", self.label)

    @classmethod
    def of_file(cls, file: Path) -> Entry:
        """A configuration file, called by its stem, and by its folder too unless that is ``configs``."""
        return cls(file.stem if file.parent.name == "configs" else f"{file.parent.name}/{file.stem}", file, None)

    @classmethod
    def of_system(cls, name: str) -> Entry:
        """A named system."""
        return cls(name, None, name)

    @property
    def folder_name(self) -> str:
        """The label as part of a path."""
        return self.label.replace("/", "-").replace(" ", "-").replace("=", "")

    def config(self, settings: Sequence[str], overrides: Mapping[str, Any], where_read: Mapping[str, Any] | None = None) -> RunConfig:
        """The resolved configuration.

        Args:
            settings: ``a.b=value`` settings, later ones stronger.
            overrides: Between the file and the settings, such as the data.
            where_read: For all entries alike, as far as each reads it, such as the seed.

        Raises:
            ConfigError: With the entry's label in front.
        """
        try:
            return load_config(self.file, self.system, [*settings, *self.final_settings], overrides, where_read)
        except ConfigError as error:
            raise ConfigError(f"{self.label}: {error}") from None


def check_distinct(entries: Sequence[Entry]) -> None:
    """Raise ``ConfigError`` if two entries would share their run folders."""
    names: dict[str, str] = {}
    for entry in entries:
        if entry.folder_name in names:
            raise ConfigError(f"--configs, --systems: {entry.label!r} and {names[entry.folder_name]!r} would share their run folders")
        names[entry.folder_name] = entry.label


def with_single_interest(entry: Entry, config: RunConfig) -> Entry | None:
    """The entry's variant with one interest, or None where ``config``, its configuration, has no more than that."""
    if not reads(config, "model.extractor"):
        return None
    extractor = config.model.extractor
    parameter = EXTRACTORS.get(extractor["name"]).INTERESTS_PARAMETER
    known = EXTRACTORS.parameters(extractor["name"])
    if parameter not in known or extractor.get(parameter, known[parameter].default) == 1:
        return None
    setting = f"model.extractor.{parameter}=1"
    return replace(entry, label=f"{entry.label} K=1", final_settings=(*entry.final_settings, setting))

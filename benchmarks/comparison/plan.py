"""Which runs a comparison consists of, and where they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.comparison.entries import Entry, check_distinct, with_single_interest
from benchmarks.comparison.jobs import Job
from benchmarks.comparison.summary import Notes
from benchmarks.comparison.tuning import AS_IT_IS, Space, Trial, plan_trials
from tfmi.config import RunConfig, parse_settings
from tfmi.config.effects import value_at
from tfmi.core.errors import ConfigError
from tfmi.models.kind_settings import reads
from tfmi.training.run_folder import RunFolder

# An entry with settings of its own and settings of all.
_Described = tuple[Entry, tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Comparison:
    """What is compared on what.

    Attributes:
        entries: In the tables' order.
        data: File or folder of each dataset, by a name of the user's choice.
        kind: What the data is (``data.dataset``).
        seeds: Of the reported runs. The trials of a search all have the first.
        settings: ``a.b=value`` settings for all runs; what a system does not read of them is left out of its own.
        trial_settings: Further ones for trials only, such as fewer epochs.
        output: The folder of everything.
        variant_seeds: How many of the seeds, the first ones, variants of other entries are run with; None: all.
    """

    entries: Sequence[Entry]
    data: Mapping[str, str | None]
    kind: str
    seeds: Sequence[int]
    settings: Sequence[str]
    trial_settings: Sequence[str]
    output: Path
    variant_seeds: int | None = None
    _resolved: dict[_Described, RunConfig] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_distinct(self.entries)

    def config(self, entry: Entry, dataset: str, seed: int, settings: Sequence[str] = (), for_all: Sequence[str] = ()) -> RunConfig:
        """An entry's configuration on a dataset under a seed; raises ``ConfigError`` if it cannot work.

        Args:
            entry: The entry.
            dataset: A name of ``data``.
            seed: Left out where nothing is drawn.
            settings: Further settings of this entry.
            for_all: Further settings of all entries, beside those of the comparison: each takes those that it reads.
        """
        key = (entry, tuple(settings), tuple(for_all))
        if key not in self._resolved:  # Checking a configuration constructs every component.
            overrides = {"data": {"dataset": self.kind, "path": next(iter(self.data.values()))}}
            self._resolved[key] = entry.config(settings, overrides, parse_settings([*self.settings, *for_all]))
        resolved = self._resolved[key]
        changes: dict[str, Any] = {"data": resolved.data.model_copy(update={"path": self.data[dataset]})}
        return resolved.model_copy(update={**changes, "seed": seed} if reads(resolved, "seed") else changes)

    def plain_config(self, entry: Entry) -> RunConfig:
        """An entry's configuration as it is, on the first dataset under the first seed."""
        return self.config(entry, next(iter(self.data)), self.seeds[0])

    def trials(self, entry: Entry, space: Space, count: int) -> list[Trial]:
        """What is tried for an entry; see ``plan_trials``."""
        plain = self.plain_config(entry)

        def resolve(settings: Sequence[str]) -> RunConfig:
            try:
                return self.config(entry, next(iter(self.data)), self.seeds[0], settings)
            except ConfigError as error:
                raise ConfigError(f"--space, {', '.join(settings)}: {error}") from None

        return plan_trials(space.of(entry, plain), count, resolve)

    def trial_job(self, entry: Entry, dataset: str, trial: Trial) -> Job:
        """The run of one trial: that of ``final_jobs`` where its configuration is the same."""
        final = self._final_job(entry, dataset, trial, self.seeds[0])
        config = self.config(entry, dataset, self.seeds[0], trial.settings, self.trial_settings)
        if config == final.config:
            return final
        folder = self._folder("tuning", entry, dataset, trial, self.seeds[0])
        return Job(f"{entry.label} (trial {trial.number})", dataset, config, folder, self.monitor(config))

    def final_jobs(self, entry: Entry, dataset: str, trial: Trial = AS_IT_IS) -> list[Job]:
        """The reported runs of an entry with a trial's settings: one for each seed, or the first only where every seed gives the same."""
        seeds = self.seeds if reads(self.plain_config(entry), "seed") else self.seeds[:1]
        if entry.base != entry.label:
            seeds = seeds[: self.variant_seeds]
        return [self._final_job(entry, dataset, trial, seed) for seed in seeds]

    def _final_job(self, entry: Entry, dataset: str, trial: Trial, seed: int) -> Job:
        config = self.config(entry, dataset, seed, trial.settings)
        return Job(entry.label, dataset, config, self._folder("", entry, dataset, trial, seed), self.monitor(config))

    def monitor(self, config: RunConfig) -> str:
        """The validation metric that a run is judged by: its own monitor; where nothing is monitored that of ``settings``, if they have
        one, or what the data would choose."""
        if reads(config, "training.monitor"):
            return config.training.monitor
        asked = value_at(parse_settings(self.settings), "training.monitor")
        return config.training.monitor if asked is None else str(asked)

    def _folder(self, purpose: str, entry: Entry, dataset: str, trial: Trial, seed: int) -> RunFolder:
        number = f"-trial-{trial.number}" if trial.number else ""
        return RunFolder(self.output / dataset / purpose / f"{entry.folder_name}{number}-{seed}")


def followed_by_variants(comparison: Comparison, notes: Notes) -> list[Entry]:
    """Each of the entries and, where it has several interests, its variant with one; notes where that cannot work."""
    entries: list[Entry] = []
    for entry in comparison.entries:
        entries.append(entry)
        variant = with_single_interest(entry, comparison.plain_config(entry))
        if variant is None:
            continue
        try:
            comparison.plain_config(variant)
        except ConfigError as error:
            notes.add(f"no variant with one interest: {error}")
        else:
            entries.append(variant)
    check_distinct(entries)
    return entries

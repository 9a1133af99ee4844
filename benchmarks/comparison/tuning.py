"""Hyper-parameters by random search on validation, with the same number of trials for every system.

A space is a YAML file: settings with the values to try, and further ones of single systems, which win over the common ones::

    optimizer.learning_rate: [5.0e-4, 1.0e-3, 2.0e-3]
    model.history_dropout: [0.2, 0.5]
    systems:
      youtube_dnn: {model.extractor.recency_decay: [0.8, 0.9, 1.0]}
      comirec_sa: {model.history_dropout: []}          # [] takes a common setting away
      item_knn: {model.heuristic.decay: [0.7, 0.8, 0.9]}

A system takes the common settings that it reads: those of training do nothing to heuristic systems.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.comparison.entries import Entry
from benchmarks.comparison.jobs import Job
from tfmi.config import RunConfig, read_config_file
from tfmi.core.errors import ConfigError, nearest
from tfmi.evaluation.metrics import LOWER_IS_BETTER
from tfmi.models.kind_settings import reads
from tfmi.models.systems import SYSTEMS

Choices = dict[str, list[Any]]

SAMPLING_SEED = 0  # the same draws at every call, of which more trials are a continuation


@dataclass(frozen=True)
class Space:
    """What to try.

    Attributes:
        common: Values by setting, for every system that reads it.
        systems: The same of single systems, by label or system name.
    """

    common: Choices = field(default_factory=dict)
    systems: Mapping[str, Choices] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, entries: Sequence[Entry]) -> Space:
        """Read a space file; raises ``ConfigError`` if it is not what the module describes or names a system that nobody knows."""
        values = read_config_file(path)
        systems = values.pop("systems", {})
        if not isinstance(systems, dict):
            raise ConfigError(f"{path}: systems: expected 'name: {{setting: [values]}}', got {systems!r}")
        known = {entry.label for entry in entries} | SYSTEMS.keys()
        for name in systems:
            if name not in known:
                raise ConfigError(f"{path}: systems.{name}: no such system is compared{nearest(name, known)}")
        return cls(
            _choices(values, str(path), may_be_empty=False),
            {name: _choices(choices, f"{path}: systems.{name}", may_be_empty=True) for name, choices in systems.items()},
        )

    def of(self, entry: Entry, config: RunConfig) -> Choices:
        """The values to try for an entry, whose configuration as it is is ``config``."""
        common = {setting: values for setting, values in self.common.items() if reads(config, setting)}
        own = self.systems.get(entry.label, self.systems.get(config.system, {}))
        return {setting: values for setting, values in {**common, **own}.items() if values}


@dataclass(frozen=True)
class Trial:
    """One try: ``settings`` are ``a.b=value`` strings; number 0 has none, it is the recipe as it is."""

    number: int
    settings: tuple[str, ...] = ()


AS_IT_IS = Trial(0)


def plan_trials(choices: Choices, count: int, resolve: Callable[[Sequence[str]], RunConfig]) -> list[Trial]:
    """Draw ``count`` trials, the first of which is the recipe as it is.

    Fewer if the space has fewer combinations. All configurations are different, and a larger ``count`` continues a smaller one.

    Args:
        choices: The values to try by setting.
        count: The budget.
        resolve: From settings to a configuration.

    Raises:
        ConfigError: A combination cannot work.
    """
    trials = [AS_IT_IS]
    seen = {resolve(()).model_dump_json()}
    for settings in _combinations(choices):
        if len(trials) == count:
            break
        described = resolve(settings).model_dump_json()
        if described not in seen:
            seen.add(described)
            trials.append(Trial(len(trials), settings))
    return trials


def validation_value(job: Job) -> float | None:
    """What the trials are judged by: the validation value of the job's monitor; None if the run has failed."""
    return float(job.metrics()["valid"][job.watched]) if job.finished else None


def is_loss(job: Job) -> bool:
    """Whether less of the job's monitor is better."""
    return job.watched in LOWER_IS_BETTER


def choose(values: Mapping[str, Mapping[int, float | None]], less_is_better: bool = False) -> int | None:
    """The number of the best trial, the lowest one among equals; None if none has succeeded everywhere.

    Args:
        values: Values by trial number, by dataset. With several datasets the best has the largest mean of its shares of each dataset's
            largest value, so that no dataset outweighs the others.
        less_is_better: The best has the smallest mean instead.
    """
    numbers = sorted(set.intersection(*({n for n, value in each.items() if value is not None} for each in values.values())))
    if not numbers:
        return None
    largest = {dataset: max(each[n] or 0.0 for n in numbers) for dataset, each in values.items()}

    def share(number: int) -> float:
        return sum((each[number] or 0.0) / (largest[dataset] or 1.0) for dataset, each in values.items())

    return max(numbers, key=lambda number: (-share(number) if less_is_better else share(number), -number))


def _combinations(choices: Choices) -> Iterator[tuple[str, ...]]:
    """Every combination once, in a random order that depends on the choices only."""
    if not choices:
        return
    total = math.prod(len(values) for values in choices.values())
    draws = random.Random(SAMPLING_SEED)
    drawn: set[int] = set()
    while len(drawn) < total:
        number = draws.randrange(total)
        if number in drawn:
            continue
        drawn.add(number)
        settings = []
        for setting, values in choices.items():
            number, position = divmod(number, len(values))
            settings.append(f"{setting}={json.dumps(values[position])}")
        yield tuple(settings)


def _choices(values: Any, where: str, *, may_be_empty: bool) -> Choices:
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected 'setting: [values]', got {values!r}")
    for setting, tried in values.items():
        if not isinstance(tried, list) or not (tried or may_be_empty):
            raise ConfigError(f"{where}: {setting}: expected a list of values to try, got {tried!r}")
    return values

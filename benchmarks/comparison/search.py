"""Hyper-parameters by search (Optuna's TPE), with the same number of tries for every system: what ``compare_systems.py --tune`` does.

A space file gives ranges by kind of system and by system (``spaces.yaml`` beside this file is the default one)::

    kinds:
      prefixes: {optimizer.learning_rate: {low: 1.0e-3, high: 2.0e-2, log: true}}
      counts: {model.heuristic.decay: {low: 0.3, high: 1.0}}
    systems:
      mind: {model.extractor.num_interests: {low: 2, high: 8}, model.temperature: []}    # [] takes a setting away

A range of whole numbers is searched in whole numbers; a list holds values to choose from. Every system's first try is its configuration as
it is. What a try reaches is the best validation value of its run, and a run that is worse than the median of those before it, at the same
validation, ends there. All tries of one system on one dataset run in one process, one after the other: TensorFlow starts once. They are
kept in a journal file, from which a search that was stopped goes on.

    python benchmarks/comparison/search.py SEARCH.json       # what one such process does; compare_systems.py writes the file
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import tensorflow as tf

from benchmarks.comparison.entries import Entry
from benchmarks.comparison.jobs import ROOT, Task, run_tasks
from benchmarks.comparison.plan import Comparison
from benchmarks.comparison.stages import Tuning
from benchmarks.comparison.tuning import AS_IT_IS, SAMPLING_SEED, Trial
from tfmi.cli.program import run_program
from tfmi.config import RunConfig, read_config_file
from tfmi.core.errors import ConfigError, TfmiError, nearest
from tfmi.core.files import write_atomically, write_json
from tfmi.core.registry import Registry
from tfmi.evaluation.metrics import LOWER_IS_BETTER
from tfmi.kinds.base import kind_of
from tfmi.kinds.runner import run
from tfmi.layers.base import EXTRACTORS, READOUTS
from tfmi.layers.sequence_encoders.sequence_encoder import ENCODERS
from tfmi.losses.base import OBJECTIVES
from tfmi.models.heuristics.heuristic import HEURISTICS
from tfmi.models.kind_settings import reads, settings_yaml
from tfmi.models.systems import SYSTEMS, load_config
from tfmi.training.monitors import AUTO
from tfmi.training.run_folder import RunFolder

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

DEFAULT_SPACE = Path(__file__).with_name("spaces.yaml")
KINDS = ("prefixes", "sequences", "counts")
# Of the runs whose median others are held against, so many come first; and so many validations of each run.
_RUNS_BEFORE_PRUNING = 4
_VALIDATIONS_BEFORE_PRUNING = 2
_COMPONENTS: Mapping[str, Registry[Any]] = {
    "extractor": EXTRACTORS,
    "readout": READOUTS,
    "objective": OBJECTIVES,
    "heuristic": HEURISTICS,
}


@dataclass(frozen=True)
class Range:
    """What one setting may be: numbers from ``low`` to ``high``, evenly or by their logarithm, or one of ``choices``."""

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Any, ...] = ()

    @classmethod
    def read(cls, given: Any, where: str) -> Range:
        """From a space file's value; raises ``ConfigError`` if it is no range."""
        if isinstance(given, list) and given:
            return cls(choices=tuple(given))
        expected = "a list of values, or {low: number, high: number, log: true or false}"
        if not isinstance(given, dict) or not {"low", "high"} <= given.keys() <= {"low", "high", "log"}:
            raise ConfigError(f"{where}: expected {expected}, got {given!r}")
        low, high, by_logarithm = given["low"], given["high"], given.get("log", False)
        if not (_is_number(low) and _is_number(high) and isinstance(by_logarithm, bool)):
            raise ConfigError(f"{where}: expected {expected}, got {given!r}")
        if not low < high or (by_logarithm and low <= 0):
            raise ConfigError(f"{where}: expected low below high{', above 0 for a logarithm' if by_logarithm else ''}, got {given!r}")
        return cls(low, high, by_logarithm)

    def suggest(self, trial: optuna.Trial, setting: str) -> Any:
        """A value for a try."""
        if self.choices:
            return json.loads(trial.suggest_categorical(setting, [json.dumps(value) for value in self.choices]))
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(setting, self.low, self.high, log=self.log)
        return trial.suggest_float(setting, self.low, self.high, log=self.log)


def read_ranges(path: Path, entries: Sequence[Entry]) -> dict[str, dict[str, dict[str, Range | None]]]:
    """A space file: ranges by setting, by kind under ``kinds`` and by system under ``systems``; None takes one away.

    Raises:
        ConfigError: The file is not what the module describes, or names a kind or a system that nobody knows.
    """
    values = read_config_file(path)
    known = {"kinds": set(KINDS), "systems": {entry.label for entry in entries} | SYSTEMS.keys()}
    found: dict[str, dict[str, dict[str, Range | None]]] = {}
    for part, given in values.items():
        if part not in known or not isinstance(given, dict):
            raise ConfigError(f"{path}: {part}: expected the parts 'kinds' and 'systems', each 'name: {{setting: range}}'")
        for name, ranges in given.items():
            where = f"{path}: {part}.{name}"
            if name not in known[part]:
                raise ConfigError(f"{where}: no such {part.removesuffix('s')}{nearest(name, known[part])}")
            if not isinstance(ranges, dict):
                raise ConfigError(f"{where}: expected 'setting: range', got {ranges!r}")
            found.setdefault(part, {})[name] = {
                setting: None if each == [] else Range.read(each, f"{where}: {setting}") for setting, each in ranges.items()
            }
    return found


def kind_in_spaces(config: RunConfig) -> str:
    """How a system learns, by its configuration: one of ``KINDS``."""
    if config.model.kind == "heuristic":
        return "counts"
    return "sequences" if config.model.kind == "interests" and config.data.examples == "sequences" else "prefixes"


def ranges_of(spaces: Mapping[str, Mapping[str, Mapping[str, Range | None]]], entry: Entry, config: RunConfig) -> dict[str, Range]:
    """What is searched for an entry, whose configuration as it is is ``config``: settings that it reads, of parameters that it has."""
    of_kind = spaces.get("kinds", {}).get(kind_in_spaces(config), {})
    systems = spaces.get("systems", {})
    own = systems.get(entry.label, systems.get(config.system, {}))
    fitting = {setting: each for setting, each in of_kind.items() if reads(config, setting) and _has(config, setting)}
    return {setting: each for setting, each in {**fitting, **own}.items() if each is not None}


@dataclass(frozen=True)
class Search:
    """All tries of one system on one dataset.

    Attributes:
        name: The study's.
        described: The configuration as it is, as YAML.
        ranges: By setting.
        trial_settings: Further settings of every try, such as fewer epochs.
        count: Tries in all.
        monitor: The validation metric that they are judged by.
        folder: Where the run folders and the journal are.
    """

    name: str
    described: str
    ranges: dict[str, Range]
    trial_settings: tuple[str, ...]
    count: int
    monitor: str
    folder: Path

    def write(self) -> Path:
        """Write it to a file for ``read``."""
        return write_json(self.folder / "search.json", {**asdict(self), "folder": str(self.folder)})

    @classmethod
    def read(cls, path: Path) -> Search:
        """What ``write`` has written."""
        values = json.loads(path.read_text(encoding="utf-8"))
        ranges = {setting: Range(**{**each, "choices": tuple(each["choices"])}) for setting, each in values.pop("ranges").items()}
        settings, folder = tuple(values.pop("trial_settings")), Path(values.pop("folder"))
        return cls(ranges=ranges, trial_settings=settings, folder=folder, **values)

    @property
    def less_is_better(self) -> bool:
        """Whether a lower value of the monitor is better."""
        return self.monitor in LOWER_IS_BETTER

    @property
    def identity(self) -> str:
        """What has to be the same for an earlier search to be continued: all but the number of tries."""
        ranges = {setting: asdict(each) for setting, each in self.ranges.items()}
        return json.dumps([self.described, ranges, self.trial_settings, self.monitor])

    def open_study(self) -> optuna.Study:
        """The study in the journal, which is begun if there is none.

        Raises:
            ConfigError: Optuna is not installed, or an earlier search of other ranges or another configuration is there.
        """
        require_optuna()
        import optuna
        from optuna.storages.journal import JournalFileBackend

        self.folder.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            study_name=self.name,
            storage=optuna.storages.JournalStorage(JournalFileBackend(str(self.folder / "study.journal"))),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_RUNS_BEFORE_PRUNING, n_warmup_steps=_VALIDATIONS_BEFORE_PRUNING),
            direction="minimize" if self.less_is_better else "maximize",
            load_if_exists=True,
        )
        # A sampler does not know what another process has drawn: with the same seed it would draw the same again.
        study.sampler = optuna.samplers.TPESampler(
            seed=SAMPLING_SEED + len(study.get_trials(deepcopy=False)), n_startup_trials=_RUNS_BEFORE_PRUNING
        )
        earlier = study.user_attrs.get("identity")
        if earlier is None:
            study.set_user_attr("identity", self.identity)
        elif earlier != self.identity:
            raise ConfigError(
                f"{self.folder}: an earlier search is here, of another configuration or other ranges. Remove the folder, or choose another "
                "one with --output"
            )
        return study

    def resolve(self, settings: Sequence[str]) -> RunConfig:
        """The configuration of a try."""
        base = self.folder / "base.yaml"
        if not base.exists():
            write_atomically(base, self.described)
        return load_config(base, None, [*self.trial_settings, *settings])


class _Reporting(tf.keras.callbacks.Callback):
    """Tells a study how a run goes, and ends it where it is worse than the median of those before it."""

    def __init__(self, trial: optuna.Trial, monitor: str) -> None:
        super().__init__()
        self._trial, self._monitor = trial, monitor

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        import optuna

        value = (logs or {}).get(f"val_{self._monitor}")
        if value is None:
            return
        self._trial.report(value, epoch)
        if self._trial.should_prune():
            raise optuna.TrialPruned


def run_search(search: Search) -> None:
    """Make the tries that are not made yet."""
    study = search.open_study()

    def objective(trial: optuna.Trial) -> float:
        first = not any(other.number < trial.number for other in _ended(study))
        settings = [] if first else [f"{name}={json.dumps(each.suggest(trial, name))}" for name, each in search.ranges.items()]
        trial.set_user_attr("settings", settings)
        folder = RunFolder(search.folder / f"trial-{trial.number}")
        config = search.resolve(settings)
        folder.start(config)
        trained = kind_of(config).model_keys != ("heuristic",)
        result = run(config, folder, None, callbacks=[_Reporting(trial, search.monitor)] if trained else ())
        if result.metrics is None:
            raise KeyboardInterrupt
        trial.set_user_attr("seconds", result.metrics["train"].get("seconds"))
        return float(result.metrics["valid"][search.monitor])

    while (left := search.count - len(_ended(study))) > 0:
        study.optimize(objective, n_trials=1, catch=(TfmiError,))
        log.info("%s: %s of %s tries made", search.name, search.count - left + 1, search.count)


def _ended(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Tries that have come to an end, whatever end; one that was interrupted is no try."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]


def tune_by_search(comparison: Comparison, space: Path, datasets: Sequence[str], count: int, parallel: int) -> Tuning:
    """Search for every entry on every dataset of ``datasets``, and choose on validation.

    Args:
        comparison: What is compared.
        space: A space file.
        datasets: Where to search. Each of them gets what is best on it; the others what is best on the only one.
        count: Tries of every entry on each.
        parallel: Processes at a time.

    Raises:
        ConfigError: The space is wrong, Optuna is not installed, or an earlier search of something else is in the output folder.
    """
    require_optuna()
    others = [dataset for dataset in comparison.data if dataset not in datasets]
    if others and len(datasets) > 1:
        raise ConfigError(
            f"--tune-on: {', '.join(others)} would take what is best elsewhere, so give one dataset to search on, not several"
        )
    spaces = read_ranges(space, comparison.entries)
    searches = {
        (dataset, entry.label): _search(comparison, spaces, entry, dataset, count) for dataset in datasets for entry in comparison.entries
    }
    tasks = []
    for search in searches.values():
        if len(_ended(search.open_study())) < search.count:
            file = search.write()
            tasks.append(
                Task(
                    search.name,
                    (sys.executable, str(ROOT / "benchmarks" / "comparison" / "search.py"), str(file)),
                    file.with_suffix(".log"),
                )
            )
    tuning = Tuning(_budget(comparison, datasets, others, list(searches.values()), space))
    tuning.failures = run_tasks(tasks, parallel, "searching") if tasks else []
    best: dict[tuple[str, str], Trial | None] = {}
    for (dataset, label), search in searches.items():
        rows, best[dataset, label] = _outcome(search, dataset, label)
        tuning.trials += rows
    for dataset in comparison.data:
        searched = dataset if dataset in datasets else datasets[0]
        tuning.chosen[dataset] = {entry.label: best[searched, entry.label] for entry in comparison.entries}
    return tuning


def _search(
    comparison: Comparison, spaces: Mapping[str, Mapping[str, Mapping[str, Range | None]]], entry: Entry, dataset: str, count: int
) -> Search:
    plain = comparison.config(entry, dataset, comparison.seeds[0])
    ranges = ranges_of(spaces, entry, plain)
    monitor = comparison.monitor(plain)
    if monitor == AUTO:  # one metric for all of a search, whatever each run would turn to
        monitor = f"recall@{max(plain.evaluation.cutoffs)}" if kind_of(plain).is_retriever else "auc"
    watched = (f"training.monitor={monitor}",) if reads(plain, "training.monitor") else ()
    for setting, each in ranges.items():
        value = each.choices[0] if each.choices else each.low
        try:
            comparison.config(entry, dataset, comparison.seeds[0], [f"{setting}={json.dumps(value)}"])
        except ConfigError as error:
            raise ConfigError(f"--space, {setting} of {entry.label}: {error}") from None
    return Search(
        f"{entry.label} on {dataset}",
        settings_yaml(plain),
        ranges,
        (*(setting for setting in comparison.trial_settings if reads(plain, setting.partition("=")[0])), *watched),
        count if ranges else 1,
        monitor,
        comparison.output / dataset / "search" / entry.folder_name,
    )


def _outcome(search: Search, dataset: str, label: str) -> tuple[list[dict[str, Any]], Trial | None]:
    """One row per try, for the table, and the best one; None where none has come to a value."""
    import optuna

    ended = _ended(search.open_study())
    complete = [trial for trial in ended if trial.state == optuna.trial.TrialState.COMPLETE]
    values = {trial.number: float(trial.value) for trial in complete if trial.value is not None}
    sign = -1.0 if search.less_is_better else 1.0
    chosen = max(values, key=lambda number: (sign * values[number], -number), default=None)
    rows, best = [], None
    for place, trial in enumerate(ended):
        settings = tuple(trial.user_attrs.get("settings", ()))
        row = {"dataset": dataset, "config": label, "trial": place, "settings": list(settings), "monitor": search.monitor}
        row |= {"value": values.get(trial.number), "seconds": trial.user_attrs.get("seconds")}
        row |= {"ended_early": trial.state == optuna.trial.TrialState.PRUNED}
        rows.append(row | {"folder": str(search.folder / f"trial-{trial.number}"), "chosen": trial.number == chosen})
        if trial.number == chosen:
            best = Trial(place, settings) if settings else AS_IT_IS
    return rows, best


def _budget(comparison: Comparison, datasets: Sequence[str], others: Sequence[str], searches: Sequence[Search], space: Path) -> str:
    monitors = sorted({search.monitor for search in searches})
    count = max(search.count for search in searches)
    sentences = [
        f"Tuning: {count} tries for every configuration on {' and on '.join(datasets)}, the configuration as it is among them, by Optuna's "
        f"TPE over the ranges of {space.name}, runs below the median of earlier ones ended early; seed {comparison.seeds[0]}; chosen by "
        f"validation {', '.join(monitors)}."
    ]
    if comparison.trial_settings:
        sentences.append(f"In tries: {', '.join(comparison.trial_settings)}.")
    if others:
        sentences.append(f"{' and '.join(others)}: what is best on {datasets[0]}.")
    return " ".join(sentences)


def require_optuna() -> None:
    """Raise ``ConfigError`` where Optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError("--tune searches with Optuna, which is not installed: pip install -r requirements-tune.lock (extra: tfmi[tune])")


def _has(config: RunConfig, setting: str) -> bool:
    """Whether the component that a setting is of, if it is of one, has such a parameter."""
    section, role, *names = setting.split(".")
    if section != "model" or role not in _COMPONENTS or not names:
        return True
    component, registry = getattr(config.model, role), _COMPONENTS[role]
    if component is None or names[0] not in registry.parameters(component["name"]):
        return False
    if names[0] != "encoder" or len(names) == 1:
        return True
    encoder = component.get("encoder")
    return encoder is not None and names[1] in ENCODERS.parameters(encoder["name"])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def main(arguments: Sequence[str] | None = None) -> int:
    """One process's part of a search; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("search", type=Path, help="a file that compare_systems.py has written")
    options = parser.parse_args(arguments)

    def work() -> int:
        run_search(Search.read(options.search))
        return 0

    return run_program(work)


if __name__ == "__main__":
    sys.exit(main())

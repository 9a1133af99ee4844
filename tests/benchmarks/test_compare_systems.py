"""Systems are compared on equal terms: the same tries for all, chosen on validation; nothing is run twice, and no failure hides."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from benchmarks import diversity_sweep
from benchmarks.compare_systems import main
from benchmarks.comparison import entries, jobs, latency
from benchmarks.comparison.entries import Entry, with_single_interest
from benchmarks.comparison.jobs import Task
from benchmarks.comparison.summary import _others, mean_and_deviation
from benchmarks.comparison.tuning import Trial, choose, plan_trials
from tfmi.cli import train as cli
from tfmi.config import RunConfig, read_config_file, validate_config
from tfmi.core.errors import ConfigError
from tfmi.core.files import write_atomically, write_json
from tfmi.layers.base import EXTRACTORS
from tfmi.models.kind_settings import settings_yaml
from tfmi.models.systems import SYSTEMS, load_config
from tfmi.training.run_folder import RunFolder, differing_keys

METRICS = ["--metrics", "recall@20", "hr@20"]
SMALL = ["--set", "evaluation.cutoffs=[20]", "--set", "training.monitor=recall@20"]

Result = dict[str, Any]


def counted(text: str, folder: Path, name: str = "counted") -> Path:
    return write_atomically(folder / "configs" / f"{name}.yaml", text)


# The programs are replaced by what they would write: these tests are about what is run, not about how well it learns.


@dataclass
class Programs:
    """Stands in for train.py and its siblings.

    Attributes:
        quality: From a run's configuration to its recall on (validation, test).
        ran: The names of the tasks, in the order in which they ran.
        broken: Tasks with such a word in their name fail.
    """

    quality: Callable[[RunConfig], tuple[float, float]] = lambda config: (0.2, 0.1)
    ran: list[str] = field(default_factory=list)
    broken: str | None = None

    def run(self, task: Task, environment: Mapping[str, str]) -> int:
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with task.log.open("a") as log:
            log.write(f"{jobs.ATTEMPT}{task.name}\n")
            if self.broken is not None and self.broken in task.name:
                log.write("error: the disk is full\n")
                return 1
        self.ran.append(task.name)
        program, arguments = Path(task.command[1]).name, list(task.command[2:])
        {"train.py": self._train, "latency.py": self._latency, "diversity_sweep.py": self._sweep}[program](arguments)
        return 0

    def _train(self, arguments: list[str]) -> None:
        folder = RunFolder(_after("--output", arguments))
        if "--savedmodels" in arguments:
            config = folder.stored_config()
            version = Path(_after("--savedmodels", arguments)) / config.system / "1"
            write_json(version / "assets.extra" / "tfmi_metadata.json", {"format": 2, "configuration": settings_yaml(config)})
            return
        config = validate_config(read_config_file(_after("--config", arguments)))
        folder.start(config)
        valid, test = self.quality(config)
        figures = {"hr@20": 0.5, "coverage@20": 0.3, "diversity@20": 0.4}
        metrics = {
            "test": {"recall@20": test, **figures},
            "valid": {"recall@20": valid, **figures},
            "test_slices": {"history:1-4": {"users": 7, "recall@20": test / 2, "coverage@20": 0.1}},
            "train": {"seconds": 2.0, "examples_per_second": 1000.0, "parameters": 12},
        }
        if config.model.kind == "interests":
            metrics["interests"] = {"users": 7, "attention_entropy": 0.5, "cosine": 0.1, "recommendation_share": [0.5, 0.5]}
            write_json(
                folder.curves, [{"step": 1, "seconds": 1.0, "recall@20": valid / 2}, {"step": 2, "seconds": 2.0, "recall@20": valid}]
            )
        write_json(folder.metrics, metrics)

    def _latency(self, arguments: list[str]) -> None:
        folders = [argument for argument in arguments if Path(argument).name == "1"]
        times = {f: {size: {"p50_ms": len(folders) - n, "p95_ms": 9.0} for size in ("1", "8")} for n, f in enumerate(folders)}
        write_json(_after("--output", arguments), {"repeats": int(_after("--repeats", arguments)), "milliseconds": times})

    def _sweep(self, arguments: list[str]) -> None:
        rows = [{"lambda": each, "test": {"recall@20": 0.1 - each, "diversity@20": 0.4 + each}} for each in (0.0, 0.05)]
        found: dict[str, Any] = {
            "num_results": 20,
            "max_loss": 0.05,
            "best_lambda": 0.05,
            "test_loss": 0.04,
            "test_gain": 0.6,
            "rows": rows,
        }
        found["lambdas_by_scale"] = "--lambdas" not in arguments
        write_json(Path(arguments[0]) / "diversity" / "sweep.json", found)


def _after(flag: str, arguments: list[str]) -> str:
    return arguments[arguments.index(flag) + 1]


@functools.cache
def _resolved(arguments: str) -> RunConfig:
    return load_config(*json.loads(arguments))


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    programs = Programs()

    def resolve(file: Path | None, *rest: Any) -> RunConfig:
        # Checking a configuration constructs every component; the tests ask for the same ones again and again.
        return _resolved(json.dumps([file and str(file), *rest]))

    monkeypatch.setattr(entries, "load_config", resolve)
    monkeypatch.setattr(jobs, "run_logged", programs.run)
    return programs


@dataclass
class Comparing:
    """Calls the program with an output folder of its own."""

    output: Path
    capsys: pytest.CaptureFixture[str]
    errors: str = ""

    def __call__(self, *arguments: str, code: int = 0, plots: bool = False) -> Result:
        added = [] if "--data" in arguments else ["--data", "toys=somewhere"]
        added += [] if plots else ["--no-plots"]
        assert main([*arguments, *added, *METRICS, *SMALL, "--output", str(self.output), "--jobs", "1"]) == code
        captured = self.capsys.readouterr()
        self.errors = captured.err
        return json.loads(captured.out.splitlines()[-1]) if captured.out else {}

    @property
    def table(self) -> str:
        return (self.output / "table.md").read_text()

    @property
    def written(self) -> Result:
        return json.loads((self.output / "results.json").read_text())


@pytest.fixture
def compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Comparing:
    return Comparing(tmp_path / "compare", capsys)


@pytest.fixture
def space(tmp_path: Path) -> list[str]:
    file = write_atomically(
        tmp_path / "space.yaml",
        "optimizer.learning_rate: [1.0e-3, 2.0e-3, 4.0e-3]\nsystems:\n  item_knn: {model.heuristic.decay: [0.7, 0.8, 0.9]}\n",
    )
    return ["--space", str(file)]


def by_rate(config: RunConfig) -> tuple[float, float]:
    """Validation prefers a rate of 4e-3 (toys) or 1e-3 (others), the test part the opposite."""
    rate = config.optimizer.learning_rate
    best = 4e-3 if config.data.path == "somewhere" else 1e-3
    return 0.5 - abs(rate - best), abs(rate - best)


def labels(result: Result) -> list[str]:
    return [row["config"] for row in result["results"]]


# Tables


def test_means_deviations_and_the_order_of_the_command_line(compare: Comparing, programs: Programs, tmp_path: Path) -> None:
    programs.quality = lambda config: (0.2, 0.1 * config.seed)
    file = counted("system: youtube_dnn\n", tmp_path, "averaged")
    result = compare("--systems", "mind", "--configs", str(file), "--systems", "popularity")
    assert labels(result) == ["mind", "averaged", "popularity"]
    mind, _, popularity = result["results"]
    assert mind["mean"]["recall@20"] == pytest.approx(0.2)
    assert mind["deviation"]["recall@20"] == pytest.approx(0.1)
    assert (mind["seeds"], popularity["seeds"], result["runs"]) == (3, 1, 7)  # counting gives the same under every seed
    assert "| mind | 3 | 0.2000 ± 0.1000 | 0.5000 ± 0.0000 | 12 | 1,000 | 2 |" in compare.table
    assert "| popularity | 1 | 0.1000 | 0.5000 |" in compare.table
    assert compare.written["results"] == json.loads(json.dumps(result["results"]))
    assert "No tuning" in compare.table


def test_slices_have_a_table_with_coverage(compare: Comparing, programs: Programs) -> None:
    compare("--systems", "mind", "--seeds", "1")
    assert "| configuration | all: recall@20 | history:1-4 (7) | coverage@20 |" in compare.table
    assert "| mind | 0.1000 | 0.0500 | 0.3000 |" in compare.table


def test_what_is_missing_is_said_once(compare: Comparing, programs: Programs) -> None:
    compare("--systems", "mind", "comirec_sa", "--seeds", "1", plots=True)
    assert compare.table.count("routing heat maps left out for mind on toys, comirec_sa on toys: their runs have none") == 1


def test_a_metric_that_no_run_has_leaves_gaps(compare: Comparing, programs: Programs) -> None:
    compare("--systems", "popularity", "--main-metric", "recal@20", plots=True)
    assert "recal@20 left out for popularity on toys: their runs have none" in compare.table
    assert "| popularity | – | – | 0.3000 |" in compare.table


def test_figures_that_not_every_run_has_are_left_out() -> None:
    mean, deviation = mean_and_deviation([{"a": 1, "b": 2.0, "c": [1, 2]}, {"a": 3.0, "b": float("nan"), "c": [3, 4]}])
    assert mean == {"a": 2.0}
    assert deviation["a"] == pytest.approx(2**0.5)


def test_figures_of_further_parts_are_found_by_their_place() -> None:
    runs = [{"test": {"auc": 0.5}, "test_tags": {"liked": {"ndcg@5": value}}, "truth": {"auc": 0.6}, "valid": {}} for value in (0.1, 0.3)]
    others = _others(runs, "test")
    assert others["mean"] == pytest.approx({"test_tags/liked/ndcg@5": 0.2, "truth/auc": 0.6})
    assert others["deviation"]["test_tags/liked/ndcg@5"] == pytest.approx(0.02**0.5)


def test_metrics_without_a_cutoff_are_for_models_that_have_them(compare: Comparing, programs: Programs) -> None:
    arguments = [
        "--data",
        "shop=-",
        "--dataset",
        "embedded",
        "--seeds",
        "1",
        "--metrics",
        "auc",
        "--no-plots",
        "--output",
        str(compare.output),
    ]
    assert main(["--systems", "popularity", *arguments]) == 1
    assert "popularity: auc is asked for" in compare.capsys.readouterr().err
    assert not programs.ran
    assert main(["--systems", "deepfm", *arguments, "--set", "training.monitor=log_loss"]) == 0
    assert len(programs.ran) == 1


def test_the_best_of_a_loss_is_the_smallest() -> None:
    assert choose({"data": {0: 0.5, 1: 0.4, 2: None}}, less_is_better=True) == 1
    assert choose({"data": {0: 0.5, 1: 0.4, 2: None}}) == 0


def test_plots_are_drawn(compare: Comparing, programs: Programs) -> None:
    compare("--systems", "mind", "popularity", "--seeds", "1", "2", plots=True)
    plots = compare.output / "toys" / "plots"
    assert {file.name for file in plots.iterdir()} == {"metrics.png", "training_time.png", "interests.png"}
    shutil.rmtree(plots)
    compare("--systems", "mind", "popularity", "--seeds", "1", "2")
    assert not plots.exists()


def test_a_metric_that_is_not_measured_is_refused_before_anything_runs(compare: Comparing, programs: Programs) -> None:
    compare("--systems", "mind", "--main-metric", "recall@50", code=1)
    assert "mind: recall@50 is asked for, but evaluation.cutoffs are [20]" in compare.errors
    assert not programs.ran


# Tuning


def test_validation_chooses_and_every_seed_runs_what_it_chose(compare: Comparing, programs: Programs, space: list[str]) -> None:
    programs.quality = by_rate
    result = compare("--systems", "mind", "youtube_dnn", "--trials", "3", *space)
    for row in result["results"]:
        assert row["settings"] == ["optimizer.learning_rate=0.004"]
        for run in row["runs"]:
            config = RunFolder(run["folder"]).stored_config()
            assert (config.optimizer.learning_rate, config.seed) == (4e-3, run["seed"])
    trials = json.loads((compare.output / "tuning.json").read_text())["trials"]
    assert [(t["config"], t["trial"]) for t in trials] == [(s, n) for s in ("mind", "youtube_dnn") for n in range(3)]
    assert [t["value"] for t in trials if t["chosen"]] == [0.5, 0.5]
    assert "at most 3 trials for every configuration on toys" in compare.table
    assert "- mind on toys: optimizer.learning_rate=0.004" in compare.table


def test_a_trial_that_is_a_final_run_is_not_run_again(compare: Comparing, programs: Programs, space: list[str]) -> None:
    programs.quality = by_rate
    compare("--systems", "mind", "--trials", "3", "--seeds", "1", "2", *space)
    assert len(programs.ran) == 3 + 1  # seed 1 of what was chosen is a trial
    compare("--systems", "mind", "--trials", "3", "--seeds", "1", "2", *space)
    assert len(programs.ran) == 4
    compare("--systems", "mind", "--seeds", "1", "2")  # as it is, under seed 1, is trial 0
    assert len(programs.ran) == 5


def test_trials_with_settings_of_their_own_are_runs_of_their_own(compare: Comparing, programs: Programs, space: list[str]) -> None:
    programs.quality = by_rate
    compare("--systems", "mind", "--trials", "3", "--trial-set", "training.max_epochs=3", "--seeds", "1", *space)
    assert len(programs.ran) == 3 + 1
    epochs = [RunFolder(t["folder"]).stored_config().training.max_epochs for t in compare.written["trials"]]
    (row,) = compare.written["results"]
    assert epochs == [3, 3, 3]
    assert RunFolder(row["runs"][0]["folder"]).stored_config().training.max_epochs == RunConfig().training.max_epochs
    assert "In trials: training.max_epochs=3." in compare.table


def test_more_trials_continue_the_search(compare: Comparing, programs: Programs, space: list[str]) -> None:
    compare("--systems", "mind", "--trials", "2", "--seeds", "1", *space)
    assert len(programs.ran) == 2
    compare("--systems", "mind", "--trials", "3", "--seeds", "1", *space)
    assert len(programs.ran) == 3


def test_each_dataset_has_its_own_choice_unless_another_is_searched_on(compare: Comparing, programs: Programs, space: list[str]) -> None:
    programs.quality = by_rate
    data = ["--data", "toys=somewhere", "games=elsewhere"]
    result = compare("--systems", "mind", "--trials", "3", "--seeds", "1", *space, *data)
    assert [row["settings"] for row in result["results"]] == [["optimizer.learning_rate=0.004"], ["optimizer.learning_rate=0.001"]]
    shutil.rmtree(compare.output)
    result = compare("--systems", "mind", "--trials", "3", "--seeds", "1", "--tune-on", "toys", *space, *data)
    assert [row["settings"] for row in result["results"]] == [["optimizer.learning_rate=0.004"]] * 2
    assert "games: what is best on toys." in compare.table
    assert {t["dataset"] for t in compare.written["trials"]} == {"toys"}


def test_counting_systems_search_their_own_space_with_the_same_budget(compare: Comparing, programs: Programs, space: list[str]) -> None:
    compare("--systems", "mind", "item_knn", "popularity", "--trials", "3", "--seeds", "1", *space)
    settings = [t["settings"] for t in compare.written["trials"] if t["config"] == "item_knn"]
    assert settings[0] == []
    assert sorted(settings[1:]) == [["model.heuristic.decay=0.7"], ["model.heuristic.decay=0.9"]]  # 0.8 is the recipe's own
    assert "Fewer, as their spaces have no more combinations: popularity 1." in compare.table


def test_a_variant_of_one_interest_takes_over_the_chosen_settings(compare: Comparing, programs: Programs, space: list[str]) -> None:
    programs.quality = by_rate
    result = compare("--systems", "mind", "youtube_dnn", "popularity", "--ablate-k1", "--trials", "3", "--seeds", "1", *space)
    assert labels(result) == ["mind", "mind K=1", "youtube_dnn", "popularity"]
    config = RunFolder(result["results"][1]["runs"][0]["folder"]).stored_config()
    assert config.model.extractor["num_interests"] == 1
    assert config.optimizer.learning_rate == 4e-3
    assert {t["config"] for t in compare.written["trials"]} == {"mind", "youtube_dnn", "popularity"}


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_every_system_with_several_interests_has_a_variant_of_one(name: str) -> None:
    config = load_config(system=name)
    variant = with_single_interest(Entry.of_system(name), config)
    if config.model.kind != "interests" or EXTRACTORS.build(config.model.extractor, "extractor").num_interests == 1:
        assert variant is None
    else:
        assert variant is not None
        single = variant.config([], {})
        assert EXTRACTORS.build(single.model.extractor, "extractor").num_interests == 1
        assert with_single_interest(variant, single) is None


def test_trials_differ_and_start_with_the_recipe() -> None:
    choices = {"optimizer.learning_rate": [1e-3, 2e-3], "model.history_dropout": [0.2, 0.5]}

    def resolve(settings: Any) -> RunConfig:
        return load_config(system="youtube_dnn", settings=settings)

    trials = plan_trials(choices, 3, resolve)
    assert trials[0] == Trial(0)
    everything = plan_trials(choices, 99, resolve)
    assert everything[:3] == trials
    assert len(everything) == 4  # one of the four combinations is the recipe's own
    assert len({settings_yaml(resolve(trial.settings)) for trial in everything}) == 4


def test_the_best_over_several_datasets_has_the_largest_shares() -> None:
    assert choose({"a": {0: 0.1, 1: 0.3}}) == 1
    assert choose({"a": {0: 0.3, 1: 0.3}}) == 0
    assert choose({"a": {0: 0.1, 1: 0.2}, "b": {0: 0.9, 1: 0.8}}) == 1  # half of the best on a, against 8 / 9 on b
    assert choose({"a": {0: None, 1: 0.2, 2: 0.1}, "b": {0: 0.9, 1: None, 2: 0.1}}) == 2
    assert choose({"a": {0: None}}) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("optimizer.learning_rate: 0.1", "optimizer.learning_rate: expected a list of values to try, got 0.1"),
        ("optimizer.learning_rate: []", "expected a list of values to try, got []"),
        ("systems: {mnd: {seed: [1]}}", "systems.mnd: no such system is compared (did you mean 'mind'?)"),
        ("model.dimension: [16, -1]", "--space, model.dimension=-1: mind: model.dimension"),
    ],
)
def test_a_space_that_cannot_work_is_refused(content: str, message: str, compare: Comparing, programs: Programs, tmp_path: Path) -> None:
    file = write_atomically(tmp_path / "odd.yaml", content)
    compare("--systems", "mind", "--trials", "3", "--space", str(file), code=1)
    assert message in compare.errors
    assert not programs.ran


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to compare: give --systems NAME or --configs FILE"),
        (("--systems", "mind", "--trials", "3"), "--trials and --space need each other"),
        (("--systems", "mind", "--trial-set", "training.max_epochs=1"), "--tune-on and --trial-set are for a search"),
        (("--systems", "mind", "mind"), "'mind' and 'mind' would share their run folders"),
        (("--systems", "mnd"), "mnd: system: unknown system 'mnd' (did you mean 'mind'?)"),
        (("--systems", "mind", "--seeds", "1", "1"), "--seeds: expected each one once, got 1 1"),
        (("--systems", "mind", "--data", "a=x", "a=y"), "--data: expected each one once, got a a"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    arguments: tuple[str, ...], message: str, compare: Comparing, programs: Programs
) -> None:
    compare(*arguments, code=1)
    assert message in compare.errors
    assert not programs.ran


# Failures


def test_a_failing_run_is_reported_with_its_log_and_leaves_the_others_alone(compare: Comparing, programs: Programs) -> None:
    programs.broken = "mind on toys, seed 2"
    result = compare("--systems", "mind", "popularity", code=1)
    assert [(row["config"], row["seeds"]) for row in result["results"]] == [("mind", 2), ("popularity", 1)]
    log = compare.output / "toys" / "mind-2.log"
    assert result["failures"] == [{"name": "mind on toys, seed 2", "reason": "the disk is full", "log": str(log)}]
    assert f"FAILED: mind on toys, seed 2: the disk is full (log: {log})" in compare.errors
    assert "the disk is full" in compare.table
    programs.broken = None
    assert compare("--systems", "mind", "popularity")["failures"] == []
    assert programs.ran.count("mind on toys, seed 1") == 1


def test_a_failing_trial_is_not_chosen(compare: Comparing, programs: Programs, space: list[str]) -> None:
    programs.quality, programs.broken = by_rate, "trial"
    trial_set = ("--trial-set", "training.max_epochs=3", "--seeds", "1", "--trials", "3")
    result = compare("--systems", "mind", *trial_set, *space, code=1)
    assert result["results"] == []  # nothing to choose from
    assert len(result["failures"]) == 3
    programs.broken = "(trial 0)"
    (row,) = compare("--systems", "mind", *trial_set, *space, code=1)["results"]
    assert row["settings"] == ["optimizer.learning_rate=0.004"]


def test_ctrl_c_in_a_run_stops_the_others(compare: Comparing, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def interrupted(task: Task, environment: Mapping[str, str]) -> int:
        begun.append(task.name)
        return 130

    monkeypatch.setattr(jobs, "run_logged", interrupted)
    monkeypatch.setattr(jobs, "_last_message", lambda log: "stopped")
    compare("--systems", "mind", "comirec_sa", code=130)
    assert len(begun) == 1


def test_a_message_of_an_earlier_attempt_is_not_repeated(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text("\n$ train\nerror: no space\n\n$ train\nTraceback\nKeyError: 'x'\n")
    assert jobs._last_message(log) == "KeyError: 'x'"


# Latency and diversity


def test_latency_is_compared_with_item_knn(compare: Comparing, programs: Programs) -> None:
    arguments = ("--systems", "mind", "item_knn", "--seeds", "1", "2", "--latency")
    mind, item_knn = compare(*arguments)["results"]
    assert (item_knn["latency"]["1"]["ratio"], mind["latency"]["1"]["ratio"]) == (1.0, 2.0)
    assert [name for name in programs.ran if name.startswith("export")] == [
        "export of mind on toys, seed 1",
        "export of item_knn on toys, seed 1",
    ]
    assert "times item_knn" in compare.table
    assert "| 2.00 (p95 9.00) | 2.00 | 2.00 (p95 9.00) | 2.00 |" in compare.table
    ran = len(programs.ran)
    compare(*arguments)
    assert len(programs.ran) == ran
    compare(*arguments, "--latency-repeats", "5")
    assert programs.ran[ran:] == ["latency of the exported models"]


def test_a_failing_export_leaves_its_latency_out(compare: Comparing, programs: Programs) -> None:
    programs.broken = "export of mind"
    mind, item_knn = compare("--systems", "mind", "item_knn", "--seeds", "1", "--latency", code=1)["results"]
    assert mind["latency"] == {}
    assert item_knn["latency"]["1"]["ratio"] == 1.0
    assert "| – | – | – | – |" in compare.table


def test_diversity_is_swept_once(compare: Comparing, programs: Programs) -> None:
    result = compare("--systems", "mind", "--seeds", "1", "--sweep", plots=True)
    assert result["results"][0]["sweep"]["best_lambda"] == 0.05
    assert "| mind | 0.05 | 4.0% | 60.0% |" in compare.table
    assert (compare.output / "toys" / "plots" / "diversity.png").exists()
    compare("--systems", "mind", "--seeds", "1", "--sweep", "0.05")
    assert len(programs.ran) == 2
    compare("--systems", "mind", "--seeds", "1", "--sweep", "0.3")
    assert len(programs.ran) == 3  # other strengths than were asked for before
    compare("--systems", "mind", "--seeds", "1", "--sweep")
    assert len(programs.ran) == 4  # the strengths that were given are not those of the scores' scale


# The programs themselves


@pytest.fixture
def clicks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)  # the cache of what was read
    log = tmp_path / "clicks.csv"
    rows = [f"u{user},i{(user * 7 + time * time) % 13},{time}\n" for user in range(60) for time in range(9)]
    log.write_text("user,item,time\n" + "".join(rows))
    (tmp_path / "catalogue.csv").write_text("item,category\n" + "".join(f"i{item},c{item % 3}\n" for item in range(13)))
    return ["--data", f"clicks={log}", "--dataset", "log", "--output", str(tmp_path / "compare"), *METRICS, *SMALL]


@pytest.mark.slow
def test_a_finished_run_is_kept_and_another_configuration_refused(
    tmp_path: Path, clicks: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--configs", str(counted("system: popularity\n", tmp_path)), *clicks, "--no-plots"]
    assert main([*arguments, "--seeds", "1", "2"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["runs"] == 1  # counting gives the same answer under every seed
    folder = tmp_path / "compare" / "clicks" / "counted-1"
    measured = json.loads((folder / "metrics.json").read_text())
    assert result["results"][0]["mean"]["recall@20"] == measured["test"]["recall@20"]
    assert folder.with_name("counted-1.yaml").read_text() == (folder / "config.yaml").read_text()
    assert "Metrics" in folder.with_name("counted-1.log").read_text()
    written = (folder / "metrics.json").stat().st_mtime_ns
    assert main([*arguments, "--seeds", "1"]) == 0
    assert (folder / "metrics.json").stat().st_mtime_ns == written
    capsys.readouterr()
    assert main([*arguments, "--seeds", "1", "--set", "data.history_length=5"]) == 1
    assert "counted-1: an earlier run is here with other values of: data.history_length." in capsys.readouterr().err


@pytest.mark.slow
def test_a_trained_and_a_counted_system_from_training_to_latency(
    tmp_path: Path, clicks: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mains = {"train.py": cli.main, "latency.py": latency.main, "diversity_sweep.py": diversity_sweep.main}

    def in_this_process(task: Task, environment: Mapping[str, str]) -> int:
        write_atomically(task.log, f"{jobs.ATTEMPT}{task.name}\n")
        return mains[Path(task.command[1]).name](list(task.command[2:]))

    monkeypatch.setattr(jobs, "run_logged", in_this_process)
    monkeypatch.setattr(latency, "limit_threads", lambda threads: None)
    small = ["model.dimension=8", "training.max_epochs=1", "training.batch_size=64", "index.kind=exact"]
    small += ["export.warmup_batch_sizes=[1]", "export.num_results=5", "export.exclusion_width=4"]
    settings = [flag for setting in small for flag in ("--set", setting)]
    measured = ["--latency", "--latency-repeats", "3", "--sweep", "0.1", "--jobs", "1"]
    assert main(["--systems", "comirec_sa", "popularity", "--seeds", "1", *measured, *clicks, *settings]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert labels(result) == ["comirec_sa", "popularity"]
    for row in result["results"]:
        assert 0 < row["latency"]["1"]["p50_ms"] <= row["latency"]["1"]["p95_ms"]
        assert row["slices"]
        assert row["sweep"]["rows"]
    assert result["results"][0]["interests"]["cosine"] <= 1
    drawn = {file.name for file in (tmp_path / "compare" / "clicks" / "plots").iterdir()}
    assert drawn == {"metrics.png", "training_time.png", "routing.png", "interests.png", "diversity.png"}


ABLATIONS = Path(__file__).resolve().parents[2] / "training" / "configs" / "ablations"


@pytest.mark.parametrize("name", sorted(file.stem for file in ABLATIONS.glob("*_*.yaml")))
def test_an_ablation_differs_from_its_baseline_in_one_term(name: str) -> None:
    baseline = load_config(ABLATIONS / f"{name.partition('_')[0]}.yaml")
    assert baseline.model.extractor.get("stop_gradient_routing") in (None, False)
    different = differing_keys(baseline.model_dump(), load_config(ABLATIONS / f"{name}.yaml").model_dump())
    objective = {key for key in different if key.startswith("model.objective.")}
    regularizers = {key for key in different if key.startswith("model.regularizers.")}
    assert set(different) == {"system"} | objective | regularizers
    assert bool(objective) + len(regularizers) == 1


def test_data_needs_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--systems", "mind", "--data", "clicks.csv"])
    assert "expected NAME=DIR, got 'clicks.csv'" in capsys.readouterr().err


def test_an_error_of_a_configuration_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^counted: model.dimenson: unknown key"):
        Entry.of_file(counted("system: mind\nmodel: {dimenson: 3}\n", tmp_path)).config([], {})

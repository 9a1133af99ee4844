"""The command line of ``training/train.py``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfmi.cli.program import STOPPED_BY_USER, ProgramParser, quiet_libraries, run_program
from tfmi.config import RunConfig, merge, parse_settings, read_config_file, validate_config
from tfmi.core.errors import ConfigError

if TYPE_CHECKING:
    from tfmi.models.systems import System
    from tfmi.training.distribution.cluster import Cluster
    from tfmi.training.distribution.joining import Distribution

EXAMPLES = """\
examples:
  python training/train.py                                         MIND on the embedded data
  python training/train.py --system comirec_sa --set model.extractor.num_interests=8
  python training/train.py --dataset movielens --system item_knn
  python training/train.py --dataset log --data clicks.csv --set data.log.columns.user=customer_id
  python training/train.py --config training/configs/reference/mind.yaml --dataset comirec --data DIR --seed 2
  python training/train.py --system mvke --dataset movielens       which tags users watch and like
  python training/train.py --print-config mind > mine.yaml         what a system is, written out, to be changed
  python training/train.py --system mgipf                          a ranker, and a retriever in front of it
  python training/train.py --resume --output runs/mind-embedded-20260101-120000
"""


def _listed(title: str, systems: Mapping[str, System]) -> str:
    """One group of systems, a line each."""
    width = max(map(len, systems))
    return "\n".join([f"{title}:", *(f"  {name:<{width}}  {system.summary}" for name, system in systems.items())])


def _systems_by_kind() -> dict[str, dict[str, System]]:
    """Every system under the heading of its kind, in the order in which the headings first occur."""
    from tfmi.models.kind_settings import settings_of_kind
    from tfmi.models.systems import SYSTEMS

    groups: dict[str, dict[str, System]] = {}
    for name, system in SYSTEMS.items():
        groups.setdefault(settings_of_kind(system.kind).heading, {})[name] = system
    return groups


def build_parser() -> argparse.ArgumentParser:
    """The parser; its help lists every system."""
    from tfmi.data.public.public_sets import dataset_names

    systems = "\n\n".join(_listed(title, group) for title, group in _systems_by_kind().items())
    parser = ProgramParser(
        "training/train.py",
        description="Train a multi-interest retriever, a model of users' tags or a ranker, evaluate it, and export a SavedModel for\n"
        "TensorFlow Serving. Without arguments it trains MIND on the embedded data.",
        epilog=f"{systems}\n\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML configuration; anything it leaves out keeps its default")
    parser.add_argument("--system", metavar="NAME", help="a named system, see below (default: the configuration's, or mind)")
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help=f"where the data comes from (default: embedded): {', '.join(dataset_names())}, or a YAML file that describes a data set",
    )
    parser.add_argument("--data", metavar="PATH", help="file or folder of the data")
    parser.add_argument("--set", metavar="a.b=value", action="append", default=[], help="set one configuration value; may be repeated")
    parser.add_argument("--seed", type=int, metavar="S", help="seed of initial weights, order of examples, negatives and dropout")
    parser.add_argument("--max-steps", type=int, metavar="N", help="stop after N steps; heuristic systems take none")
    parser.add_argument(
        "--print-config",
        metavar="NAME",
        nargs="?",
        const="",
        help="write out the configuration of a system, or of what the other options ask for, and do nothing else",
    )
    parser.add_argument("--output", metavar="DIR", help="run folder (default: runs/<system>-<dataset>-<time>)")
    parser.add_argument(
        "--savedmodels", metavar="DIR", default="savedmodels", help="where <name>/<version> is published (default: savedmodels)"
    )
    parser.add_argument("--index", choices=("scann", "exact", "partitioned", "auto"), help="search inside the SavedModel (default: scann)")
    parser.add_argument("--no-export", action="store_true", help="train and evaluate only")
    parser.add_argument("--inspect", action="store_true", help="say what the log of --data holds, as tfmi-inspect does, and train nothing")
    parser.add_argument(
        "--warm-start", metavar="RUN", help="start with the weights of an earlier run on older data; new items and values become new rows"
    )
    parser.add_argument(
        "--strategy",
        choices=("none", "mirrored", "multi_worker", "parameter_server"),
        help="devices or processes that train together (default: as TF_CONFIG says; training/launch_local.py starts several here)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in --output, or the newest one of this system and dataset, with its stored configuration; --index, index.*, "
        "export.* and evaluation.batch_size may differ, --max-steps and training.max_epochs may be larger; a finished run is evaluated "
        "and exported again",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code: 0 done, 1 a problem that the user can fix, 130 stopped by Ctrl-C."""
    quiet_libraries()
    options = build_parser().parse_args(arguments)
    code = run_program(lambda: _run(options))
    if _coordinates(options):
        # TensorFlow's coordinator would wait here, for ever, for a worker that is gone.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _coordinates(options: argparse.Namespace) -> bool:
    """Whether this process is the chief of a cluster with parameter servers."""
    from tfmi.training.distribution.cluster import read_cluster

    try:
        cluster = read_cluster(options.strategy)
    except ConfigError:  # which has been said
        return False
    return cluster is not None and cluster.strategy == "parameter_server" and cluster.is_chief


def _run(options: argparse.Namespace) -> int:
    if options.print_config is not None:
        return _print_config(options)
    from tfmi.kinds.runner import run

    if options.inspect:
        return _inspect(options)
    from tfmi.training.distribution.cluster import read_cluster
    from tfmi.training.run_folder import RunFolder

    cluster = read_cluster(options.strategy)
    if cluster is not None and cluster.is_server:  # needs neither the data nor the run's folder
        return _serve(cluster)
    if options.resume:
        folder = RunFolder(options.output or _newest_run(_resolve(options)))
        config = _resolve_resumed(options, folder.stored_config())
    else:
        config = _resolve(options)
        folder = RunFolder(options.output or _new_folder(config))
    cluster = read_cluster(config.training.strategy)
    if cluster is not None and not cluster.is_chief:
        return _help(config, cluster)
    if options.resume:
        folder.resume(config)
    else:
        folder.start(config)
    logging.info("Run folder: %s", folder.path)
    distribution = None if cluster is None else _joined(config, cluster)
    savedmodels = None if options.no_export else Path(options.savedmodels)
    result = run(config, folder, savedmodels, options.resume, distribution=distribution)
    if result.metrics is None:
        return STOPPED_BY_USER
    _report(config, result.metrics)
    print(f"Metrics    {folder.metrics}")
    if folder.plots.exists():
        print(f"Plots      {folder.plots}")
    if config.evaluation.report:
        print(f"Report     {folder.report}")
    if result.savedmodel is not None:
        print(f"SavedModel {result.savedmodel}")
        model = result.savedmodel.parent
        print(f"Serve it   python serving/local_server.py --model-base-path {model} --model-name {model.name}")
    return 0


def _joined(config: RunConfig, cluster: Cluster) -> Distribution | None:
    """The strategy of this process, which TensorFlow wants before it computes anything."""
    from tfmi.training.distribution.joining import join_cluster

    return join_cluster(cluster, config.training.replicas)


def _help(config: RunConfig, cluster: Cluster) -> int:
    """What a process does that is not the chief of its cluster: it leaves the run's folder and the export to that one."""
    from tfmi.kinds.runner import help_chief

    if cluster.is_server:
        return _serve(cluster)
    distribution = _joined(config, cluster)
    if distribution is not None:
        help_chief(config, distribution)
    return 0


def _serve(cluster: Cluster) -> int:
    """Do what the chief of a cluster with parameter servers sends."""
    from tfmi.training.distribution.joining import serve

    serve(cluster)
    return 0


def _print_config(options: argparse.Namespace) -> int:
    """Print what would be run, as a configuration file that does the same."""
    from tfmi.models.kind_settings import settings_yaml
    from tfmi.models.systems import SYSTEMS

    if options.print_config:
        options.system = options.print_config
    config = _resolve(options)
    system = SYSTEMS.get(config.system)
    if system is not None:
        print(f"# {config.system}: {system.summary}\n# {system.source}")
    print(settings_yaml(config), end="")
    return 0


def _resolve(options: argparse.Namespace) -> RunConfig:
    from tfmi.models.systems import load_config

    config = load_config(options.config, options.system, options.set, _overrides(options))
    return with_guessed_columns(config)


def with_guessed_columns(config: RunConfig) -> RunConfig:
    """The configuration with the columns of a log that nobody has mapped, where they are certain; says which."""
    from tfmi.data.inspecting.guessing import complete

    data = config.data
    if data.dataset != "log" or data.path is None:
        return config
    completed = complete(data.path, data.log)
    if completed is None:
        return config
    settings, guess = completed
    logging.info("%s: taken for its columns: %s", guess.sample.source.path, guess.says(settings["columns"]))
    return validate_config(merge(config.model_dump(), {"data": {"log": settings}}))


def _inspect(options: argparse.Namespace) -> int:
    from tfmi.cli.inspect_log import inspect

    if options.data is None:
        raise ConfigError("--inspect: needs a log; give --data PATH")
    return inspect(options.data, [setting for setting in options.set if setting.startswith("data.log.")])


def _resolve_resumed(options: argparse.Namespace, stored: RunConfig) -> RunConfig:
    """The stored configuration with whatever the command line gives; what it leaves out stays as it was."""
    from tfmi.data.public.public_sets import with_set
    from tfmi.models.kind_settings import refuse_unread, refuse_unread_of_file, with_defaults_where_unread
    from tfmi.models.systems import check_components

    given = read_config_file(options.config) if options.config is not None else {}
    if options.system is not None:
        given = {**given, "system": options.system}
    of_set, given = with_set(given)
    of_own_set, from_options = with_set(merge(_overrides(options), parse_settings(options.set)))
    config = validate_config(merge(merge(merge(stored.model_dump(), of_own_set or of_set), given), from_options))
    refuse_unread_of_file(config, given)
    refuse_unread(config, from_options)
    config = with_defaults_where_unread(config)
    check_components(config)
    return config


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    flags = {
        ("data", "dataset"): options.dataset,
        ("data", "path"): options.data,
        ("training", "max_steps"): options.max_steps,
        ("index", "kind"): options.index,
        ("training", "warm_start"): options.warm_start,
        ("training", "strategy"): options.strategy,
    }
    overrides: dict[str, Any] = {} if options.seed is None else {"seed": options.seed}
    for (section, key), value in flags.items():
        if value is not None:
            overrides.setdefault(section, {})[key] = value
    return overrides


def _new_folder(config: RunConfig) -> Path:
    return Path("runs") / f"{_folder_prefix(config)}{time.strftime('%Y%m%d-%H%M%S')}"


def _newest_run(config: RunConfig) -> Path:
    prefix = _folder_prefix(config)
    earlier = sorted(Path("runs").glob(f"{prefix}*"))
    if not earlier:
        raise ConfigError(f"--resume: no run called runs/{prefix}*; name its folder with --output")
    return earlier[-1]


def _folder_prefix(config: RunConfig) -> str:
    return f"{config.system}-{config.data.name}-"


def _report(config: RunConfig, metrics: dict[str, Any]) -> None:
    from tfmi.kinds.runner import describe_metrics

    train = metrics["train"]
    speed = f"{train['steps']:,} steps in {train['seconds']:.1f} s, {train['examples_per_second']:,.0f} examples/s"
    print(f"\n{describe_metrics(config, metrics)}\n\n{speed}, seed {metrics['seed']}\n")

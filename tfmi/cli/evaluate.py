"""The command line of ``training/evaluate.py``."""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfmi.cli.program import ProgramParser, start
from tfmi.config import RunConfig, merge, parse_settings, validate_config
from tfmi.core.errors import ConfigError, DataError, ExportError

EXAMPLES = """\
examples:
  python training/evaluate.py savedmodels/mind                     the newest version, on the test users of its own data
  python training/evaluate.py savedmodels/mind/3 --split valid
  python training/evaluate.py savedmodels/mind/3 --num-results 10 20
  python training/evaluate.py savedmodels/mind/3 --dataset log --data newer_clicks.csv
  python training/evaluate.py savedmodels/mind/3 --dataset log --data newer_clicks.csv --all-users
  python training/evaluate.py savedmodels/mind/3 --set evaluation.exclude_history=true
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = ProgramParser(
        "training/evaluate.py",
        description="Measure an exported SavedModel through its signatures: raw ids in, raw ids out, as a client gets them.\n"
        "The last line of the output is one JSON object with the metrics.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("savedmodel", type=Path, metavar="SAVEDMODEL", help="savedmodels/<name>/<version>, or savedmodels/<name>")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--split", choices=("test", "valid"), default="test", help="which users (default: test)")
    which.add_argument(
        "--all-users",
        action="store_true",
        help="everybody in the data who has a history and a later event, cut by the model's own rule; nobody is left out as rare",
    )
    parser.add_argument("--dataset", metavar="NAME", help="as for training/train.py (default: the one the model was trained on)")
    parser.add_argument("--data", metavar="PATH", help="file or folder of the data (default: where the model's data was)")
    parser.add_argument("--batch-size", type=int, metavar="B", help="users per request (default: the model's configuration)")
    parser.add_argument(
        "--num-results", type=int, nargs="+", metavar="N", help="the Ns of metrics @N (default: those of the model's configuration)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for report.html (default: runs/evaluated/<name>-<version>-<split>; --set evaluation.report=false writes none)",
    )
    parser.add_argument(
        "--set",
        metavar="a.b=value",
        action="append",
        default=[],
        help="change a value of the model's configuration, of data.* or evaluation.*, as for training/train.py; may be repeated",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code: 0 done, 1 a problem that the user can fix, 130 stopped by Ctrl-C."""
    return start(build_parser(), _run, arguments)


def _run(options: argparse.Namespace) -> int:
    from tfmi.evaluation.metrics import per_user_metrics, ranking_metrics
    from tfmi.evaluation.slices import sliced_metrics
    from tfmi.export.exported_model import ExportedModel
    from tfmi.export.publishing import newest_version
    from tfmi.export.retrieval.evaluate_exported import ServedRanker, share_known, usable_cutoffs
    from tfmi.kinds.base import kind_of
    from tfmi.reports.exported_values import measured_export
    from tfmi.reports.writing import write_page

    folder = newest_version(options.savedmodel)
    started = time.perf_counter()
    model = ExportedModel(folder)
    logging.info("Loaded %s (%s) in %.1f s", folder, model.metadata["system"], time.perf_counter() - started)
    if "recommend" not in model.signature_names:
        answers = "tags" if "user_tags" in model.signature_names else "something else than items"
        raise ExportError(f"{folder}: answers with {answers}, which are not measured here but by the run itself, in its metrics.json")
    config = _changed(_configuration(model.metadata, folder), options)
    kind, evaluation = kind_of(config), config.evaluation
    if evaluation.exclude_history == "auto":  # as it is served
        evaluation = evaluation.model_copy(update={"exclude_history": bool(model.metadata["exclude_history"])})
    cutoffs = usable_cutoffs(model, evaluation.cutoffs, required=options.num_results is not None)

    dataset = kind.load_everybody(config) if options.all_users else kind.load_clicks(config)
    split = "all" if options.all_users else options.split
    examples = dataset.valid if split == "valid" else dataset.test
    logging.info("Asking for %s %s users of %s", f"{len(examples):,}", split, dataset.name)
    recommended = ServedRanker(model, dataset.catalogue.vocabulary, dataset.profiles, evaluation).rank(examples)
    known = share_known(recommended.items)
    if not known:
        raise DataError(f"none of the recommended items is in the data {dataset.name!r}: this model was trained on another catalogue")
    if known < 1.0:
        logging.info("%.1f %% of the recommended items are not in this data; they count as misses.", 100 * (1 - known))
    metrics = ranking_metrics(
        recommended.items,
        examples.targets,
        cutoffs=cutoffs,
        num_rows=dataset.catalogue.num_rows,
        categories=dataset.catalogue.category_indices(),
        ndcg_ideal=evaluation.ndcg_ideal,
    )
    for name, value in metrics.items():
        print(f"{name:<14} {value:.4f}")
    per_user = per_user_metrics(recommended.items, examples.targets, cutoffs, evaluation.ndcg_ideal)
    each = {name: values[examples.targets.lengths() > 0] for name, values in per_user.items()}
    slices = sliced_metrics(recommended.items, examples, dataset.catalogue, cutoffs=cutoffs, ndcg_ideal=evaluation.ndcg_ideal)
    column = f"recall@{max(cutoffs)}"
    print(f"\n{'slice':<14} {'users':>7} {column:>10}")
    for name, values in slices.items():
        print(f"{name:<14} {int(values['users']):>7,} {values[column]:>10.4f}")
    if evaluation.report:
        page = (options.output or Path("runs") / "evaluated" / f"{folder.parent.name}-{folder.name}-{split}") / "report.html"
        evaluation = evaluation.model_copy(update={"cutoffs": cutoffs})
        shown = measured_export(
            folder,
            model.metadata,
            config.model_copy(update={"evaluation": evaluation}),
            dataset,
            examples,
            recommended=recommended.items,
            each=each,
            measured={"test": metrics, "test_slices": slices},
            name=f"{split} users",
        )
        print(f"Report         {write_page(shown, page)}")
    print(json.dumps({"savedmodel": str(folder), "split": split, "users": len(examples), "metrics": metrics, "slices": slices}))
    return 0


def _configuration(metadata: dict[str, Any], folder: Path) -> RunConfig:
    from tfmi.models.kind_settings import with_defaults_where_unread

    if "configuration" not in metadata:
        raise ConfigError(f"{folder}: this model's metadata holds no run configuration; export it with training/train.py")
    return with_defaults_where_unread(validate_config(metadata["configuration"]))


def _changed(config: RunConfig, options: argparse.Namespace) -> RunConfig:
    """The configuration with what the options change, which can be the data and the evaluation only: the model is as it is."""
    from tfmi.data.public.public_sets import with_set
    from tfmi.models.kind_settings import refuse_unread, with_defaults_where_unread

    given = parse_settings(options.set)
    odd = sorted(set(given) - {"data", "evaluation"})
    if odd:
        raise ConfigError(f"--set {odd[0]}: measuring an exported model reads data.* and evaluation.* only; train again to change the rest")
    flags = {
        "data": {"dataset": options.dataset, "path": options.data},
        "evaluation": {"batch_size": options.batch_size, "cutoffs": options.num_results},
    }
    for section, values in flags.items():
        given = merge(given, {section: {key: value for key, value in values.items() if value is not None}})
    of_set, given = with_set(given)
    if of_set or given["data"].get("dataset", config.data.dataset) != config.data.dataset:
        given["data"].setdefault("path", None)  # that of another dataset means nothing to this one
    changed = validate_config(merge(merge(config.model_dump(), of_set), given))
    refuse_unread(changed, given)
    return with_defaults_where_unread(changed)

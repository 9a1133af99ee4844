"""What diversity costs: recall against diversity of a trained run over ComiRec's λ, and the best λ within a bound of lost recall.

The lists are chosen as the served graph chooses them, from the best ``export.diversity_pool`` x N candidates of each user, found by exact
search. The best λ has the most diversity on the validation users among those that keep their recall up to the bound; what it does is
reported on the test users. Table, figures and plot go into the run folder.

    python benchmarks/diversity_sweep.py runs/comirec_sa-beauty
    python benchmarks/diversity_sweep.py runs/comirec_sa-beauty --lambdas 0 0.01 0.02 0.05 --num-results 20 --max-loss 0.02

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from benchmarks.common import report
from tfmi.cli.program import start
from tfmi.core.errors import ConfigError, DataError
from tfmi.core.files import write_atomically, write_json
from tfmi.data.dataset import EvaluationSet, InteractionDataset
from tfmi.evaluation.diversity import DiverseRanker, diversities_by_scale
from tfmi.evaluation.metrics import category_coverage, ranking_metrics
from tfmi.evaluation.own_items import with_own_items_decided
from tfmi.kinds.base import LoadedRun
from tfmi.kinds.retrieval import load_retriever
from tfmi.models.recommender import Retriever
from tfmi.plots.training_plots import save_figure

SHOWN = ("recall", "hr", "ndcg", "diversity", "category_coverage", "coverage")
# What a λ is meant to reach: ComiRec's aggregation more than doubled it on Books for 5 % of recall (Cen et al., KDD 2020, table 5).
WANTED_GAIN = 0.5

Row = dict[str, Any]
RetrieverRun = LoadedRun[InteractionDataset, Retriever]


def sweep(run: str | Path | RetrieverRun, lambdas: Sequence[float] | None = None, num_results: int | None = None) -> list[Row]:
    """Measure a finished run under several λs.

    Args:
        run: Its folder, or what ``load_retriever`` made of it.
        lambdas: Strengths of diversity in units of the scores; 0 is added if it is missing. None chooses them by the scores' scale on
            the validation users.
        num_results: N of the metrics; None takes ``export.num_results``.

    Returns:
        One row per λ, rising: ``{"lambda": 0.1, "valid": {...}, "test": {...}}`` with ``ranking_metrics`` at N and
        ``category_coverage@N``, the mean share of the catalogue's categories in a list.

    Raises:
        ConfigError: The folder holds no finished run, or a λ or N is out of range.
        DataError: The data's items have no categories, or it is not what the run was trained on.
    """
    loaded = run if isinstance(run, LoadedRun) else load_retriever(run)
    config, dataset = loaded.config, loaded.dataset
    n = config.export.num_results if num_results is None else num_results
    if n < 1:
        raise ConfigError(f"--num-results: expected at least 1, got {n}")
    categories = dataset.catalogue.category_indices()
    if categories is None or not categories.any():
        raise DataError(f"{dataset.name}: its items have no categories, among which diversity would choose")
    pool = config.export.diversity_pool * n
    ranker = DiverseRanker(loaded.model, categories, n=n, pool=pool, quota_exponent=config.index.allotment())

    def measure(examples: EvaluationSet, strengths: Sequence[float], name: str) -> list[dict[str, float]]:
        lists = _rank(loaded, ranker, examples, strengths, name)
        return [_measured(loaded, examples, each.items, categories, n) for each in lists]

    if lambdas is None:
        (plain,) = _rank(loaded, ranker, dataset.valid, [0.0], "scale of the scores")
        try:
            strengths = diversities_by_scale(plain)
        except ValueError as error:
            raise DataError(f"--lambdas: {error}") from None
    else:
        strengths = _checked(lambdas)
    valid, test = measure(dataset.valid, strengths, "validation users"), measure(dataset.test, strengths, "test users")
    return [{"lambda": strength, "valid": v, "test": t} for strength, v, t in zip(strengths, valid, test, strict=True)]


def choose(rows: Sequence[Row], n: int, max_loss: float) -> Row:
    """The row with the most diversity@N on validation, of equals the smallest λ, among those that lose at most ``max_loss`` of recall."""
    least = (1 - max_loss) * rows[0]["valid"][f"recall@{n}"]
    allowed = [row for row in rows if row["valid"][f"recall@{n}"] >= least]
    return max(allowed, key=lambda row: (row["valid"][f"diversity@{n}"], -row["lambda"]))


def plot_sweeps(sweeps: Mapping[str, Sequence[Row]], n: int, path: Path, part: str = "test") -> Path:
    """Draw recall@N against diversity@N of each sweep, points labelled with λ, into a PNG file."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axis = figure.subplots()
    for label, rows in sweeps.items():
        x, y = ([row[part][f"{name}@{n}"] for row in rows] for name in ("diversity", "recall"))
        axis.plot(x, y, marker="o", markersize=4, label=label)
        for row, across, up in zip(rows, x, y, strict=True):
            axis.annotate(f"{row['lambda']:g}", (across, up), textcoords="offset points", xytext=(4, 4), fontsize=7)
    users = {"test": "test", "valid": "validation"}[part]
    axis.set(xlabel=f"diversity@{n}", ylabel=f"recall@{n}", title=f"{users} users; points are labelled with λ")
    axis.grid(alpha=0.3)
    axis.legend()
    return save_figure(figure, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return start(_parser(), _run, arguments)


def _run(options: argparse.Namespace) -> int:
    if not 0 <= options.max_loss <= 1:
        raise ConfigError(f"--max-loss: expected a share of recall from 0 to 1, got {options.max_loss}")
    loaded = load_retriever(options.run)
    n = loaded.config.export.num_results if options.num_results is None else options.num_results
    rows = sweep(loaded, options.lambdas, n)
    best = choose(rows, n, options.max_loss)
    loss, gain = _changes(rows[0], best, n)
    output = options.output or options.run / "diversity"
    title = f"{loaded.config.system} on {loaded.dataset.name}"
    table = _table(rows, n, "test")
    print(f"\n{title}, test users\n\n{table}")
    print(
        f"Best λ with at most {options.max_loss:.0%} of validation recall@{n} lost: {best['lambda']:g}. On the test users it costs "
        f"{loss:.1%} of recall@{n} and adds {gain:.1%} to diversity@{n}.\n"
    )
    results = {"run": str(options.run), "system": loaded.config.system, "dataset": loaded.dataset.name, "num_results": n}
    results |= {"lambdas_by_scale": options.lambdas is None, "max_loss": options.max_loss}
    results |= {"best_lambda": best["lambda"], "test_loss": loss, "test_gain": gain, "rows": rows}
    write_json(output / "sweep.json", results)
    write_atomically(output / "table.md", f"{title}, test users\n\n{table}\n{title}, validation users\n\n{_table(rows, n, 'valid')}")
    plot_sweeps({title: rows}, n, output / "sweep.png")
    print(f"Written to {output}")
    targets = {"no more recall lost on test than allowed": loss <= options.max_loss, "half as much diversity more": gain >= WANTED_GAIN}
    report("diversity_sweep", results, targets)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run's folder")
    parser.add_argument("--lambdas", type=float, nargs="+", metavar="L", help="default: chosen by the scale of the model's scores")
    parser.add_argument("--num-results", type=int, metavar="N", help="N of the metrics (default: the run's export.num_results)")
    parser.add_argument("--max-loss", type=float, default=0.05, metavar="X", help="recall that λ may cost, as a share (default: 0.05)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: the folder 'diversity' in the run's")
    return parser


def _checked(lambdas: Sequence[float]) -> list[float]:
    odd = [strength for strength in lambdas if not (math.isfinite(strength) and strength >= 0)]
    if odd:
        raise ConfigError(f"--lambdas: expected numbers of at least 0, got {odd[0]}")
    return sorted({0.0, *lambdas})


def _rank(loaded: RetrieverRun, ranker: DiverseRanker, examples: EvaluationSet, strengths: Sequence[float], name: str) -> Any:
    evaluation = with_own_items_decided(loaded.config, loaded.dataset).evaluation
    with tqdm(total=len(examples), desc=name, unit=" users", disable=None) as bar:
        return ranker.rank(
            examples,
            strengths,
            batch_size=evaluation.batch_size,
            exclude_history=evaluation.leaves_out_history,
            profiles=loaded.dataset.profiles,
            on_progress=bar.update,
        )


def _measured(loaded: RetrieverRun, examples: EvaluationSet, items: np.ndarray, categories: np.ndarray, n: int) -> dict[str, float]:
    metrics = ranking_metrics(
        items,
        examples.targets,
        cutoffs=[n],
        num_rows=loaded.dataset.catalogue.num_rows,
        categories=categories,
        ndcg_ideal=loaded.config.evaluation.ndcg_ideal,
    )
    has_target = examples.targets.lengths() > 0
    return {**metrics, f"category_coverage@{n}": float(category_coverage(items[has_target], categories).mean())}


def _changes(plain: Row, chosen: Row, n: int) -> tuple[float, float]:
    """The share of recall lost and of diversity added on the test users; without any to begin with, none lost and all that came added."""
    (recall, diversity), (kept, reached) = ([row["test"][f"{name}@{n}"] for name in ("recall", "diversity")] for row in (plain, chosen))
    return (1 - kept / recall if recall else 0.0), (reached / diversity - 1 if diversity else reached)


def _table(rows: Sequence[Row], n: int, part: str) -> str:
    names = [f"{name}@{n}" for name in SHOWN]
    lines = [f"| λ | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {row['lambda']:g} | " + " | ".join(f"{row[part][name]:.4f}" for name in names) + " |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())

"""A catalogue of millions of items on one machine: training steps, evaluation, export, loading and answers, with time and memory.

MIND with sampled softmax on synthetic sequences over all items. The exported version is loaded by a process of its own, as a server loads
it. Memory is the highest resident size so far, in gigabytes; the table of item vectors is its unit of comparison.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

import tfmi  # noqa: F401 - selects Keras 2 before TensorFlow is imported

import tensorflow as tf  # isort: skip

from benchmarks.common import benchmark_arguments, forget_memory, limit_threads, most_memory, report
from tfmi.config import ExportConfig, IndexConfig
from tfmi.data.dataset import FIRST_INDEX, Catalogue, EvaluationSet, InteractionDataset, Sequences, Vocabulary
from tfmi.evaluation.full_catalogue import CatalogueEvaluator
from tfmi.export import export_savedmodel
from tfmi.kinds.retrieval import InterestsKind
from tfmi.models.systems import load_config
from tfmi.models.training_step import free_optimizer
from tfmi.training.steps import ready_to_train

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "training" / "configs" / "reference" / "mind.yaml"
# Table and both moments of the optimizer are three tables; what else a training process holds does not grow with the catalogue.
MOST_TABLES = 3.0
BYTES = 4
TESTED_USERS = 256


def sequences_within_clusters(users: int, clusters: int, items: int, random: np.random.Generator) -> Sequences:
    """Sequences of 24 events of items of three clusters each; item i belongs to cluster ``i % clusters``."""
    chosen = random.integers(0, clusters, [users, 3])[np.arange(users)[:, None], random.integers(0, 3, [users, 24])]
    numbers = (random.integers(0, items // clusters, chosen.shape) * clusters + chosen).astype(np.int32)
    return Sequences(
        offsets=np.arange(0, 24 * users + 1, 24, dtype=np.int64),
        items=(numbers + FIRST_INDEX).ravel(),
        timestamps=None,
        weights=None,
        users=np.arange(users, dtype=np.int32),
    )


def cluster(table: tf.Variable, clusters: int, random: np.random.Generator) -> None:
    """Give the items vectors that lie around their clusters' centres, as trained ones do, in blocks that cost no memory."""
    centres = random.normal(size=[clusters, table.shape[1]]).astype(np.float32)
    for start in range(FIRST_INDEX, table.shape[0], 500_000):
        rows = np.arange(start, min(start + 500_000, table.shape[0]))
        noise = random.standard_normal([len(rows), table.shape[1]], np.float32)
        table.scatter_update(tf.IndexedSlices(centres[(rows - FIRST_INDEX) % clusters] + 0.5 * noise, rows))


def evaluated(evaluator: CatalogueEvaluator, users: EvaluationSet) -> dict[str, object]:
    """Measure the users once, and say what that took."""
    forget_memory()
    start = time.perf_counter()
    evaluator.evaluate(users, None)
    seconds = time.perf_counter() - start
    return {"evaluation_users": len(users), "evaluation_seconds": round(seconds, 1), "evaluation_memory": round(most_memory(), 2)}


def exported(model: tf.keras.Model, data: InteractionDataset, histories: Sequences, folder: Path, kind: str) -> dict[str, object]:
    """Publish the model, and say what that took."""
    forget_memory()
    start = time.perf_counter()
    export, index = ExportConfig(warmup_batch_sizes=[1]), IndexConfig(kind=kind)  # type: ignore[arg-type]
    version = export_savedmodel(model, data.catalogue, folder, export=export, index=index, histories=histories)
    described = json.loads((version / "assets.extra" / "tfmi_metadata.json").read_text(encoding="utf-8"))
    size = sum(path.stat().st_size for path in version.rglob("*") if path.is_file()) / 1e9
    return {
        "export_seconds": round(time.perf_counter() - start, 1),
        "export_memory": round(most_memory(), 2),
        "export_gigabytes": round(size, 2),
        "index_described": described["index"],
    }


def served(folder: Path, threads: int) -> dict[str, object]:
    """Load the version in a process of its own, ask it, and let a newer one take over: see large_serving.py."""
    program = [sys.executable, str(Path(__file__).with_name("large_serving.py")), str(folder), "--threads", str(threads)]
    finished = subprocess.run(program, check=True, stdout=subprocess.PIPE, text=True)
    said: dict[str, object] = json.loads(finished.stdout.splitlines()[-1])
    return {name: value for name, value in said.items() if name not in {"benchmark", "targets", "machine"}}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = benchmark_arguments(__doc__ or "", repeats=1)
    parser.add_argument("--items", type=int, default=10_000_000, help="items of the catalogue")
    parser.add_argument("--users", type=int, default=50_000, help="users of the synthetic sequences")
    parser.add_argument("--steps", type=int, default=200, help="timed training steps")
    parser.add_argument("--index", default="partitioned", help="kind of the index inside the export; none: no export")
    parser.add_argument("--keep", type=Path, help="folder for the export; default: one that is removed")
    parser.add_argument("--serve", action=argparse.BooleanOptionalAction, default=True, help="load the export, too (large_serving.py)")
    options = parser.parse_args(arguments)

    limit_threads(options.threads)
    config = load_config(REFERENCE, None, ["evaluation.cutoffs=[50]", "evaluation.exclude_history=false"])
    random = np.random.default_rng(options.seed)
    results: dict[str, object] = {"items": options.items, "index": options.index}
    vocabulary = Vocabulary([f"item-{number}" for number in range(options.items)])
    clusters = max(1, round(options.items**0.5))
    train = sequences_within_clusters(options.users, clusters, options.items, random)
    held_out = sequences_within_clusters(TESTED_USERS, clusters, options.items, random)
    tested = EvaluationSet(held_out, held_out)
    counts = np.bincount(train.items, minlength=vocabulary.num_rows)
    data = InteractionDataset("synthetic", Catalogue(vocabulary, {}, None, counts), train, tested, tested)
    forget_memory()
    base = most_memory()
    kind = InterestsKind()
    model = kind.build(config, data)
    batches = kind.batches(model, data, config).from_step(0)
    ready_to_train(model, next(iter(batches.take(1))), config, options.steps)
    table = options.items * config.model.dimension * BYTES / 1e9
    model.fit(batches, steps_per_epoch=16, verbose=0)
    start = time.perf_counter()
    model.fit(batches, steps_per_epoch=options.steps, verbose=0)
    results |= {
        "table": round(table, 2),
        "data_memory": round(base, 2),
        "step_milliseconds": round(1e3 * (time.perf_counter() - start) / options.steps, 3),
        "training_memory": round(most_memory(), 2),
        "training_over_table": round((most_memory() - base) / table, 2),
    }
    print(json.dumps(results), flush=True)
    targets = {f"training holds at most {MOST_TABLES} tables beside the data": (most_memory() - base) / table <= MOST_TABLES}
    free_optimizer(model)
    del batches
    gc.collect()
    cluster(model.item_tower.tables()[""], clusters, random)
    results |= evaluated(CatalogueEvaluator(model, data.catalogue, config.evaluation, config.index.allotment()), tested)
    print(json.dumps(results), flush=True)
    if options.index != "none":
        with tempfile.TemporaryDirectory(prefix="tfmi-large-") as temporary:
            folder = (options.keep or Path(temporary)) / "large"
            results |= exported(model, data, held_out, folder, options.index)
            print(json.dumps(results), flush=True)
            if options.serve:
                del model  # a server has the memory to itself
                gc.collect()
                results["served"] = served(folder, options.threads)
    report("large_catalogue", results, targets)


if __name__ == "__main__":
    main()

"""Recommendations for a whole file of users: ``training/recommend_users.py`` from Parquet to Parquet.

The model is MIND, untrained but for its item vectors, which lie in clusters as training leaves them; a user's history is made of a few
items, each clicked several times. The bound is what no program around the model could do without: the bare search of the same interests by
the index's own operation, as many at a time, with nothing before or after it. Users per second are those of as many cores as there are
threads, by processor time, which other work on the machine disturbs little; "by_the_clock" is beside them.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import tensorflow as tf

from benchmarks.common import benchmark_arguments, limit_threads, report
from benchmarks.index_recall_latency import clustered_items
from benchmarks.synthetic import synthetic_sequences
from tfmi.bulk.asking import answers_of, fields_of
from tfmi.bulk.parts import write_answers
from tfmi.bulk.user_file import UserFile
from tfmi.config import ExportConfig, IndexConfig
from tfmi.data.dataset import FIRST_INDEX, Catalogue, EvaluationSet, InteractionDataset, Vocabulary
from tfmi.export import ExportedModel, export_savedmodel
from tfmi.index.base import InterestIndex
from tfmi.index.build import build_index
from tfmi.index.recall import RecallProbe
from tfmi.index.scann import ScannIndex
from tfmi.index.widening import widen_search
from tfmi.models.retrieval.build_retriever import build_model
from tfmi.models.systems import load_config

TRAINED_USERS = 1_000
TASTES, REPEATS = 4, 4


def published(
    folder: Path, items: np.ndarray, kind: str, system: str, random: np.random.Generator, *, num_results: int = 50
) -> ExportedModel:
    """An export of a model with these item vectors."""
    config = load_config(system=system)
    num_items = len(items) - FIRST_INDEX
    clicks = synthetic_sequences(TRAINED_USERS, num_items, random)
    counts = np.bincount(clicks.items, minlength=len(items))
    catalogue = Catalogue(Vocabulary(f"item-{item}" for item in range(num_items)), {}, None, counts)
    users = EvaluationSet(clicks, clicks)
    model = build_model(config, InteractionDataset("synthetic", catalogue, clicks, users, users))
    (table,) = [variable for variable in model.item_tower.variables if variable.shape == items.shape]
    table.assign(items)
    export = ExportConfig(num_results=num_results, warmup_batch_sizes=[1], state=False, item_details=False, sample_users=0)
    version = export_savedmodel(model, catalogue, folder, export=export, index=IndexConfig.model_validate({"kind": kind}), histories=clicks)
    return ExportedModel(version)


def users_file(path: Path, users: int, num_items: int, random: np.random.Generator) -> list[list[str]]:
    """Write users with their histories, and return these."""
    tastes = random.integers(0, num_items, (users, TASTES))
    histories = [[f"item-{item}" for item in row] * REPEATS for row in tastes]
    pyarrow.parquet.write_table(pa.table({"user_id": [f"user-{user}" for user in range(users)], "history": histories}), path)
    return histories


def bare_search(index: InterestIndex, interests: np.ndarray, n: int, batch_size: int) -> tuple[float, float]:
    """Processor seconds and seconds by the clock of searching for all of ``interests`` [U, K, d], as many users at a time."""
    search = index.search_scann if isinstance(index, ScannIndex) else index.search
    traced = tf.function(lambda queries: search(queries, n), autograph=False)
    searched = traced.get_concrete_function(tf.TensorSpec([None, index.dimension]))
    batches = [tf.constant(interests[i : i + batch_size].reshape(-1, index.dimension)) for i in range(0, len(interests), batch_size)]
    searched(batches[0])
    processor, clock = time.process_time(), time.perf_counter()
    for batch in batches:
        searched(batch)
    return time.process_time() - processor, time.perf_counter() - clock


def main() -> None:
    """Export, write users, recommend, search."""
    parser = benchmark_arguments(__doc__ or "", repeats=1)
    parser.set_defaults(threads=2)
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--results", type=int, nargs="+", default=[20, 50, 100], help="--top")
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--system", default="mind")
    parser.add_argument("--index", choices=("scann", "exact", "partitioned"), default="scann")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    logging.disable(logging.INFO)
    random = np.random.default_rng(arguments.seed)
    cores = arguments.threads
    items = clustered_items(arguments.items, load_config(system=arguments.system).model.dimension, random)
    by_results = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        print(f"exporting {arguments.items:,} items with the index {arguments.index} ...", flush=True)
        model = published(folder / "model", items, arguments.index, arguments.system, random)
        histories = users_file(folder / "users.parquet", arguments.users, arguments.items, random)
        fields = fields_of(model)
        request = fields.request({"history": histories}, arguments.users)
        interests = [
            model.predict("user_interests", {"history": request["history"][start : start + arguments.batch_size]})["interests"]
            for start in range(0, arguments.users, arguments.batch_size)
        ]
        index = build_index(arguments.index, items)
        found = np.concatenate(interests)
        if index.is_approximate:
            probe = RecallProbe(build_index("exact", items), found[:512].reshape(-1, index.dimension)[:512], 100)
            widen_search(index, probe, IndexConfig().target_recall)
        for n in arguments.results:
            answers = answers_of(model, arguments.batch_size, n)
            source = UserFile(folder / "users.parquet", fields, user_column="user_id", rejects_path=folder / "rejects.csv")
            next(iter(answers.answer(next(iter(source.chunks())).rows(0, 64))))
            processor, clock = time.process_time(), time.perf_counter()
            write_answers(answers, source, folder / f"answers-{n}", settings={}, part_rows=100_000, progress=False)
            processor, clock = time.process_time() - processor, time.perf_counter() - clock
            bound, bound_by_the_clock = bare_search(index, found, n, arguments.batch_size)
            by_results[n] = {
                "users_per_second": round(cores * arguments.users / processor),
                "users_per_second_by_the_clock": round(arguments.users / clock),
                "bare_search_per_second": round(cores * arguments.users / bound),
                "bare_search_per_second_by_the_clock": round(arguments.users / bound_by_the_clock),
                "times_bare_search": round(processor / bound, 2),
            }
            print(f"{n} items each: {by_results[n]}", flush=True)
    report(
        "bulk_recommendations",
        {
            "items": arguments.items,
            "users": arguments.users,
            "system": arguments.system,
            "interests": found.shape[1],
            "dimension": found.shape[2],
            "index": arguments.index,
            "batch_size": arguments.batch_size,
            "threads": cores,
            "results": by_results,
        },
        {f"10,000 users a second, {n} items each": each["users_per_second"] >= 10_000 for n, each in by_results.items()},
    )


if __name__ == "__main__":
    main()

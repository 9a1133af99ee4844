"""One request to an exported model of two stages beside the same retriever exported alone.

Both are built over the same random catalogue with a category and a brand, untrained, since weights do not change what is computed, and
exported with the same widths. Requests go to the signature ``recommend`` of the loaded SavedModels, in turns: with K interests, retrieval
alone finds n items for each, two stages find ``--pool`` x n and rank as many. "rank" is the signature that ranks given candidates, as
many as are in a pool: what the second stage costs by itself. With one thread, times are those of processor time.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.common import benchmark_arguments, limit_threads, median_processor_seconds, median_seconds, report
from benchmarks.synthetic import synthetic_sequences
from tfmi.config import ExportConfig, IndexConfig
from tfmi.data.dataset import FIRST_INDEX, Catalogue, CategoricalFeature, EvaluationSet, InteractionDataset, Sequences, Vocabulary
from tfmi.data.impressions.impression_dataset import ImpressionRows, RankingDataset
from tfmi.export import ExportedModel, export_savedmodel
from tfmi.models.ranking.build_ranker import build_ranker
from tfmi.models.retrieval.build_retriever import build_model
from tfmi.models.systems import load_config

USERS = 1_000
CATEGORIES, BRANDS = 50, 1_000
EXCLUSIONS = 50


def random_catalogue(items: int, sequences: Sequences, random: np.random.Generator) -> Catalogue:
    """Items with a category and a brand each."""

    def feature(name: str, values: int) -> CategoricalFeature:
        indices = random.integers(FIRST_INDEX, values + FIRST_INDEX, items + FIRST_INDEX).astype(np.int32)
        indices[:FIRST_INDEX] = 0
        return CategoricalFeature(Vocabulary(f"{name}-{value}" for value in range(values)), indices)

    counts = np.bincount(sequences.items, minlength=items + FIRST_INDEX)
    ids = Vocabulary(f"item-{item}" for item in range(items))
    return Catalogue(ids, {"category": feature("category", CATEGORIES), "brand": feature("brand", BRANDS)}, None, counts)


def ranking_dataset(items: int, random: np.random.Generator) -> RankingDataset:
    """A catalogue and clicks; no impressions, since nothing is trained."""
    clicks = synthetic_sequences(USERS, items, random)
    catalogue = random_catalogue(items, clicks, random)
    nothing = np.zeros(0, np.int64)
    rows = ImpressionRows(nothing, nothing, nothing, nothing, nothing, nothing)
    users = EvaluationSet(clicks, clicks)
    return RankingDataset(catalogue, clicks, rows, rows, rows, InteractionDataset("synthetic", catalogue, clicks, users, users), {})


def requests(dataset: RankingDataset, width: int, candidates: int, users: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Histories and exclusions of real items, and candidates, for ``users`` users."""
    ids = np.array(dataset.catalogue.vocabulary.ids, dtype=object)
    histories = ids[random.integers(0, len(ids), (users, width))]
    return {
        "history": histories,
        "exclude": np.concatenate([histories, np.full((users, EXCLUSIONS - width), "", dtype=object)], axis=1),
        "diversity": np.zeros(users, np.float32),
        "candidates": ids[random.integers(0, len(ids), (users, candidates))],
    }


def main() -> None:
    """Export, measure, report."""
    parser = benchmark_arguments(__doc__ or "", repeats=300)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--results", type=int, default=50, help="n")
    parser.add_argument("--pool", type=int, default=4, help="the ranker ranks so many times n candidates")
    parser.add_argument("--retriever", default="comirec_sa", help="a system that retrieves")
    parser.add_argument("--ranker", default="mgipf", help="a system that ranks")
    parser.add_argument("--index", choices=("scann", "exact", "partitioned"), default="scann")
    parser.add_argument("--users", type=int, nargs="+", default=[1, 8], help="users per request")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    logging.disable(logging.INFO)
    # Configurations come first: checking one would disturb layers that are there already.
    retrieval, ranking = load_config(system=arguments.retriever), load_config(system=arguments.ranker)
    random = np.random.default_rng(arguments.seed)
    dataset = ranking_dataset(arguments.items, random)
    retriever, ranker = build_model(retrieval, dataset.retrieval), build_ranker(ranking, dataset)
    export = ExportConfig(
        num_results=arguments.results, exclusion_width=EXCLUSIONS, ranking_pool=arguments.pool, warmup_batch_sizes=arguments.users
    )
    pool = arguments.pool * arguments.results
    milliseconds: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        models = {}
        for name, second in (("retrieval", None), ("two_stage", ranker)):
            print(f"exporting {name} ...", flush=True)
            version = export_savedmodel(
                retriever, dataset.catalogue, Path(folder) / name, export=export, index=IndexConfig(kind=arguments.index), ranker=second
            )
            models[name] = ExportedModel(version)
        for users in arguments.users:
            made = [requests(dataset, retrieval.data.history_length, pool, users, random) for _ in range(arguments.repeats)]
            asked = [{name: values for name, values in request.items() if name != "candidates"} for request in made]
            given = [{name: request[name] for name in ("history", "candidates")} for request in made]
            contenders = {
                "retrieval": lambda run, asked=asked: models["retrieval"].predict("recommend", asked[run]),
                "two_stage": lambda run, asked=asked: models["two_stage"].predict("recommend", asked[run]),
                "rank": lambda run, given=given: models["two_stage"].predict("rank", given[run]),
            }
            measure = median_processor_seconds if arguments.threads == 1 else median_seconds
            seconds = measure(contenders, arguments.repeats, warm_up=10)
            milliseconds[str(users)] = {name: round(1e3 * value, 3) for name, value in seconds.items()}
    report(
        "two_stage_latency",
        {
            "items": arguments.items,
            "results": arguments.results,
            "pool": min(pool, arguments.items),
            "retriever": arguments.retriever,
            "ranker": arguments.ranker,
            "backbone": ranker.describe()["backbone"],
            "index": arguments.index,
            "threads": arguments.threads,
            "milliseconds": milliseconds,
            "times_retrieval_alone": {users: round(each["two_stage"] / each["retrieval"], 2) for users, each in milliseconds.items()},
        },
        {},
    )


if __name__ == "__main__":
    main()

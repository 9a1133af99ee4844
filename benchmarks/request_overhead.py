"""What a signature adds to the search: a request to an exported model of K interests beside the bare search of the same interests.

The export is MIND with item vectors that lie in clusters as training leaves them, and ids alone. Requests of one user go to ``recommend``
and ``serving_default`` of the loaded SavedModel as a server runs them, from tensors to tensors; the bare search is the operation of the
model's own index, with the parameters that the export searches with, on the interests that the same histories have. "user_interests" is
what comes before the search: strings looked up, and interests made of them. Contenders take turns of ``--in-a-row`` requests in one
process; with one thread, times are those of processor time.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import tensorflow as tf

from benchmarks.bulk_recommendations import REPEATS, TASTES, published
from benchmarks.common import benchmark_arguments, limit_threads, median_processor_seconds, median_seconds, report
from benchmarks.index_recall_latency import clustered_items
from tfmi.index.scann import load_scann_ops
from tfmi.models.systems import load_config

USERS = 200


def bare_scann(model: Any, parameters: dict[str, Any], n: int) -> Callable[[tf.Tensor], Any]:
    """A compiled call of ScaNN's operation, queries [K, d] to positions [K, n], on the searcher that the loaded ``model`` holds."""
    ops = load_scann_ops()
    (state,) = [resource._state for resource in model.resources if hasattr(resource, "_state")]
    candidates = max(n * parameters["reordering_per_result"], parameters["reordering_candidates"])

    def search(queries: tf.Tensor) -> tf.Tensor:
        searcher = ops.tensors_to_scann(
            state.dataset,
            state.scann_config,
            state.serialized_partitioner,
            state.datapoint_to_token,
            state.ah_codebook,
            state.hashed_dataset,
            state.int8_dataset,
            state.int8_multipliers,
            state.dp_norms,
            shared_name="bare",
        )
        return ops.scann_search_batched(searcher, queries, n, candidates, parameters["leaves_to_search"], parallel=True)[0]

    return tf.function(search, autograph=False).get_concrete_function(tf.TensorSpec([None, None]))


def requests(num_items: int, width: int, exclusions: int, random: np.random.Generator) -> list[dict[str, tf.Tensor]]:
    """A request of ``recommend`` for each of some users: a history of a few items clicked several times, and nothing to leave out."""
    made = []
    for tastes in random.integers(0, num_items, (USERS, TASTES)):
        clicked = [f"item-{item}" for item in tastes] * REPEATS
        history = (clicked + [""] * width)[:width]
        made.append({"history": tf.constant([history]), "exclude": tf.constant([[""] * exclusions]), "diversity": tf.zeros([1])})
    return made


def main() -> None:
    """Export, ask, search."""
    parser = benchmark_arguments(__doc__ or "", repeats=300)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--results", type=int, default=50, help="n")
    parser.add_argument("--system", default="mind", help="a system that retrieves, with several interests")
    parser.add_argument("--in-a-row", type=int, default=10, help="requests of a contender before the next one has its turn")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    logging.disable(logging.INFO)
    random = np.random.default_rng(arguments.seed)
    config = load_config(system=arguments.system)
    items = clustered_items(arguments.items, config.model.dimension, random)
    with tempfile.TemporaryDirectory() as folder:
        print(f"exporting {arguments.items:,} items ...", flush=True)
        exported = published(Path(folder) / "model", items, "scann", arguments.system, random, num_results=arguments.results)
        model, metadata = exported._model, exported.metadata
        widths, parameters = metadata["widths"], metadata["index"]["parameters"]
        made = requests(arguments.items, widths["history_length"], widths["exclusion_width"], random)
        signatures = {name: model.signatures[name] for name in ("recommend", "serving_default", "user_interests")}
        interests = [signatures["user_interests"](history=request["history"])["interests"][0] for request in made]
        bare = bare_scann(model, parameters, arguments.results)
        contenders: dict[str, Callable[[int], object]] = {
            "recommend": lambda call: signatures["recommend"](**_inputs(made[call % USERS], "history", "exclude", "diversity")),
            "serving_default": lambda call: signatures["serving_default"](history=made[call % USERS]["history"]),
            "user_interests": lambda call: signatures["user_interests"](history=made[call % USERS]["history"]),
            "bare_search": lambda call: bare(interests[call % USERS]),
        }
        turns = max(3, arguments.repeats // arguments.in_a_row)
        by_the_clock = median_seconds(contenders, turns, in_a_row=arguments.in_a_row)
        seconds = median_processor_seconds(contenders, turns, in_a_row=arguments.in_a_row) if arguments.threads == 1 else by_the_clock
    times = {name: round(seconds[name] / seconds["bare_search"], 3) for name in ("recommend", "serving_default")}
    report(
        "request_overhead",
        {
            "items": arguments.items,
            "results": arguments.results,
            "system": arguments.system,
            "interests": int(interests[0].shape[0]),
            "parameters": parameters,
            "threads": arguments.threads,
            "in_a_row": arguments.in_a_row,
            "milliseconds": {name: round(1e3 * value, 3) for name, value in seconds.items()},
            "milliseconds_by_the_clock": {name: round(1e3 * value, 3) for name, value in by_the_clock.items()},
            "times_bare_search": times,
        },
        {"recommend takes at most 1.3 times the bare search": times["recommend"] <= 1.3},
    )


def _inputs(request: dict[str, tf.Tensor], *names: str) -> dict[str, tf.Tensor]:
    return {name: request[name] for name in names}


if __name__ == "__main__":
    main()

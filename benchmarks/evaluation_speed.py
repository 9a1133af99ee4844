"""Full-catalogue evaluation beside TFRS' ``FactorizedTopK``, on a single-vector model with one target per user.

Both rank the whole catalogue for the same users with the same compiled user model and have to find the same hit rates; tfmi also
computes its other metrics and keeps every user's list. The speed-up is over TFRS with candidates in batches of 128, as its guides write
it. Larger batches suit it better, so the speed-up over the best of those is reported as well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import tensorflow as tf

from benchmarks.common import benchmark_arguments, limit_threads, median_seconds, report
from tfmi.config import EvaluationConfig
from tfmi.data.dataset import Catalogue, EvaluationSet, Sequences, Vocabulary
from tfmi.evaluation.full_catalogue import CatalogueEvaluator
from tfmi.models.recommender import UserInputs

HISTORY_LENGTH = 20
CUTOFFS = (10, 50)
DOCUMENTED_BATCH_SIZE = 128
LARGER_BATCH_SIZES = (4096, 16384)


class MeanOfHistory(tf.Module):
    """A ``VectorRecommender`` with one interest: the mean vector of the history."""

    requested_inputs: tuple[str, ...] = ()

    def __init__(self, num_rows: int, dimension: int, random: np.random.Generator) -> None:
        super().__init__()
        self.history_length, self.num_rows = HISTORY_LENGTH, num_rows
        self.table = tf.Variable(random.standard_normal((num_rows, dimension), dtype=np.float32))

    def user_interests(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor]:
        """Interests [B, 1, d]."""
        mean = tf.reduce_mean(tf.gather(self.table, inputs.history), axis=1)  # [B, d]
        return mean[:, None, :], tf.ones([tf.shape(mean)[0], 1], tf.bool)

    def item_vectors(self) -> tf.Tensor:
        """Item vectors [num_rows, d]."""
        return tf.identity(self.table)


class TfrsEvaluation:
    """``FactorizedTopK`` over all items, compiled, as in the test step of a TFRS model."""

    def __init__(
        self, model: MeanOfHistory, histories: np.ndarray, targets: np.ndarray, batch_size: int, candidates_per_batch: int
    ) -> None:
        import tensorflow_recommenders as tfrs  # after tfmi, which selects Keras 2

        self._users = tf.data.Dataset.from_tensor_slices((histories, targets)).batch(batch_size)
        items = tf.data.Dataset.range(2, model.num_rows).batch(candidates_per_batch)
        embedded = items.map(lambda indices: (indices, tf.gather(model.table, indices)))
        self._metric = tfrs.metrics.FactorizedTopK(candidates=embedded, ks=CUTOFFS)

        def update(history: tf.Tensor, target: tf.Tensor) -> None:
            queries = model.user_interests(UserInputs(history))[0][:, 0]
            self._metric.update_state(queries, tf.gather(model.table, target), true_candidate_ids=target)

        signature = [tf.TensorSpec([None, HISTORY_LENGTH], tf.int32), tf.TensorSpec([None], tf.int64)]
        self._update = tf.function(update, input_signature=signature, autograph=False)

    def evaluate(self) -> dict[int, float]:
        """Hit rate by cutoff."""
        self._metric.reset_states()
        for history, target in self._users:
            self._update(history, target)
        return {cutoff: float(value) for cutoff, value in zip(CUTOFFS, self._metric.result(), strict=True)}


def leave_one_out(users: int, num_rows: int, random: np.random.Generator) -> EvaluationSet:
    """Full histories of random items; half of the users come back to one of theirs, so that there are hits to count."""
    histories = random.integers(2, num_rows, (users, HISTORY_LENGTH), dtype=np.int32)
    elsewhere = random.integers(2, num_rows, users, dtype=np.int32)
    targets = np.where(random.random(users) < 0.5, histories[:, 0], elsewhere)
    rows = np.arange(users, dtype=np.int32)
    return EvaluationSet(
        histories=Sequences(np.arange(users + 1) * HISTORY_LENGTH, histories.reshape(-1), None, None, rows),
        targets=Sequences(np.arange(users + 1), targets, None, None, rows),
    )


def ignoring_run(function: Callable[[], object]) -> Callable[[int], object]:
    """A contender that does the same in every run."""
    return lambda run: function()


def main() -> None:
    """Evaluate with both, compare, report."""
    parser = benchmark_arguments(__doc__ or "", repeats=3)
    parser.add_argument("--users", type=int, default=2048)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=256, help="users at a time, for both")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    random = np.random.default_rng(arguments.seed)
    num_rows = arguments.items + 2
    model = MeanOfHistory(num_rows, arguments.dimension, random)
    examples = leave_one_out(arguments.users, num_rows, random)
    catalogue = Catalogue(Vocabulary(map(str, range(arguments.items))), {}, None, np.zeros(num_rows, dtype=np.int64))
    evaluator = CatalogueEvaluator(model, catalogue, EvaluationConfig(cutoffs=list(CUTOFFS), batch_size=arguments.batch_size))
    histories, targets = examples.histories.padded(HISTORY_LENGTH), examples.targets.items.astype(np.int64)
    peers = {
        size: TfrsEvaluation(model, histories, targets, arguments.batch_size, size) for size in (DOCUMENTED_BATCH_SIZE, *LARGER_BATCH_SIZES)
    }

    print(f"ranking {arguments.items:,} items for {arguments.users:,} users ...", flush=True)
    metrics = evaluator.evaluate(examples)
    hit_rates = {cutoff: metrics[f"hr@{cutoff}"] for cutoff in CUTOFFS}
    peer_hit_rates = [peer.evaluate() for peer in peers.values()]
    contenders = {"tfmi": ignoring_run(lambda: evaluator.evaluate(examples))}
    contenders |= {f"tfrs_{size}": ignoring_run(peer.evaluate) for size, peer in peers.items()}
    seconds = median_seconds(contenders, arguments.repeats, warm_up=0)  # the comparison above has run everything once
    best_peer = min(seconds[f"tfrs_{size}"] for size in LARGER_BATCH_SIZES)
    same = all(abs(rates[cutoff] - hit_rates[cutoff]) < 0.5 / arguments.users for rates in peer_hit_rates for cutoff in CUTOFFS)
    speed_up = seconds[f"tfrs_{DOCUMENTED_BATCH_SIZE}"] / seconds["tfmi"]
    report(
        "evaluation_speed",
        {
            "users": arguments.users,
            "items": arguments.items,
            "dimension": arguments.dimension,
            "threads": arguments.threads,
            "hit_rates": {str(cutoff): rate for cutoff, rate in hit_rates.items()},
            "seconds": {name: round(value, 4) for name, value in seconds.items()},
            "speed_up": round(speed_up, 2),
            "speed_up_over_larger_batches": round(best_peer / seconds["tfmi"], 2),
        },
        {"the same hit rates": same, "at least 10 times faster than FactorizedTopK": speed_up >= 10},
    )


if __name__ == "__main__":
    main()

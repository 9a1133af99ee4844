"""DeepMatch's MIND, as its examples train it: TF1-style graph mode, ``fit`` on arrays in memory, Adam.

Runs in an environment of its own; see ``peer_environment.py``. Its examples are made before the clock starts, where ours are made by the
pipeline while it runs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmarks.contenders.timing import contender_arguments, print_result, stay_on_cores, time_rounds


def read_sequences(path: Path) -> list[np.ndarray]:
    """The item numbers of each user in the order of their positions, from ``user,item,position`` rows."""
    users, items, positions = np.loadtxt(path, delimiter=",", dtype=np.int64).T
    order = np.lexsort((positions, users))
    return np.split(items[order], np.flatnonzero(np.diff(users[order])) + 1)


def make_examples(sequences: list[np.ndarray], count: int, setting: dict[str, Any]) -> dict[str, np.ndarray]:
    """A random user's random item after ``min_history`` others, and up to ``history_length`` items before it, as our pipeline chooses."""
    random = np.random.default_rng(0)
    long_enough = [sequence for sequence in sequences if len(sequence) > setting["min_history"]]
    length = setting["history_length"]
    histories, lengths, targets = np.zeros((count, length), np.int32), np.zeros(count, np.int32), np.zeros(count, np.int32)
    for row, chosen in enumerate(random.integers(0, len(long_enough), count)):
        sequence = long_enough[chosen]
        target = random.integers(setting["min_history"], len(sequence))
        history = sequence[max(0, target - length) : target]
        histories[row, : len(history)], lengths[row], targets[row] = history, len(history), sequence[target]
    return {"hist_item": histories, "hist_len": lengths, "item": targets}


def build(setting: dict[str, Any], num_items: int) -> Any:
    """DeepMatch's MIND with our dimension, interests, layers and negatives; no regularisation, as ours.

    It always ends in a linear layer, which ours has only behind hidden ones.
    """
    from deepctr.feature_column import SparseFeat, VarLenSparseFeat  # type: ignore[import-not-found]
    from deepmatch.models import MIND  # type: ignore[import-not-found]
    from deepmatch.utils import NegativeSampler, sampledsoftmaxloss  # type: ignore[import-not-found]

    rows, dimension = num_items + 1, setting["dimension"]  # 0 pads
    history = SparseFeat("hist_item", rows, embedding_dim=dimension, embedding_name="item")
    model = MIND(
        [VarLenSparseFeat(history, maxlen=setting["history_length"], length_name="hist_len")],
        [SparseFeat("item", rows, embedding_dim=dimension)],
        k_max=setting["num_interests"],
        dynamic_k=setting["adaptive"],
        p=100,  # the hard choice of the best interest
        user_dnn_hidden_units=(*setting["hidden"], dimension),
        l2_reg_embedding=0,
        sampler_config=NegativeSampler("uniform", setting["num_sampled"], "item"),
    )
    model.compile(optimizer="adam", loss=sampledsoftmaxloss)
    return model


def stay_offline() -> None:
    """DeepMatch asks the package index for newer versions when it is imported; here it is told at once that there is no network."""
    import requests

    def refuse(*arguments: Any, **options: Any) -> None:
        raise requests.ConnectionError("benchmarks stay offline")

    requests.get = refuse  # type: ignore[assignment]


def main() -> None:
    """Time rounds of ``fit``."""
    parser = contender_arguments(__doc__)
    parser.add_argument("--data", required=True, help="folder of ComiRec's split files")
    parser.add_argument("--setting", required=True, type=json.loads, help="JSON object")
    parser.add_argument("--steps", type=int, default=1000, help="training steps per round")
    options = parser.parse_args()
    stay_on_cores(options.threads)
    stay_offline()

    import tensorflow as tf

    from benchmarks.common import limit_threads

    limit_threads(options.threads)
    tf.compat.v1.disable_eager_execution()
    sequences = read_sequences(Path(options.data) / "comirec_train.txt")
    batch_size = options.setting["batch_size"]
    inputs = make_examples(sequences, options.steps * batch_size, options.setting)
    labels = np.ones(len(inputs["item"]), np.float32)
    model = build(options.setting, options.setting["num_items"])
    losses: list[float] = []

    def run_round() -> None:
        history = model.fit(inputs, labels, batch_size=batch_size, epochs=1, verbose=0)
        losses.append(float(history.history["loss"][-1]))

    timed = time_rounds(run_round, options.rounds)
    print_result({**timed, "work_per_round": len(labels), "losses": losses, "tensorflow": tf.__version__})


if __name__ == "__main__":
    main()

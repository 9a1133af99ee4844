"""A program: losses of the same steps in one process alone and on two replicas of one CPU, as JSON."""

from __future__ import annotations

import json
import sys

import tensorflow as tf

from tfmi.kinds.retrieval import InterestsKind
from tfmi.models.systems import load_config
from tfmi.training.distribution.cluster import Cluster
from tfmi.training.distribution.joining import join_cluster
from tfmi.training.distribution.twin import TwinPlan, training_state
from tfmi.training.steps import LocalSteps, StepRunner, ready_to_train

STEPS = 50
SETTINGS = (
    "model.dimension=8",
    "model.extractor.num_interests=2",
    "model.objective={name: full_softmax}",
    "model.history_dropout=0",
    "data.embedded.users=300",
    "data.embedded.items=200",
    "data.history_length=8",
    "training.batch_size=32",
    "training.steps_per_execution=1",
)


class Losses(tf.keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.values: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.values.append(float((logs or {})["loss"]))


def main() -> None:
    config = load_config(None, "comirec_sa", list(SETTINGS), {})
    distribution = join_cluster(Cluster("mirrored", {}), replicas=2)
    assert distribution is not None
    kind = InterestsKind()
    data = kind.load_data(config)

    def build() -> tf.keras.Model:
        return kind.build(config, data)

    model = build()
    batches = kind.batches(model, data, config)
    batch = next(iter(batches.from_step(0).take(1)))
    ready_to_train(model, batch, config, STEPS)
    again = ready_to_train(build(), batch, config, STEPS)
    runners: list[StepRunner] = [LocalSteps(model), distribution.runner(TwinPlan(build, batch, config, STEPS), again)]
    curves = []
    for runner in runners:
        losses = Losses()
        runner.load()
        runner.run(batches, 0, STEPS, [losses])
        curves.append(losses.values)
    weights = [float(tf.reduce_max(tf.abs(a - b))) for a, b in zip(model.trainable_weights, again.trainable_weights, strict=True)]
    steps = [int(each.optimizer.iterations.numpy()) for each in (model, again)]
    json.dump(
        {"alone": curves[0], "together": curves[1], "weights": max(weights), "steps": steps, "entries": len(training_state(again))},
        sys.stdout,
    )


if __name__ == "__main__":
    main()

"""Training a small model in a test."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.models.training_step import TrainedByLoss
from tfmi.training.optimizers import RowSparseAdam


def train(
    model: TrainedByLoss, batch: dict[str, Any], *, steps: int, epochs: int = 1, learning_rate: float = 0.02
) -> list[dict[str, float]]:
    """Take steps on one batch, and return what ``fit`` would report of each epoch.

    ``fit`` traces a loop with the step in it, and makes a pipeline; here the step is traced alone, which takes half the time.
    """
    optimizer = RowSparseAdam(learning_rate)
    optimizer.build(model.trainable_variables)  # variables that a trace makes are traced twice
    model.compile(optimizer=optimizer)
    step = tf.function(lambda: model.train_step(batch), autograph=False)
    reports = []
    for _ in range(epochs):
        model.reset_metrics()
        for _ in range(steps):
            report = step()
        reports.append({name: float(value) for name, value in report.items()})
    return reports

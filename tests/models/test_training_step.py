"""What is done to all models that are trained by steps."""

from __future__ import annotations

import tensorflow as tf

from tfmi.models.training_step import TrainedByLoss, free_optimizer
from tfmi.training.optimizers import RowSparseAdam


class Line(TrainedByLoss):
    """``y = w x``."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = tf.Variable([1.0], name="slope")

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return tf.reduce_mean(tf.square(self.slope * inputs["x"] - inputs["y"]))


def test_without_its_optimizer_a_model_can_still_be_used() -> None:
    model = Line()
    model.compile(optimizer=RowSparseAdam(0.1))
    batch = {"x": tf.ones([4]), "y": 3.0 * tf.ones([4])}
    model.fit(tf.data.Dataset.from_tensors(batch), verbose=0)
    slope = model.slope.numpy()
    moment = model.optimizer._momentums[0]
    assert moment.numpy() != 0
    free_optimizer(model)
    assert model.slope.numpy() == slope
    assert float(model.compute_loss(batch)) > 0
    assert moment.read_value().numpy().size == 0

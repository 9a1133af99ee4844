"""Full-catalogue evaluation inside ``model.fit``."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.config import EvaluationConfig
from tfmi.data.dataset import Catalogue, EvaluationSet, UserProfiles
from tfmi.evaluation.full_catalogue import CatalogueEvaluator


class FullCatalogueEvaluation(tf.keras.callbacks.Callback):
    """Puts full-catalogue metrics into the epoch's logs, for ``EarlyStopping``, ``ModelCheckpoint``, TensorBoard and the history.

    Put it before the callbacks that read its metrics::

        model.fit(
            batches,
            callbacks=[
                FullCatalogueEvaluation(dataset.valid, dataset.catalogue),
                tf.keras.callbacks.EarlyStopping("val_recall@50", mode="max", patience=3),
            ],
        )

    Args:
        examples: The users to test on.
        catalogue: The items.
        config: Cutoffs and options; by default those of ``EvaluationConfig``.
        profiles: Users' features, for models trained with any.
        every_steps: Evaluate after this many training batches instead of at the end of every epoch; an epoch's logs then hold the
            newest metrics, if there are any yet.
        prefix: Begins the metrics' names in the logs.

    Attributes:
        results: (training batches so far, metrics) of every evaluation, in order.
    """

    def __init__(
        self,
        examples: EvaluationSet,
        catalogue: Catalogue,
        *,
        config: EvaluationConfig | None = None,
        profiles: UserProfiles | None = None,
        every_steps: int | None = None,
        prefix: str = "val_",
    ) -> None:
        super().__init__()
        self.examples = examples
        self.catalogue = catalogue
        self.config = config or EvaluationConfig()
        self.profiles = profiles
        self.every_steps = every_steps
        self.prefix = prefix
        self.results: list[tuple[int, dict[str, float]]] = []
        self._evaluator: CatalogueEvaluator
        self._steps = self._steps_before_epoch = 0
        self._next_evaluation = every_steps or 0

    def set_model(self, model: tf.keras.Model) -> None:
        """Called by Keras: the model to evaluate, a ``VectorRecommender``."""
        super().set_model(model)
        self._evaluator = CatalogueEvaluator(model, self.catalogue, self.config)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        self._steps_before_epoch = self._steps

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras after every call of the compiled loop, which may have taken several steps."""
        self._steps = self._steps_before_epoch + batch + 1
        if self.every_steps is not None and self._steps >= self._next_evaluation:
            self._evaluate()
            self._next_evaluation = (self._steps // self.every_steps + 1) * self.every_steps

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras; adds the metrics to ``logs``."""
        if self.every_steps is None:
            self._evaluate()
        if logs is not None and self.results:
            logs.update({self.prefix + name: value for name, value in self.results[-1][1].items()})

    def _evaluate(self) -> None:
        self.results.append((self._steps, self._evaluator.evaluate(self.examples, self.profiles)))

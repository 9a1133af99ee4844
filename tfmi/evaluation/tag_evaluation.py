"""How well a model of tags orders labelled items, and how well it predicts the tags of later events, beside two heuristic baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, Sequences
from tfmi.data.tags.tag_batches import StateGatherer, tag_batches
from tfmi.data.tags.tag_dataset import TagDataset, TagEvaluation, TagRows
from tfmi.evaluation.binary_metrics import auc, log_loss
from tfmi.evaluation.bootstrap import ratio_intervals
from tfmi.evaluation.metrics import per_user_metrics
from tfmi.models.user_tags.user_tag_model import UserTagModel

TAG_METRICS = ("precision", "recall", "ndcg")
# From rows of a TagEvaluation int [b] to float [b, V], the score of every tag.
Scorer = Callable[[np.ndarray], np.ndarray]


class TagEvaluator:
    """Measures a model on a dataset.

    Args:
        model: The model as it is whenever it is measured.
        dataset: Its data.
        cutoffs: The ks of metrics @k.
        batch_size: Rows or users at a time.
    """

    def __init__(self, model: UserTagModel, dataset: TagDataset, cutoffs: Sequence[int], batch_size: int) -> None:
        self.model, self.dataset, self.cutoffs, self.batch_size = model, dataset, list(cutoffs), batch_size
        self.states = StateGatherer(dataset.states)
        self._logits = tf.function(lambda batch: model.logits(batch, training=False), autograph=False)
        self._scores = [tf.function(self._scorer_of(task), autograph=False) for task in range(len(dataset.task_names))]

    def _scorer_of(self, task: int) -> Callable[[Mapping[str, tf.Tensor]], tf.Tensor]:
        return lambda fields: self.model.all_scores(self.model.user_queries(fields), task)

    def validate(self) -> dict[str, float]:
        """All metrics on the validation part, for choosing: of rows, and of all later tags of users with a history, means over tasks."""
        ranked = self.rank(self.dataset.valid_tags, self.model_scores)
        per_task = [_means(values, evaluated) for values, evaluated in ranked]
        return {**self.row_metrics(self.dataset.valid), **mean_over_tasks(per_task)}

    def row_metrics(self, rows: TagRows) -> dict[str, float]:
        """AUC and log-loss on labelled rows.

        Returns:
            ``auc`` and ``log_loss``, means over tasks; ``auc:<task>`` and ``log_loss:<task>`` on the rows of weight above 0; and with
            several tasks ``auc:<task>|<task before>`` on the rows on which the action before happened, by the task's own logit.
        """
        batches = tag_batches(rows, self.states, batch_size=self.batch_size).in_order()
        own = np.concatenate([self._logits({"fields": batch["fields"], "tags": batch["tags"]}).numpy() for batch in batches])
        logits = self.model.loss_of_tasks.action_logits(tf.constant(own)).numpy()
        names, metrics = self.dataset.task_names, {}
        for task, name in enumerate(names):
            counts = rows.weights[:, task] > 0
            metrics[f"auc:{name}"] = auc(rows.labels[counts, task], logits[counts, task])
            metrics[f"log_loss:{name}"] = log_loss(rows.labels[counts, task], logits[counts, task])
            happened = rows.labels[:, task - 1] > 0
            if task > 0 and happened.any():
                metrics[f"auc:{name}|{names[task - 1]}"] = auc(rows.labels[happened, task], own[happened, task])
        means = {kind: float(np.mean([metrics[f"{kind}:{name}"] for name in names])) for kind in ("auc", "log_loss")}
        return {**means, **metrics}

    def model_scores(self, evaluation: TagEvaluation, task: int) -> Scorer:
        """The model's own scores."""
        return lambda rows: self._scores[task](self.states.fields(tf.constant(evaluation.states[rows], tf.int32))).numpy()

    def popular_scores(self, evaluation: TagEvaluation, task: int) -> Scorer:
        """Tags by how many training events of the task they have, the same for everybody."""
        del evaluation
        counts = self.dataset.tag_counts[task].astype(np.float64)
        return lambda rows: np.repeat(counts[None], len(rows), axis=0)

    def own_scores(self, evaluation: TagEvaluation, task: int) -> Scorer:
        """A user's own tags by how many events of the task had them; ties, and then all others, by popularity."""
        counts = self.dataset.tag_counts[task].astype(np.float64)
        popularity, own = counts / (counts.max() + 1.0), evaluation.own[task]

        def score(rows: np.ndarray) -> np.ndarray:
            scores = np.repeat(popularity[None], len(rows), axis=0)
            row, tags, weights = _entries(own, rows)
            scores[row, tags] += weights
            return scores

        return score

    def rank(
        self, evaluation: TagEvaluation, scorer_of: Callable[[TagEvaluation, int], Scorer], *, only_new: bool = False
    ) -> list[tuple[dict[str, np.ndarray], np.ndarray]]:
        """Per task, ``precision``, ``recall`` and ``ndcg`` at every cutoff, float64 [users] each; and bool [users], whom they count for:
        users with a history and something to predict.

        Args:
            evaluation: Users, and what they did later.
            scorer_of: What tags are ranked by.
            only_new: Predict tags that a user had not seen before: those that the user had are neither answers nor targets.
        """
        ranked = []
        for task in range(len(self.dataset.task_names)):
            targets = evaluation.new_targets(task) if only_new else evaluation.targets[task]
            left_out = evaluation.own if only_new else ()
            answers = self._answers(scorer_of(evaluation, task), len(evaluation), left_out)
            values = per_user_metrics(answers, targets, self.cutoffs)
            kept = {name: value for name, value in values.items() if name.partition("@")[0] in TAG_METRICS}
            ranked.append((kept, evaluation.has_history() & (targets.lengths() > 0)))
        return ranked

    def tag_intervals(self, evaluation: TagEvaluation) -> dict[str, list[float]]:
        """95 % intervals of the model's metrics of all later tags, means over tasks: a bootstrap over the users that some task counts.

        Tasks whose users differ are weighed as their means are: each counts as much as another.
        """
        ranked = self.rank(evaluation, self.model_scores)
        anybody = np.any([evaluated for _, evaluated in ranked], axis=0)
        if not anybody.any() or not all(evaluated.any() for _, evaluated in ranked):
            return {}
        shares = [evaluated[anybody] / evaluated.sum() for _, evaluated in ranked]
        users = int(anybody.sum())
        values = {
            name: np.mean([share * per_task[name][anybody] * users for share, (per_task, _) in zip(shares, ranked, strict=True)], axis=0)
            for name in ranked[0][0]
        }
        weights = np.mean(shares, axis=0) * users
        return ratio_intervals({name: (value, weights) for name, value in values.items()})

    def answers_of(self, evaluation: TagEvaluation, task: int) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        """The model's tags for everybody, int32 [users, W], best first; and values and whom they count for, as ``rank`` gives them."""
        answers = self._answers(self.model_scores(evaluation, task), len(evaluation), ())
        values = per_user_metrics(answers, evaluation.targets[task], self.cutoffs)
        return answers, values, evaluation.has_history() & (evaluation.targets[task].lengths() > 0)

    def _answers(self, scorer: Scorer, num_users: int, left_out: Sequence[Sequences]) -> np.ndarray:
        """int32 [users, W]: the best tags of each user, best first, ties by index; 0 where there are fewer."""
        width = max(self.cutoffs)
        answers = np.zeros((num_users, width), np.int32)
        for first in range(0, num_users, self.batch_size):
            rows = np.arange(first, min(first + self.batch_size, num_users))
            scores = np.array(scorer(rows), np.float64)
            scores[:, :FIRST_INDEX] = -np.inf
            for own in left_out:
                row, tags, _ = _entries(own, rows)
                scores[row, tags] = -np.inf
            best = np.argsort(-scores, axis=1, kind="stable")[:, :width]
            real = np.isfinite(np.take_along_axis(scores, best, axis=1))
            answers[rows, : best.shape[1]] = np.where(real, best, 0)
        return answers

    def tag_metrics(self, evaluation: TagEvaluation) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
        """The model beside popular tags and own-history tags.

        Returns:
            By task; by what is to be predicted, ``all`` later tags or the ``new`` ones alone; by ``model``, ``popular_tags`` and
            ``own_tags``: the mean metrics, and ``users``, how many they are over.
        """
        scorers = {"model": self.model_scores, "popular_tags": self.popular_scores, "own_tags": self.own_scores}
        metrics: dict[str, dict[str, dict[str, dict[str, float]]]] = {task: {} for task in self.dataset.task_names}
        for kind in ("all", "new"):
            for name, scorer_of in scorers.items():
                ranked = self.rank(evaluation, scorer_of, only_new=kind == "new")
                for task, (values, evaluated) in zip(self.dataset.task_names, ranked, strict=True):
                    metrics[task].setdefault(kind, {})[name] = {"users": float(evaluated.sum()), **_means(values, evaluated)}
        return metrics


def mean_over_tasks(per_task: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every metric."""
    return {name: float(np.mean([metrics[name] for metrics in per_task])) for name in per_task[0]}


def _means(values: Mapping[str, np.ndarray], evaluated: np.ndarray) -> dict[str, float]:
    return {name: float(value[evaluated].mean()) if evaluated.any() else float("nan") for name, value in values.items()}


def _entries(sequences: Sequences, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of consecutive ``rows``: int64 positions in ``rows``, and the items and weights of these."""
    start, end = sequences.offsets[rows[0]], sequences.offsets[rows[-1] + 1]
    positions = np.repeat(np.arange(len(rows)), sequences.lengths()[rows])
    weights = np.ones(end - start) if sequences.weights is None else sequences.weights[start:end]
    return positions, sequences.items[start:end], weights

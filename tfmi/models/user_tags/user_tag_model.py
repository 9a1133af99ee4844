"""User-tag profiles: which tags interest a user, learned from what was done with items that carry them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX
from tfmi.layers.common.arguments import require_above, require_choice
from tfmi.layers.common.fields import FieldEmbedding
from tfmi.layers.common.randomness import RandomStream
from tfmi.layers.user_encoders.tag_tower import TagTower
from tfmi.layers.user_encoders.user_encoder import UserEncoder
from tfmi.losses.tasks.task_losses import TaskLoss
from tfmi.models.training_step import Batch, TrainedByLoss

FieldTensors = Mapping[str, tf.Tensor]


class ExpertShares(NamedTuple):
    """What each of the E experts has to say about a tag; 0 at experts that the task does not use, and for unknown tags.

    Attributes:
        gates: float32 [B, E]: how much the tag listens to each.
        shares: float32 [B, E]: what each adds to the score, of which they are the sum.
    """

    gates: tf.Tensor
    shares: tf.Tensor


class UserTagModel(TrainedByLoss):
    r"""Two towers for users and tags, and one binary task per action. Only the item's label is known, so its tags explain it together::

        t       = sum or mean of the tag tower's vectors of the item's tags                         [B, d]
        score_a = E_a(u, t) . t,    E_a(u, t) = sum over k in S_a of g_a,k(t) E_k                   "dot"
                = sigma_a  sum over k in S_a of g_a,k(t) cos(E_k, t)                                "expert_cosine"
                = sigma_a  cos(E_a(u, t), t)                                                        "cosine"
        logit_a = score_a + b_a

    with E the user encoder's vectors, S_a and g_a its experts and gate for a task. The first two are linear in the vectors E_k: they are
    the inner product of ``task_query`` and ``tag_items``, which an index can search. The norm of a mixture depends on user and tag
    alike, so that the third is not, unless a task has a single expert. Cosines need a scale and an offset: without, no probability would
    be below 0.27 or above 0.73. All scores are computed in float32.

    Papers: Yan et al., "Learning to Build User-tag Profile in Recommendation System", CIKM 2020 (a sum of tags, dot); Xu et al., "Mixture
    of Virtual-Kernel Experts for Multi-Objective User Profile Modeling", KDD 2022.

    Args:
        field_embedding: The user's fields.
        user_encoder: From fields to vectors.
        tag_tower: From tags to vectors, as wide as the users', for as many tasks.
        loss: Of the tasks' logits.
        task_names: What the tasks are called in reports, in their order.
        tag_reduce: An item is the "sum" or the "mean" of its tags. By the mean, a single tag, as it is served, is of the size of an item.
        scoring: "dot", "expert_cosine" or "cosine".
        initial_scale: sigma_a of cosines at the start.
        global_bias: Whether "dot" has b_a, too; cosines always have.
        per_tag_labels: Train on every tag with the label of its item, instead of on the item.
        tag_dropout_to_one: Probability in training that an item is only one of its tags, chosen at random.
        shared_tag_field: A field whose table of embeddings is the tags' table, too; None: tags have their own.
        seed: Seed of the chosen tags.

    Batches: ``fields``, a mapping as the field embedding takes it; ``tags`` int32 [B, N], 0 pads; ``labels`` and ``weights`` float32
    [B, A].

    Raises:
        ValueError: An argument out of its range, or parts that do not fit together.
    """

    def __init__(
        self,
        *,
        field_embedding: FieldEmbedding,
        user_encoder: UserEncoder,
        tag_tower: TagTower,
        loss: TaskLoss,
        task_names: Sequence[str],
        tag_reduce: Literal["sum", "mean"] = "sum",
        scoring: Literal["dot", "expert_cosine", "cosine"] = "dot",
        initial_scale: float = 8.0,
        global_bias: bool = False,
        per_tag_labels: bool = False,
        tag_dropout_to_one: float = 0.0,
        shared_tag_field: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        require_choice(("sum", "mean"), tag_reduce=tag_reduce)
        require_choice(("dot", "expert_cosine", "cosine"), scoring=scoring)
        require_above(0, initial_scale=initial_scale)
        if not 0 <= tag_dropout_to_one <= 1:
            raise ValueError(f"tag_dropout_to_one: expected a probability, got {tag_dropout_to_one}")
        if per_tag_labels and tag_dropout_to_one:
            raise ValueError("tag_dropout_to_one: with per_tag_labels every tag stands alone already")
        _require_fit(user_encoder, tag_tower, task_names)
        loss.check(len(task_names))
        self.field_embedding, self.user_encoder, self.tag_tower, self.loss_of_tasks = field_embedding, user_encoder, tag_tower, loss
        self.task_names = tuple(task_names)
        self.tag_reduce, self.scoring, self.per_tag_labels = tag_reduce, scoring, per_tag_labels
        self.tag_dropout_to_one = tag_dropout_to_one
        if shared_tag_field is not None:
            tag_tower.share_table(field_embedding.table(shared_tag_field))
        num_tasks = len(self.task_names)
        self._log_scales = None if scoring == "dot" else tf.Variable(tf.fill([num_tasks], math.log(initial_scale)), name="log_scales")
        has_bias = global_bias or scoring != "dot"
        self._biases = tf.Variable(tf.zeros([num_tasks]), name="biases") if has_bias else None
        self._choices = RandomStream(seed, "tags that stand for an item")
        self._task_trackers = {name: tf.keras.metrics.Mean(name=f"loss_{name}") for name in self.task_names}

    @property
    def num_tag_rows(self) -> int:
        """Rows of the tag table, padding and unknown included."""
        return self.tag_tower.num_rows

    @property
    def exact_by_inner_product(self) -> bool:
        """Whether ``task_query`` and ``tag_items`` give the model's own scores for every task."""
        return all(self.is_linear(task) for task in range(len(self.task_names)))

    def is_linear(self, task: int) -> bool:
        """Whether one task's score is linear in the users' vectors; see ``exact_by_inner_product``."""
        return self.scoring != "cosine" or len(self.user_encoder.experts_of(task)) == 1

    # Training

    @property
    def part_trackers(self) -> list[tf.keras.metrics.Mean]:
        """Each task's share of the loss, as ``loss_<task>``."""
        return list(self._task_trackers.values())

    def compute_loss(self, inputs: Batch, training: bool = False) -> tf.Tensor:
        """The sum of the tasks' losses on a batch."""
        tags = self._known_tags(inputs["tags"])
        labels, weights = tf.cast(inputs["labels"], tf.float32), tf.cast(inputs["weights"], tf.float32)
        experts = self._experts(inputs["fields"], training)  # [B, E, d]
        if self.per_tag_labels:
            num_tags = tf.shape(tags)[1]
            tags = tf.reshape(tags, [-1, 1])  # [B N, 1]
            experts, labels = tf.repeat(experts, num_tags, axis=0), tf.repeat(labels, num_tags, axis=0)
            weights = tf.repeat(weights, num_tags, axis=0) * tf.cast(tags >= FIRST_INDEX, tf.float32)
        elif training and self.tag_dropout_to_one > 0:
            tags = self._one_tag_at_times(tags)
        shares = self.loss_of_tasks(self._logits(experts, tags, training), labels=labels, weights=weights)
        for tracker, share in zip(self._task_trackers.values(), tf.unstack(shares, num=len(self.task_names)), strict=True):
            tracker.update_state(share)
        return tf.reduce_sum(shares)

    def call(self, inputs: Batch, training: bool | None = None) -> tf.Tensor:
        """Logits of a batch, for ``predict``."""
        return self.logits(inputs, training)

    def logits(self, batch: Batch, training: bool | None = None) -> tf.Tensor:
        """float32 [B, A]: the logit of every task for items by all of their tags. An item without tags has the bias."""
        return self._logits(self._experts(batch["fields"], training), self._known_tags(batch["tags"]), training)

    def _experts(self, fields: FieldTensors, training: bool | None) -> tf.Tensor:
        """E, float32 [B, E, d], of unit length for "expert_cosine"."""
        experts = tf.cast(self.user_encoder(self.field_embedding(fields), training=training), tf.float32)
        return tf.math.l2_normalize(experts, axis=-1) if self.scoring == "expert_cosine" else experts

    def _logits(self, experts: tf.Tensor, tags: tf.Tensor, training: bool | None) -> tf.Tensor:
        logits = []
        for task in range(len(self.task_names)):
            items = self._reduced(tags, task, training)
            logits.append(self._scores(self._of_task(experts, task), items, self.user_encoder.gate(task, items), task))
        stacked = tf.stack(logits, axis=1)
        return stacked if self._biases is None else stacked + self._biases

    def _reduced(self, tags: tf.Tensor, task: int, training: bool | None) -> tf.Tensor:
        """t, float32 [B, d], of tags [B, N]; 0 without any."""
        known = tags >= FIRST_INDEX
        vectors = tf.cast(self.tag_tower(tags, task=task, training=training), tf.float32)
        total = tf.reduce_sum(tf.where(known[..., None], vectors, 0.0), axis=1)
        if self.tag_reduce == "sum":
            return total
        return total / tf.maximum(tf.reduce_sum(tf.cast(known, tf.float32), axis=1, keepdims=True), 1.0)

    @staticmethod
    def _known_tags(tags: tf.Tensor) -> tf.Tensor:
        return tf.where(tags >= FIRST_INDEX, tags, PADDING_INDEX)

    def _one_tag_at_times(self, tags: tf.Tensor) -> tf.Tensor:
        """``tags`` [B, N], of some rows only one."""
        draws = tf.where(tags >= FIRST_INDEX, self._choices.uniform(tf.shape(tags)), -1.0)
        chosen = tf.one_hot(tf.argmax(draws, axis=1), tf.shape(tags)[1], on_value=True, off_value=False)
        one = self._choices.coins([tf.shape(tags)[0]], self.tag_dropout_to_one)
        return tf.where(chosen | ~one[:, None], tags, PADDING_INDEX)

    # Scoring

    def _of_task(self, experts: tf.Tensor, task: int) -> tf.Tensor:
        return tf.gather(experts, list(self.user_encoder.experts_of(task)), axis=-2)

    def _scores(self, experts: tf.Tensor, tags: tf.Tensor, gate: tf.Tensor, task: int) -> tf.Tensor:
        """float32 [...] of a task's experts [..., S, d], tags [..., d] and their gate [..., S]; leading axes broadcast."""
        mixture = tf.matmul(gate[..., None, :], experts)[..., 0, :]  # [..., d]
        if self.scoring == "cosine":
            mixture = tf.math.l2_normalize(mixture, axis=-1)
        return tf.reduce_sum(mixture * self._scaled(tags, task), axis=-1)

    def _scaled(self, tags: tf.Tensor, task: int) -> tf.Tensor:
        """Tags as they are multiplied with users: as they are for "dot"; of unit length times sigma_a for cosines."""
        return tags if self._log_scales is None else tf.exp(self._log_scales[task]) * tf.math.l2_normalize(tags, axis=-1)

    def user_queries(self, fields: FieldTensors) -> tf.Tensor:
        """float32 [B, E d]: all that any task needs of users, the experts one after the other."""
        experts = self._experts(fields, training=False)
        return tf.reshape(experts, [tf.shape(experts)[0], experts.shape[1] * experts.shape[2]])

    def task_query(self, queries: tf.Tensor, task: int) -> tf.Tensor:
        """float32 [B, S d] of ``user_queries``: what to search ``tag_items`` of the task with, by inner product."""
        experts = self._of_task(self._unstacked(queries), task)
        if self.scoring == "cosine" and self.is_linear(task):
            experts = tf.math.l2_normalize(experts, axis=-1)
        return tf.reshape(experts, [tf.shape(experts)[0], experts.shape[1] * experts.shape[2]])

    def tag_items(self, task: int) -> tf.Tensor:
        """float32 [V, S d], by tag index: ``g_a,k(t) t`` for the task's experts one after the other. Rows 0 and 1 are 0 and no answers.

        Where ``exact_by_inner_product`` is False, the inner product lacks the division by the norm of the mixture.
        """
        tags = self._all_tags(task)
        items = self.user_encoder.gate(task, tags)[:, :, None] * self._scaled(tags, task)[:, None, :]  # [V, S, d]
        items = tf.reshape(items, [self.num_tag_rows, items.shape[1] * items.shape[2]])
        return tf.where(tf.range(self.num_tag_rows)[:, None] >= FIRST_INDEX, items, 0.0)

    def _all_tags(self, task: int) -> tf.Tensor:
        return tf.cast(self.tag_tower(tf.range(self.num_tag_rows), task=task, training=False), tf.float32)

    def _unstacked(self, queries: tf.Tensor) -> tf.Tensor:
        dimension = self.user_encoder.dimension
        return tf.reshape(queries, [tf.shape(queries)[0], queries.shape[1] // dimension, dimension])

    def score(self, queries: tf.Tensor, tags: tf.Tensor, task: int) -> tf.Tensor:
        """The model's scores, whatever it scores by.

        Args:
            queries: ``user_queries`` [B, E d].
            tags: int32 [B, C].
            task: Which task's.

        Returns:
            float32 [B, C]: logits without the bias, which is the same for all tags; -inf for indices 0 and 1.
        """
        vectors = tf.cast(self.tag_tower(tags, task=task, training=False), tf.float32)  # [B, C, d]
        experts = self._of_task(self._unstacked(queries), task)[:, None]  # [B, 1, S, d]
        scores = self._scores(experts, vectors, self.user_encoder.gate(task, vectors), task)
        return tf.where(tags >= FIRST_INDEX, scores, -math.inf)

    def all_scores(self, queries: tf.Tensor, task: int) -> tf.Tensor:
        """float32 [B, V]: the ``score`` of every tag; -inf in columns 0 and 1."""
        scores = tf.matmul(self.task_query(queries, task), self.tag_items(task), transpose_b=True)
        if not self.is_linear(task):
            gate = self.user_encoder.gate(task, self._all_tags(task))  # [V, S]
            experts = self._of_task(self._unstacked(queries), task)
            products = tf.matmul(experts, experts, transpose_b=True)  # [B, S, S]
            # |sum of g_k E_k|^2, without a mixture for every pair of user and tag.
            pairs = tf.reshape(gate[:, :, None] * gate[:, None, :], [self.num_tag_rows, -1])
            squared_norms = tf.matmul(tf.reshape(products, [tf.shape(products)[0], -1]), pairs, transpose_b=True)
            scores *= tf.math.rsqrt(tf.maximum(squared_norms, 1e-12))
        return tf.where(tf.range(self.num_tag_rows) >= FIRST_INDEX, scores, -math.inf)

    def probabilities(self, scores: tf.Tensor, task: int) -> tf.Tensor:
        """The probability of a task's action at ``scores`` of that task, of any shape."""
        return tf.sigmoid(scores + self.bias(task))

    def bias(self, task: int) -> tf.Tensor:
        """b_a, float32: what makes a logit of a task's score."""
        return tf.zeros([]) if self._biases is None else self._biases[task]

    def expert_shares(self, queries: tf.Tensor, tags: tf.Tensor, task: int) -> ExpertShares:
        """What each expert adds to a task's scores of tags int32 [B] by users of ``user_queries`` [B, E d]."""
        vectors = tf.cast(self.tag_tower(tags, task=task, training=False), tf.float32)  # [B, d]
        every_expert = self._unstacked(queries)  # [B, E, d]
        gate = self.user_encoder.gate(task, vectors)  # [B, S]
        weighted = gate[..., None] * self._of_task(every_expert, task)  # [B, S, d]
        if self.scoring == "cosine":
            norm = tf.norm(tf.reduce_sum(weighted, axis=1, keepdims=True), axis=-1, keepdims=True)
            weighted = tf.math.divide_no_nan(weighted, norm)
        shares = tf.reduce_sum(weighted * self._scaled(vectors, task)[:, None], axis=-1)  # [B, S]
        places = tf.one_hot(list(self.user_encoder.experts_of(task)), every_expert.shape[1])  # [S, E]
        known = tf.cast(tags >= FIRST_INDEX, tf.float32)[:, None]
        return ExpertShares(known * tf.matmul(gate, places), known * tf.matmul(shares, places))


def _require_fit(encoder: UserEncoder, tower: TagTower, task_names: Sequence[str]) -> None:
    if len(set(task_names)) != len(task_names):
        raise ValueError(f"task_names: expected distinct names, got {list(task_names)}")
    for name, part in (("user_encoder", encoder), ("tag_tower", tower)):
        if part.num_tasks != len(task_names):
            raise ValueError(f"{name}: expected one for the {len(task_names)} tasks {list(task_names)}, got one for {part.num_tasks}")
    if encoder.dimension != tower.dimension:
        raise ValueError(f"tag_tower: tags need the width of users, {encoder.dimension}, got {tower.dimension}")

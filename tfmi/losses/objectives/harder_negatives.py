"""UMI's harder negatives: beside uniform ones, those of a pool that the model takes to be best."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX
from tfmi.layers.base import MASKED_LOGIT, repeat_first_where_inactive
from tfmi.layers.common.randomness import RandomStream
from tfmi.losses.base import OBJECTIVES, BatchContext, Contrast, ItemSpace, Objective, candidate_logits, target_logits
from tfmi.losses.objectives.sampled_softmax import accidental_hits, among_columns, draw_distinct_items, log_share


@OBJECTIVES.register("harder_negatives")
class HarderNegatives(Objective):
    r"""Cross-entropy of the target among uniform negatives, which the batch shares, and hard ones of each example::

        loss = -s_t + log(exp(s_t) + sum over j in U, j != t of exp(s_j) + sum over j in H of exp(s_j))

    H are the ``num_hard`` items of a uniform pool that the model scores highest by the interest nearest to each. The example's target,
    its history and U are not in the pool. Since the pool's scores are computed for the choice, the hard negatives cost no more than
    the pool. There is no correction by log Q: the hard ones are not drawn.

    Hard negatives of a model that knows nothing yet are as good as any, hence ``start_after_steps``. The steps are counted by a
    variable, which a checkpoint carries on.

    The existence of harder negatives is from Chai et al., "User-Aware Multi-Interest Learning for Candidate Matching in Recommenders",
    SIGIR 2022 (UMI), whose published code leaves them out; this recipe for them is ours.

    Args:
        num_uniform: Draws of shared negatives per batch, with replacement; an item drawn twice counts once.
        num_hard: Hard negatives of each example.
        pool_size: Draws of the pool per batch; None takes ``10 * num_hard``. A small catalogue may leave fewer.
        start_after_steps: Training steps without hard negatives; an epoch is a good choice.
        seed: Seed of the draws.

    Raises:
        ValueError: An argument out of its range, or a pool of fewer than ``num_hard`` draws.
    """

    def __init__(
        self,
        num_uniform: int = 1024,
        num_hard: int = 64,
        *,
        pool_size: int | None = None,
        start_after_steps: int = 1000,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        for name, value, minimum in [
            ("num_uniform", num_uniform, 1),
            ("num_hard", num_hard, 1),
            ("start_after_steps", start_after_steps, 0),
        ]:
            if value < minimum:
                raise ValueError(f"{name} must be at least {minimum}, got {value}")
        if pool_size is not None and pool_size < num_hard:
            raise ValueError(f"pool_size must be at least num_hard ({num_hard}), got {pool_size}")
        self.stream = RandomStream(seed, purpose="harder negatives")
        self.steps = self.add_weight("steps", [], dtype=tf.int64, initializer="zeros", trainable=False, experimental_autocast=False)

    def contrast(  # type: ignore[override]  # asks for the context too, see Objective.wants_context
        self,
        queries: tf.Tensor,
        targets: tf.Tensor,
        items: ItemSpace,
        left_out: tf.Tensor | None = None,
        training: bool | None = None,
        *,
        context: BatchContext,
    ) -> Contrast:
        """See ``Objective``. Draws again at every call, and counts those in training."""
        started = self.steps >= self.start_after_steps
        if training:
            self.steps.assign_add(1)
        uniform, pool = self._draw(items.num_rows - FIRST_INDEX)  # [U], [P]
        # One gather for all: an item tower with features then runs once.
        vectors = tf.cast(items.embed(tf.concat([targets, uniform, pool], axis=0)), queries.dtype)
        target_vectors, uniform_vectors, pool_vectors = tf.split(vectors, [tf.size(targets), tf.size(uniform), tf.size(pool)])
        easy = candidate_logits(queries, uniform_vectors) + accidental_hits(targets, uniform, left_out)  # [B, U]
        barred = [targets[:, None], context.history_indices, *([] if left_out is None else [left_out])]
        hard = self._hardest(queries, pool_vectors, among_columns(tf.concat(barred, axis=1), pool), context)
        negatives = tf.concat([easy, tf.where(started, hard, MASKED_LOGIT)], axis=1)
        log_inclusion = log_share(uniform, items.num_rows - FIRST_INDEX)
        return Contrast(target_logits(queries, target_vectors), tf.reduce_logsumexp(negatives, axis=1), log_inclusion)

    def _draw(self, num_items: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Uniform negatives and a pool without any of them, all distinct: int32 [U] and [P]."""
        pool_size = 10 * self.num_hard if self.pool_size is None else self.pool_size
        drawn = draw_distinct_items(self.stream, self.num_uniform + pool_size, num_items, "uniform")
        return drawn[: self.num_uniform], drawn[self.num_uniform :]

    def _hardest(self, queries: tf.Tensor, pool: tf.Tensor, barred: tf.Tensor, context: BatchContext) -> tf.Tensor:
        """float32 [B, min(num_hard, P)]: logits of each example's hardest items of the ``pool`` [P, d]; masked where it has too few."""
        logits = candidate_logits(queries, pool)  # [B, P]
        if queries.shape.rank == 3:
            scores = logits
        else:
            interests = repeat_first_where_inactive(context.interests, context.output.active)
            scores = candidate_logits(tf.cast(interests, pool.dtype), pool)
        scores = tf.where(barred, MASKED_LOGIT, tf.stop_gradient(scores))
        places = tf.math.top_k(scores, k=tf.minimum(self.num_hard, tf.shape(pool)[0]), sorted=False).indices
        return tf.gather(tf.where(barred, MASKED_LOGIT, logits), places, batch_dims=1)

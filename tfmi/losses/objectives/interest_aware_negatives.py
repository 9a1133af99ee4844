"""REMI's interest-aware hard negatives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX
from tfmi.layers.base import MASKED_LOGIT
from tfmi.layers.common.arguments import require_at_least, require_choice
from tfmi.layers.common.randomness import RandomStream
from tfmi.losses.base import OBJECTIVES, Contrast, ItemSpace, Objective
from tfmi.losses.objectives.sampled_softmax import (
    Sampler,
    accidental_hits,
    draw_distinct_items,
    log_expected_counts,
    log_share,
    shared_negative_logits,
)

# Debiasing leaves each negative at least exp of this: less than the smallest logit of cosines at the default temperature, -14.
LOG_SMALLEST_NEGATIVE = -16.0
_NEARLY_ONE = -1e-6  # log of a share from which on debiasing would leave nothing


def log_hard_mean(logits: tf.Tensor, beta: float, log_prior: tf.Tensor | None = None, stop_gradient_weights: bool = False) -> tf.Tensor:
    """float32 [B]: ``log sum_j p_j exp(s_j)`` with ``p`` the softmax of ``beta s + log_prior``, the mean over hard negatives.

    It is the difference of two log-sum-exps, of which the second has most of its work in common with the first, and their gradients all
    of it. Written out, it costs hardly more than one.

    Args:
        logits: float32 s, [B, D]; -inf where a negative is left out. ``MASKED_LOGIT`` results where all are.
        beta: At least 0. 0 gives the mean by ``log_prior``, infinity would give the maximum.
        log_prior: float32 [D], or None for equal ones.
        stop_gradient_weights: Take p as a constant in back-propagation.
    """

    @tf.custom_gradient
    def compute(logits: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        # The maximum of a row without negatives is -inf; anything finite keeps the differences from being no numbers.
        largest = tf.maximum(tf.reduce_max(logits, axis=1, keepdims=True), MASKED_LOGIT)
        below = logits - largest  # [B, D], at most 0
        exponentials = tf.exp(below)
        # 0 times -inf is not a number. With beta 0 only the left out have no weight.
        tilt = beta * below if beta else tf.where(tf.math.is_inf(below), below, 0.0)
        shares = tf.exp(tilt if log_prior is None else tilt + log_prior)  # [B, D], p but for a factor; exactly 0 where left out
        products = shares * exponentials
        share_sum = tf.reduce_sum(shares, axis=1, keepdims=True)
        product_sum = tf.reduce_sum(products, axis=1, keepdims=True)
        some = share_sum > 0
        ratio = tf.where(some, tf.math.divide_no_nan(product_sum, share_sum), 1.0)
        log_mean = tf.where(some, largest + tf.math.log(ratio), MASKED_LOGIT)[:, 0]

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            by_product = tf.math.divide_no_nan(upstream[:, None], product_sum)
            if stop_gradient_weights:
                return products * by_product
            return products * ((1.0 + beta) * by_product) - shares * (beta * tf.math.divide_no_nan(upstream[:, None], share_sum))

        return log_mean, gradient

    log_mean: tf.Tensor = compute(logits)
    return log_mean


def _without_false_negatives(log_mean: tf.Tensor, positive: tf.Tensor, tau_plus: float) -> tf.Tensor:
    """float32 [B]: ``log max((exp(log_mean) - tau_plus exp(positive)) / (1 - tau_plus), exp(LOG_SMALLEST_NEGATIVE))``."""
    log_share = math.log(tau_plus) + positive - log_mean  # how much of the mean is false
    safe_share = tf.minimum(log_share, _NEARLY_ONE)
    rest = log_mean + tf.math.log(-tf.math.expm1(safe_share)) - math.log1p(-tau_plus)
    return tf.where(log_share < _NEARLY_ONE, tf.maximum(rest, LOG_SMALLEST_NEGATIVE), LOG_SMALLEST_NEGATIVE)


def interest_aware_log_negatives(
    positive: tf.Tensor,
    negative: tf.Tensor,
    num_negatives: tf.Tensor,
    *,
    beta: float,
    tau_plus: float = 0.0,
    log_prior: tf.Tensor | None = None,
    stop_gradient_weights: bool = False,
) -> tf.Tensor:
    """float32 [B]: ``log(N_s sum_j p_j exp(s_j))``; see ``InterestAwareNegatives``.

    Args:
        positive: float32 [B] scores of the targets.
        negative: float32 [B, D] scores of the negatives, -inf where one is left out.
        num_negatives: float32 [B], how many are not. 0 gives ``MASKED_LOGIT``, with which the loss is 0.
        beta: Hardness.
        tau_plus: Share of false negatives.
        log_prior: float32 [D], or None; see ``log_hard_mean``.
        stop_gradient_weights: See ``log_hard_mean``.
    """
    log_mean = log_hard_mean(negative, beta, log_prior, stop_gradient_weights)
    if tau_plus > 0:
        log_mean = _without_false_negatives(log_mean, positive, tau_plus)
    return tf.where(num_negatives > 0, log_mean, MASKED_LOGIT) + tf.math.log(tf.maximum(num_negatives, 1.0))


@OBJECTIVES.register("interest_aware_negatives")
class InterestAwareNegatives(Objective):
    r"""Softmax against sampled negatives that count the more, the nearer they are to the very interest that answers for the target.

    Negatives that are informative for a user as a whole are trivial for the one interest that the readout selects. With s_t the target's
    score, s_j those of the N_s sampled negatives and p_j proportional to exp(beta s_j), estimated by importance sampling from the draws,

        loss = -s_t + log(exp(s_t) + N_s sum_j p_j exp(s_j))

    ``beta`` 0 is the sampled softmax (of the uniform sampler), and as beta grows all negatives become as hard as the hardest.

    Hardness depends on the scale of the scores: it is beta times the score that p exponentiates. Scores here are cosines divided by
    ``model.temperature`` (at 0.07 they span -14 to 14), so that one step of cosine counts beta / temperature; the paper's values, 0.1 to
    10, belong to the inner products of its data sets. Halving the temperature asks for half the beta.

    Unlike ``sampled_softmax``, frequencies of a sampler that is not uniform correct p only: p is to be proportional to exp(beta s_j)
    over the catalogue, so its estimate is proportional to exp(beta s_j) / Q(j), Q(j) being how often item j is expected among the
    distinct items drawn. An example's own target has no weight among its negatives and is not one of the N_s.

    Paper: Xie et al., "Rethinking Multi-Interest Learning for Candidate Matching in Recommender Systems", RecSys 2023. Hardness and
    debiasing are those of Robinson et al., "Contrastive Learning with Hard Negative Samples", ICLR 2021.

    Args:
        beta: Hardness, at least 0.
        tau_plus: Share of the negatives that are really positives: N_s tau_plus exp(s_t) is taken off the negatives' sum and the rest
            scaled by 1 / (1 - tau_plus). 0, as the authors' code, takes nothing off.
        stop_gradient_weights: Take p as a constant in back-propagation; the authors' code does not.
        num_sampled: Draws per batch, with replacement; an item drawn twice counts once. A catalogue of at most this many items is used
            whole. Memory grows with the batch times the smaller of the two.
        sampler: "uniform", or "log_uniform" (Zipf-like: items are indexed by falling frequency).
        seed: Seed of the draws; their ``RandomStream`` is part of a checkpoint.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(
        self,
        beta: float = 0.1,
        *,
        tau_plus: float = 0.0,
        stop_gradient_weights: bool = False,
        num_sampled: int = 1280,
        sampler: Sampler = "uniform",
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        # Vectors keep the precision that the model computed them in; the loss is float32 in any case.
        super().__init__(autocast=False, **kwargs)
        require_at_least(0, beta=beta, tau_plus=tau_plus)
        require_at_least(1, num_sampled=num_sampled)
        require_choice(("uniform", "log_uniform"), sampler=sampler)
        if math.isinf(beta):
            raise ValueError(f"beta: expected a finite number, got {beta}")
        if tau_plus >= 1:
            raise ValueError(f"tau_plus: expected a share below 1, got {tau_plus}")
        self.stream = RandomStream(seed, purpose="sampled negatives")

    def contrast(
        self, queries: tf.Tensor, targets: tf.Tensor, items: ItemSpace, left_out: tf.Tensor | None = None, training: bool | None = None
    ) -> Contrast:
        """See ``Objective``. Draws again at every call, unless the catalogue is used whole."""
        num_items = items.num_rows - FIRST_INDEX
        log_prior = None
        if num_items <= self.num_sampled:
            sampled = tf.range(FIRST_INDEX, items.num_rows)  # [D]
        else:
            sampled = draw_distinct_items(self.stream, self.num_sampled, num_items, self.sampler)  # [D]
            if self.sampler != "uniform":
                log_prior = -log_expected_counts(sampled, self.num_sampled, num_items, self.sampler)
        positive, negative = shared_negative_logits(queries, targets, sampled, items)  # [B], [B, D]
        hits = accidental_hits(targets, sampled, left_out, masked=-math.inf)
        num_negatives = tf.cast(tf.math.count_nonzero(tf.math.is_finite(hits), axis=1), tf.float32)  # [B]
        log_negatives = interest_aware_log_negatives(
            positive,
            negative + hits,
            num_negatives,
            beta=self.beta,
            tau_plus=self.tau_plus,
            log_prior=log_prior,
            stop_gradient_weights=self.stop_gradient_weights,
        )
        return Contrast(positive, log_negatives, log_share(sampled, num_items))

"""How much arithmetic a training step needs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np


def distinct_draws(num_draws: int, num_items: int) -> float:
    """How many distinct items ``num_draws`` uniform draws from ``num_items`` give on average."""
    return num_items * (1.0 - (1.0 - 1.0 / num_items) ** num_draws)


def mind_step_flops(
    *,
    batch_size: int,
    history_length: int,
    dimension: int,
    num_interests: int,
    iterations: int,
    hidden: Sequence[int],
    num_items: int,
    num_sampled: int,
) -> float:
    """Floating-point operations in the matrix products of one training step of MIND, forwards and backwards.

    With rows = B K interests per batch, D distinct negatives, and 2 operations per multiply-add:

    - Routing, each of r iterations: the weighted sums 2 rows L d, and a matrix applied to them 2 rows d^2: G = S' S in the r - 1 updates of
      the logits, S in the last. G itself 2 d^3. Each update: the agreement 2 rows L d. Backwards through the last sums only: 2 rows d^2
      to the sums, 2 rows d^2 to S, 2 rows L d to the items.
    - User tower, each layer from m to n: 2 rows m n forwards, twice that backwards.
    - Readout: the scores by the target, 2 rows d; the choice passes no gradient through them.
    - Sampled softmax: B (D + 1) scores, 2 B (D + 1) d forwards, twice that backwards.

    Look-ups, element-wise work and the optimizer, which move bytes rather than multiply, are left out, so that a share of the machine's
    matrix-product rate is a lower bound of how busy the step keeps it.
    """
    rows = batch_size * num_interests
    sums, by_matrix = 2 * rows * history_length * dimension, 2 * rows * dimension**2
    gram = 2 * dimension**3 if iterations > 1 else 0
    routing = (2 * iterations - 1) * sums + iterations * by_matrix + gram + 2 * by_matrix + sums
    widths = [dimension, *hidden, dimension] if hidden else []
    tower = 3 * sum(2 * rows * inputs * outputs for inputs, outputs in pairwise(widths))
    softmax = 3 * 2 * batch_size * (distinct_draws(num_sampled, num_items) + 1) * dimension
    return routing + tower + 2 * rows * dimension + softmax


def interest_trend_example_flops(history_lengths: np.ndarray, dimension: int) -> float:
    """Floating-point operations in the matrix products of MTAW's extractor for one example on average, forwards and backwards.

    For a history of n real items, 2 operations per multiply-add, and twice the forward pass backwards:

    - Interest tracking: three layers from d to d at every item, 3 2 n d^2; scores of the n (n + 1) / 2 pairs and the sums that they weigh,
      2 2 d each.
    - Interest enhancing: a layer at the newest item, 2 d^2; n scores and their sum, 2 2 n d.

    Padding is not counted: what is spent on it is no use.
    """
    lengths = np.asarray(history_lengths, np.float64)
    pairs = lengths * (lengths + 1) / 2
    tracking = 6 * lengths * dimension**2 + 4 * pairs * dimension
    enhancing = 2 * dimension**2 + 4 * lengths * dimension
    return 3 * float(np.mean(tracking + enhancing))


def softmax_example_flops(num_compared: float, dimension: int) -> float:
    """Those of one example's softmax over ``num_compared`` items: the scores, and both their gradients."""
    return 3 * 2 * num_compared * dimension

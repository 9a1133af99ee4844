"""How much arithmetic a training step needs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise


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

    - Routing, each of r iterations: the weighted sums 2 rows L d, and S applied to them 2 rows d^2. Each of the r - 1 updates of the
      logits: S applied to the capsules 2 rows d^2, and the agreement 2 rows L d. Backwards through the last sums only: 2 rows d^2 to
      the sums, 2 rows d^2 to S, 2 rows L d to the items.
    - User tower, each layer from m to n: 2 rows m n forwards, twice that backwards.
    - Readout: the scores by the target, 2 rows d; the choice passes no gradient through them.
    - Sampled softmax: B (D + 1) scores, 2 B (D + 1) d forwards, twice that backwards.

    Look-ups, element-wise work and the optimizer, which move bytes rather than multiply, are left out, so that a share of the machine's
    matrix-product rate is a lower bound of how busy the step keeps it.
    """
    rows = batch_size * num_interests
    sums, by_matrix = 2 * rows * history_length * dimension, 2 * rows * dimension**2
    routing = (2 * iterations - 1) * (sums + by_matrix) + 2 * by_matrix + sums
    widths = [dimension, *hidden, dimension] if hidden else []
    tower = 3 * sum(2 * rows * inputs * outputs for inputs, outputs in pairwise(widths))
    softmax = 3 * 2 * batch_size * (distinct_draws(num_sampled, num_items) + 1) * dimension
    return routing + tower + 2 * rows * dimension + softmax

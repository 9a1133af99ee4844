"""From candidates to the answer: exclusions, then controllable diversity (Cen et al., KDD 2020, aggregation module), in
stock TensorFlow ops.

Shapes: B users, C candidates, E exclusions, n results.
"""

from __future__ import annotations

import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX
from tfmi.index.base import is_among, pad_candidates
from tfmi.index.merging import MISSING_SCORE, Candidates, best_candidates
from tfmi.index.reranking import LARGEST_DIVERSITY


def select(
    candidates: Candidates,
    n: tf.Tensor | int,
    exclude: tf.Tensor | None = None,
    diversity: tf.Tensor | None = None,
    categories: tf.Tensor | None = None,
) -> Candidates:
    """Choose ``n`` of each user's candidates.

    With diversity λ > 0 this is ComiRec's greedy rule: again and again take the candidate with the largest
    ``score - λ * (items of its category already taken)``, ties to the higher score, then to the lower item index.

    Args:
        candidates: In the order that ``merge_interests`` gives.
        n: How many; answers that are shorter are padded.
        exclude: int32 [B, E] item indices never to answer with; 0 pads.
        diversity: float32 [B] λ; 0, negative and NaN mean off, infinity takes categories in turn.
        categories: int32 [num_rows] category of each item index; 0 is unknown and counts as a category of its own for each item.
            Without it no two items share a category, and diversity changes nothing.

    Returns:
        ``Candidates`` [B, n] in the order of selection, with the items' own scores.
    """
    if exclude is not None:
        candidates = _without(candidates, exclude)
    kept = tf.minimum(n, tf.shape(candidates.items)[1])

    def best() -> Candidates:
        # Candidates come in the order of their scores: only where some have lost theirs is there anything to sort.
        return Candidates(*(values[:, :kept] for values in candidates)) if exclude is None else best_candidates(candidates, kept)

    if diversity is None or categories is None:
        selected = best()
    else:
        strength = tf.where(diversity > 0.0, tf.minimum(diversity, LARGEST_DIVERSITY), 0.0)  # NaN > 0 is False
        selected = tf.cond(
            tf.reduce_any(strength > 0.0),
            lambda: _best_diverse_candidates(candidates, kept, strength, categories),
            best,
        )
    return pad_candidates(selected, n)


def _without(candidates: Candidates, exclude: tf.Tensor) -> Candidates:
    """The candidates with a score of -inf at excluded items."""
    return candidates._replace(scores=tf.where(is_among(candidates.items, exclude), MISSING_SCORE, candidates.scores))


def most_distinct_items(items: tf.Tensor) -> tf.Tensor:
    """int32 scalar: the largest number of different real items in a row of ``items`` int32 [B, E]; 0 for an empty batch."""
    rising = tf.pad(tf.sort(items, axis=1), [[0, 0], [1, 0]], constant_values=PADDING_INDEX)  # [B, 1 + E]
    first_of_its_kind = (rising[:, 1:] >= FIRST_INDEX) & (rising[:, 1:] != rising[:, :-1])
    counts = tf.reduce_sum(tf.cast(first_of_its_kind, tf.int32), axis=1)  # [B]
    return tf.reduce_max(tf.concat([counts, [0]], axis=0))


def _best_diverse_candidates(candidates: Candidates, n: tf.Tensor, strength: tf.Tensor, categories: tf.Tensor) -> Candidates:
    """ComiRec's greedy choice without its loop.

    Within a category greedy takes items by falling score, so when the one of rank r (0 is the best) gets its turn, exactly r of its
    category have been taken: its value is then ``score - λ r``. These values fall along each category, so taking the largest among
    the heads of all categories again and again is merging sorted lists, and that is one sort by ``score - λ r``.
    """
    ranks = _ranks_in_category(candidates, categories)
    values = candidates.scores - strength[:, None] * tf.cast(ranks, tf.float32)  # [B, C]
    return best_candidates(candidates, n, values)  # candidates come by falling score, then rising index: ties are right


def _ranks_in_category(candidates: Candidates, categories: tf.Tensor) -> tf.Tensor:
    """int32 [B, C]: how many available candidates of the same category stand before each one."""
    shape = tf.shape(candidates.items)
    width = tf.cast(shape[1], tf.int64)
    positions = tf.broadcast_to(tf.range(width), shape)
    category = tf.cast(tf.gather(categories, candidates.items), tf.int64)
    available = candidates.scores > MISSING_SCORE
    shared = available & (category > 0)
    category = tf.where(shared, category, -1 - positions)  # an own category for each of the others
    keys = category * width + positions  # distinct; by category, then by position
    ordered = tf.sort(keys, axis=1)
    first_of_category = tf.searchsorted(ordered, category * width)
    return tf.searchsorted(ordered, keys) - first_of_category

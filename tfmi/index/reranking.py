"""Controllable diversity for one user's candidates, in plain Python and NumPy (Cen et al., KDD 2020, aggregation module).

For clients and offline jobs: nothing here needs TensorFlow. ``select`` does the same in the served graph, for all users of a request.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

Item = TypeVar("Item", bound=Hashable)

# Stands for an infinite diversity: it outweighs every score, and its product with a rank is still finite.
LARGEST_DIVERSITY = 1e30


class RerankedItem(NamedTuple):
    """An item with its own score, whatever diversity cost it."""

    item: Any
    score: float


def rerank(
    items: Sequence[Item],
    scores: Sequence[float] | np.ndarray,
    categories: Sequence[Hashable] | np.ndarray | None,
    n: int,
    diversity: float,
    *,
    exclude: Collection[Item] = (),
    dissimilarity: Callable[[Item, Item], float] | None = None,
) -> list[RerankedItem]:
    r"""Choose ``n`` of a user's candidates, trading score for diversity.

    ComiRec's value of a set S of items is the sum of their scores f and of λ g(i, j) over its pairs. It is built greedily::

        i = argmax over candidates outside S of f(i) + λ (sum over j in S of g(i, j)),    S = S + {i}

    g is 1 for different categories and 0 within one, which is to maximise ``f(i) - λ (items of i's category in S)``; or any other
    ``dissimilarity``. Ties go to the higher score, then to the candidate that comes first.

    Example:
        >>> [found.item for found in rerank(["a", "b", "c"], [1.0, 0.9, 0.8], ["tea", "tea", "salt"], 2, diversity=0.2)]
        ['a', 'c']

    Args:
        items: Ids or indices, M of them, in any order. One that comes several times, found by several interests say, counts once, with
            its best score.
        scores: M numbers; a candidate with -inf, as in the padding of an answer, or NaN is none.
        categories: M categories; None, "", 0 and NaN are unknown, and each such item has a category of its own. Without categories no
            two items share one.
        n: How many; fewer come back if there are fewer.
        diversity: λ of this user, in units of the scores; 0, negative and NaN mean off, infinity takes categories in turn.
        exclude: Items never to answer with.
        dissimilarity: g(candidate, item already chosen), instead of categories. It need not be symmetric.

    Returns:
        The chosen items in the order of choice.

    Raises:
        ValueError: Lengths differ, ``n`` is negative, or both categories and a dissimilarity are given.
    """
    if len(scores) != len(items) or (categories is not None and len(categories) != len(items)):
        given = f"{len(scores)} scores" + ("" if categories is None else f" and {len(categories)} categories")
        raise ValueError(f"expected one score and one category for each of the {len(items)} items, got {given}")
    if n < 0:
        raise ValueError(f"n: expected a number of results of at least 0, got {n}")
    if categories is not None and dissimilarity is not None:
        raise ValueError("expected categories or a dissimilarity, got both; leave one None")
    values = np.asarray(scores, dtype=np.float32)  # as the served graph computes
    places = _candidates(items, values, set(exclude))
    strength = min(diversity, LARGEST_DIVERSITY) if diversity > 0 else 0.0  # NaN > 0 is False
    if strength and dissimilarity is not None:
        chosen = _greedy([items[place] for place in places], values[places], n, strength, dissimilarity)
        places = [places[position] for position in chosen]
    elif strength and categories is not None:
        # Within a category items are taken by falling score: its r-th best pays λ r, whenever its turn comes. See ``select``.
        ranks = np.array(_ranks_in_category([categories[place] for place in places]), dtype=np.float32)
        falling = np.argsort(-(values[places] - np.float32(strength) * ranks), kind="stable")
        places = [places[position] for position in falling]
    return [RerankedItem(items[place], float(scores[place])) for place in places[:n]]


def _candidates(items: Sequence[Item], scores: np.ndarray, exclude: set[Item]) -> list[int]:
    """Where the best occurrence of each available item stands, by falling score."""
    places: list[int] = []
    seen = set(exclude)
    for place in np.argsort(-scores, kind="stable").tolist():
        if scores[place] > -math.inf and items[place] not in seen:  # False for NaN, too
            seen.add(items[place])
            places.append(place)
    return places


def _ranks_in_category(categories: Sequence[Any]) -> list[int]:
    """How many of the same category stand before each; 0 where it is unknown."""
    before: Counter[Hashable] = Counter()
    ranks = []
    for category in categories:
        known = bool(category) and not (isinstance(category, float | np.floating) and np.isnan(category))
        ranks.append(before[category] if known else 0)
        before[category] += known
    return ranks


def _greedy(items: Sequence[Item], scores: np.ndarray, n: int, strength: float, dissimilarity: Callable[[Item, Item], float]) -> list[int]:
    """The positions of the greedy choice of up to n; ``items`` come by falling score."""
    left, chosen = list(range(len(items))), list[int]()
    gains = scores.astype(np.float64)
    while left and len(chosen) < n:
        best = int(np.argmax(gains))  # the first of equals
        chosen.append(left.pop(best))
        gains = np.delete(gains, best)
        gains += strength * np.array([dissimilarity(items[position], items[chosen[-1]]) for position in left], dtype=np.float64)
    return chosen

"""What is known before a moment: totals, order, ties, strictness, whatever the size of blocks."""

from __future__ import annotations

import numpy as np
import pytest

from tfmi.data.tags import facts as module
from tfmi.data.tags.facts import ALWAYS, NO_VALUE, Facts, heaviest_before, newest_before, no_facts, totals_before


def make(*rows: tuple[int, float, int, float]) -> Facts:
    keys, times, values, weights = zip(*rows, strict=True)
    return Facts(np.array(keys), np.array(times, float), np.array(values), np.array(weights, float))


FACTS = make((0, 5, 7, 1), (0, 1, 3, 1), (0, 2, 7, 1), (1, 1, 3, 2), (0, 3, 4, 1))


def ask(function: object, facts: Facts, *queries: tuple[int, float], width: int = 3) -> list[list[tuple[int, float]]]:
    keys, times = np.array([q[0] for q in queries]), np.array([q[1] for q in queries], float)
    table = function(facts, keys, times, width)  # type: ignore[operator]
    return [
        [(int(value), float(weight)) for value, weight in zip(*row, strict=True) if value != NO_VALUE]
        for row in zip(table.values, table.weights, strict=True)
    ]


def test_heaviest_first_and_of_equals_the_newest() -> None:
    answers = ask(heaviest_before, FACTS, (0, 10), (0, 5), (0, 2), (1, 10), (0, 1), (2, 10))
    assert answers == [[(7, 2), (4, 1), (3, 1)], [(4, 1), (7, 1), (3, 1)], [(3, 1)], [(3, 2)], [], []]


def test_newest_first_and_every_value_once() -> None:
    assert ask(newest_before, FACTS, (0, 10), (0, 5), (1, 1)) == [[(7, 1), (4, 1), (3, 1)], [(4, 1), (7, 1), (3, 1)], []]
    assert ask(newest_before, FACTS, (0, 10), width=2) == [[(7, 1), (4, 1)]]


def test_totals_are_complete() -> None:
    offsets, values, weights = totals_before(FACTS, np.array([1, 0, 5]), np.array([np.inf, 5, 9]))
    assert (offsets.tolist(), values.tolist(), weights.tolist()) == ([0, 1, 4, 4], [3, 3, 4, 7], [2, 1, 1, 1])


@pytest.mark.parametrize("function", [heaviest_before, newest_before])
def test_nothing_known(function: object) -> None:
    assert ask(function, no_facts(), (0, 1), (3, 1)) == [[], []]


def test_what_is_known_from_the_start_is_as_if_it_came_at_some_time() -> None:
    random = np.random.default_rng(0)
    rows = Facts(random.integers(0, 5, 200), np.full(200, ALWAYS), random.integers(0, 9, 200), random.integers(1, 4, 200).astype(float))
    timed = Facts(rows.keys, np.zeros(200), rows.values, rows.weights)
    queries = [(key, 1.0) for key in (3, 0, 4, 4, 7)]
    assert ask(heaviest_before, rows, *queries, width=4) == ask(heaviest_before, timed, *queries, width=4)


def test_agrees_with_counting_by_hand_in_any_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    rows = Facts(random.integers(0, 4, 300), random.integers(0, 20, 300).astype(float), random.integers(0, 12, 300), np.ones(300))
    queries = [(int(key), float(time)) for key, time in zip(random.integers(0, 5, 60), random.integers(0, 22, 60), strict=True)]
    answers = ask(heaviest_before, rows, *queries, width=12)
    for (key, time), answer in zip(queries, answers, strict=True):
        there = rows.values[(rows.keys == key) & (rows.times < time)]
        assert dict(answer) == {int(value): float((there == value).sum()) for value in there}
        assert [weight for _, weight in answer] == sorted((weight for _, weight in answer), reverse=True)
    newest = ask(newest_before, rows, *queries, width=3)
    monkeypatch.setattr(module, "CELLS_PER_BLOCK", 25)
    assert ask(heaviest_before, rows, *queries, width=12) == answers
    assert ask(newest_before, rows, *queries, width=3) == newest

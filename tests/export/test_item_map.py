"""The map of items that a version folder holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfmi.core.errors import ExportError
from tfmi.export import item_map
from tfmi.export.item_map import MAP_PATH, mapped_rows, principal_directions, read_map, write_map


def vectors(rows: int = 200) -> np.ndarray:
    """Widely spread along (1, 1, 0, 0), less along (0, 0, 1, 0)."""
    random = np.random.default_rng(0)
    spread = np.array([[2, 2, 0, 0], [0, 0, 1, 0], [0.1, -0.1, 0, 0], [0, 0, 0, 0.1]])
    return (random.normal(size=(rows, 4)) @ spread + [3, 0, 0, -1]).astype(np.float32)


def test_directions_are_those_of_largest_variance() -> None:
    found = principal_directions(vectors())
    np.testing.assert_allclose(found.directions, np.array([[2**-0.5, 2**-0.5, 0, 0], [0, 0, 1, 0]]), atol=0.05)
    np.testing.assert_allclose(found.mean, vectors().mean(axis=0), rtol=1e-5)
    assert found.share[0] > found.share[1] > 0.05
    places = found.places(vectors())
    np.testing.assert_allclose(places.mean(axis=0), 0, atol=1e-5)
    total = vectors().astype(np.float64).var(axis=0).sum()
    np.testing.assert_allclose(places.var(axis=0) / total, found.share, rtol=1e-4)


def test_the_same_vectors_have_the_same_map_whatever_their_order() -> None:
    first, second = principal_directions(vectors()), principal_directions(vectors()[::-1])
    np.testing.assert_allclose(first.directions, second.directions, atol=1e-9)
    for direction in first.directions:
        assert direction[np.argmax(np.abs(direction))] > 0


@pytest.mark.parametrize("odd", [np.zeros((3, 4)), np.ones((1, 4)), np.arange(3.0)[:, None]])
def test_too_little_for_two_directions(odd: np.ndarray) -> None:
    found = principal_directions(odd)
    assert np.isfinite(found.places(odd)).all()
    assert not found.directions[1].any()


def test_beyond_the_bound_the_most_popular_items_have_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_map, "MOST_ITEMS", 3)
    rows = mapped_rows(np.array([5, 1, 7, 5, 5]))
    assert rows.tolist() == [0, 2, 3]
    write_map(tmp_path, ["a", "杯", "c"], vectors(5)[rows])
    found = read_map(tmp_path)
    assert found.item_ids == ["a", "杯", "c"]
    np.testing.assert_allclose(found.projection.places(vectors(5)[rows]), found.places, atol=1e-6)


def test_a_missing_or_damaged_map_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no tfmi_map\.parquet: .* export\.item_details: true"):
        read_map(tmp_path)
    (tmp_path / MAP_PATH).parent.mkdir()
    (tmp_path / MAP_PATH).write_text("no table", encoding="utf-8")
    with pytest.raises(ExportError, match=r"tfmi_map\.parquet: not a readable map"):
        read_map(tmp_path)

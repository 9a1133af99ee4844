"""What a version folder says of its items and of some users."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.export.fake_recommenders import AGE, GENRES, REGION, Exported, make_catalogue, make_profiles
from tfmi.core.errors import ExportError
from tfmi.data.dataset import FIRST_INDEX, Catalogue, MultiValuedFeature, NumericFeature, Sequences, Vocabulary
from tfmi.export.item_details import ITEMS_PATH, MOST_HISTORY, read_items, read_sample_users, write_items, write_sample_users


def _catalogue() -> Catalogue:
    plain = make_catalogue(items=4)
    tags = MultiValuedFeature(
        Vocabulary(["a", "b"]),
        np.array([[0, 0], [0, 0], [2, 3], [0, 0], [3, 0], [1, 2]], np.int32),
        np.array([[0, 0], [0, 0], [1, 0.5], [0, 0], [2, 0], [1, 1]], np.float32),
    )
    price = NumericFeature(np.array([np.nan, np.nan, 1.5, np.nan, 3, 4], np.float32), 0.0, 1.0)
    titles = ["", "", "Tasse", "<b>杯</b>", "", "Ω"]
    return Catalogue(plain.vocabulary, {**plain.features, "tags": tags, "price": price}, titles, plain.counts)


def test_items_with_titles_features_and_counts(tmp_path: Path) -> None:
    write_items(tmp_path, _catalogue())
    assert read_items(tmp_path).to_pylist()[:2] == [
        {
            "item_id": "item-0",
            "events": 4,
            "title": "Tasse",
            "feature.category": "category-0",
            "feature.price": 1.5,
            "feature.tags": ["a", "b"],
            "feature.tags.weights": [1.0, 0.5],
        },
        {
            "item_id": "item-1",
            "events": 3,
            "title": "<b>杯</b>",
            "feature.category": "category-1",
            "feature.price": None,
            "feature.tags": [],
            "feature.tags.weights": [],
        },
    ]
    assert read_items(tmp_path)["feature.category"].to_pylist() == ["category-0", "category-1", "category-2", ""]


def test_sample_users_are_held_out_histories_with_their_profile(tmp_path: Path) -> None:
    catalogue, profiles = make_catalogue(), make_profiles()
    long = np.full(MOST_HISTORY + 3, FIRST_INDEX + 7)
    items = np.concatenate([[2, 1, 5], long]).astype(np.int32)
    offsets = np.array([0, 3, 3, 3 + len(long)])
    histories = Sequences(offsets, items, np.arange(len(items), dtype=np.float64), None, np.array([1, 2, 3], np.int32))
    write_sample_users(tmp_path, histories, catalogue, profiles, most=10)
    first, second = read_sample_users(tmp_path).to_pylist()
    assert first["history"] == ["item-0", "item-3"]
    assert first["timestamps"] == [0.0, 2.0]
    assert first["user_id"] == "user-0"
    assert first[f"profile.{AGE}"] == pytest.approx(float(profiles.features[AGE].values[1]))
    assert first[f"profile.{REGION}"] in {"nord", "süd"}
    assert len(first[f"profile.{GENRES}"]) == len(first[f"profile.{GENRES}.weights"]) == 2
    assert second["user_id"] == "user-2"
    assert len(second["history"]) == MOST_HISTORY
    write_sample_users(tmp_path, histories, catalogue, None, most=1)
    assert read_sample_users(tmp_path).num_rows == 1


def test_a_published_version_has_its_items(exact_export: Exported) -> None:
    ids = read_items(exact_export.folder)["item_id"].to_pylist()
    assert ids == exact_export.catalogue.vocabulary.ids
    with pytest.raises(ExportError, match=r"exported without it; export it again with export\.sample_users above 0"):
        read_sample_users(exact_export.folder)


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    (tmp_path / ITEMS_PATH).parent.mkdir()
    (tmp_path / ITEMS_PATH).write_text("no table", encoding="utf-8")
    with pytest.raises(ExportError, match=r"tfmi_items\.parquet: not a readable Parquet file"):
        read_items(tmp_path)

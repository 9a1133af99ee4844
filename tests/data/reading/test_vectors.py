"""Vectors of items: cells of a catalogue, and files with ids beside them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tfmi.config import CatalogueColumns, LogConfig, VectorFile
from tfmi.core.errors import DataError
from tfmi.data.features import vector_feature
from tfmi.data.reading.side_tables import read_catalogue

ROWS = [("a", [1.0, 2.0]), ("b", None), ("c", [0.5, -3.0])]
CONFIG = LogConfig(catalogue_columns=CatalogueColumns(vectors=["text"]))


def _files(folder: Path) -> list[Path]:
    pyarrow.parquet.write_table(
        pa.table({"item": [item for item, _ in ROWS], "text": pa.array([v for _, v in ROWS], pa.list_(pa.float32()))}), folder / "c.parquet"
    )
    (folder / "c.jsonl").write_text("".join(json.dumps({"item": item, "text": v}) + "\n" for item, v in ROWS), encoding="utf-8")
    cells = "".join(f"{item},{'' if v is None else chr(34) + json.dumps(v) + chr(34)}\n" for item, v in ROWS)
    (folder / "c.csv").write_text(f"item,text\n{cells}", encoding="utf-8")
    return [folder / name for name in ("c.parquet", "c.jsonl", "c.csv")]


def test_every_format_says_the_same(tmp_path: Path) -> None:
    for path in _files(tmp_path):
        table = read_catalogue(path, CONFIG, tmp_path / "rejects.csv")
        assert list(table.item_ids) == ["a", "b", "c"]
        np.testing.assert_array_equal(table.vectors["text"], np.array([[1, 2], [np.nan] * 2, [0.5, -3]], np.float32))


def test_cells_that_are_no_vector_are_rejected_with_the_reason(tmp_path: Path) -> None:
    bad = ["[1, 2]", "[1]", '["x", 2]', "7", "[NaN, 1]", "[1e39, 0]", "[3, 4]"]
    path = tmp_path / "c.jsonl"
    path.write_text("".join(f'{{"item": "i{row}", "text": {cell}}}\n' for row, cell in enumerate(bad)), encoding="utf-8")
    config = LogConfig(catalogue_columns=CatalogueColumns(vectors=["text"]), max_reject_share=1.0)
    table = read_catalogue(path, config, tmp_path / "rejects.csv")
    assert list(table.item_ids) == ["i0", "i6"]
    assert table.report["rejected_by_reason"] == {"not_a_vector": 2, "not_finite": 2, "vector_of_another_length": 1}


def test_a_column_without_a_vector_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("item,text\na,\nb,\n", encoding="utf-8")
    with pytest.raises(DataError, match="'text' holds no vector"):
        read_catalogue(path, CONFIG, tmp_path / "rejects.csv")


class TestVectorFiles:
    def read(self, folder: Path, vectors: np.ndarray, ids: str) -> np.ndarray:
        np.save(folder / "v.npy", vectors)
        (folder / "ids.txt").write_text(ids, encoding="utf-8")
        (folder / "c.csv").write_text("item\na\nb\nc\n", encoding="utf-8")
        columns = CatalogueColumns(vector_files={"image": VectorFile(vectors="v.npy", ids="ids.txt")})
        table = read_catalogue(folder / "c.csv", LogConfig(catalogue_columns=columns), folder / "rejects.csv")
        return np.asarray(table.vectors["image"])

    def test_rows_are_joined_by_id(self, tmp_path: Path) -> None:
        found = self.read(tmp_path, np.array([[1, 2], [3, 4], [5, 6]], np.float16), "c\nz\na\n")
        np.testing.assert_array_equal(found, np.array([[5, 6], [np.nan] * 2, [1, 2]], np.float32))

    @pytest.mark.parametrize(
        ("vectors", "ids", "said"),
        [
            (np.zeros((2, 3)), "a\n", r"v\.npy has 2 rows, but .*ids\.txt 1 ids"),
            (np.zeros(3), "a\nb\nc\n", r"expected a table of numbers \[items, width\]"),
            (np.zeros((1, 2)), "x\n", r"none of its 1 ids is an item of the catalogue, such as 'a'"),
            (np.full((1, 2), np.inf), "a\n", "not finite"),
            (np.array([["a", "b"]]), "a\n", "expected a table of numbers"),
        ],
    )
    def test_files_that_do_not_fit_are_refused(self, tmp_path: Path, vectors: np.ndarray, ids: str, said: str) -> None:
        with pytest.raises(DataError, match=said):
            self.read(tmp_path, vectors, ids)

    def test_python_objects_are_never_loaded(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="cannot be read"):
            self.read(tmp_path, np.array([[{"a": 1}]], dtype=object), "a\n")


def test_vectors_become_a_feature_of_mean_length_one() -> None:
    feature = vector_feature(np.array([[np.nan] * 2, [3, 4], [0, 1]]))
    assert feature.scale == 3.0
    assert vector_feature(np.full((2, 3), np.nan)).scale == 1.0

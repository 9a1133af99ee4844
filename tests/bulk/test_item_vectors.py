"""``training/export_vectors.py``: item vectors for other vector stores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from tests.export.conftest import direct_export, exact_export  # noqa: F401 - fixtures
from tests.export.fake_recommenders import Exported
from tfmi.cli import export_vectors

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loaded_once")]


def test_ids_and_vectors_are_those_of_the_index(exact_export: Exported, tmp_path: Path) -> None:  # noqa: F811
    output = tmp_path / "vectors"
    assert export_vectors.main([str(exact_export.folder), "--output", str(output)]) == 0
    expected = exact_export.recommender.item_vectors().numpy()[2:]
    table = pyarrow.parquet.read_table(output / "items.parquet")
    assert table["item_id"].to_pylist() == exact_export.catalogue.vocabulary.ids
    np.testing.assert_allclose(np.stack(table["vector"].to_pylist()), expected, rtol=1e-6)
    np.testing.assert_allclose(np.load(output / "vectors.npy", allow_pickle=False), expected, rtol=1e-6)
    assert (output / "ids.txt").read_text(encoding="utf-8").splitlines() == exact_export.catalogue.vocabulary.ids


def test_another_vector_store_finds_the_same_neighbours(exact_export: Exported, tmp_path: Path) -> None:  # noqa: F811
    faiss = pytest.importorskip("faiss", reason="faiss-cpu, of the extra bench, is not installed")
    export_vectors.main([str(exact_export.folder), "--output", str(tmp_path / "vectors")])
    vectors = np.load(tmp_path / "vectors" / "vectors.npy", allow_pickle=False)
    ids = (tmp_path / "vectors" / "ids.txt").read_text(encoding="utf-8").splitlines()
    store = faiss.IndexFlatIP(vectors.shape[1])
    store.add(np.ascontiguousarray(vectors))
    _, found = store.search(np.ascontiguousarray(vectors[:5]), 7)
    answer = exact_export.model.predict("similar_items", {"item_ids": ids[:5]})["item_ids"]
    for row in range(5):
        neighbours = [ids[place] for place in found[row] if place != row][:6]
        assert [item.decode() for item in answer[row]] == neighbours


def test_what_cannot_be_written_says_so(
    exact_export: Exported,  # noqa: F811
    direct_export: Exported,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert export_vectors.main([str(exact_export.folder), "--output", str(tmp_path)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert export_vectors.main([str(direct_export.folder), "--output", str(tmp_path / "new")]) == 1
    assert "does not hold its item vectors" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()

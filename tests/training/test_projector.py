"""TensorBoard's own projector reads what is written for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfmi.data.dataset import Catalogue, CategoricalFeature, Vocabulary
from tfmi.training.projector import write_projector
from tfmi.training.run_folder import RunFolder


@pytest.fixture
def catalogue() -> Catalogue:
    category = CategoricalFeature(Vocabulary(["toys", "food"]), np.array([0, 0, 3, 2, 0], np.int32))
    return Catalogue(Vocabulary(["a", "b", "c"]), {"category": category}, ["", "", "one\ttwo\nthree", "b", ""], np.array([0, 0, 5, 9, 1]))


def test_vectors_and_labels_stand_side_by_side_the_most_frequent_first(catalogue: Catalogue, tmp_path: Path) -> None:
    vectors = np.arange(10, dtype=np.float32).reshape(5, 2) / 3
    write_projector(RunFolder(tmp_path), vectors, catalogue, most=2)
    projector = pytest.importorskip("tensorboard.plugins.projector.projector_plugin")
    text_format = pytest.importorskip("google.protobuf.text_format")
    folder = tmp_path / "tensorboard"
    config: Any = text_format.Parse((folder / "projector_config.pbtxt").read_text(), projector.ProjectorConfig())
    (embedding,) = config.embeddings
    read = projector._read_tensor_tsv_file(str(folder / embedding.tensor_path))
    np.testing.assert_allclose(read, vectors[[3, 2]], rtol=1e-5)
    lines = (folder / embedding.metadata_path).read_text().splitlines()
    assert lines == ["item\ttitle\tcategory\tpopularity", "b\tb\ttoys\t9", "a\tone\\ttwo\\nthree\tfood\t5"]


def test_a_catalogue_of_bare_ids_has_ids_and_popularity(tmp_path: Path) -> None:
    bare = Catalogue(Vocabulary(["a"]), {}, None, np.array([0, 0, 5]))
    write_projector(RunFolder(tmp_path), np.zeros([3, 2], np.float32), bare)
    assert (tmp_path / "tensorboard" / "item_labels.tsv").read_text() == "item\tpopularity\na\t5\n"

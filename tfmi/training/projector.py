"""Item vectors for TensorBoard's projector, beside the event files of a run."""

from __future__ import annotations

import numpy as np

from tfmi.core.files import write_atomically
from tfmi.core.text import printable
from tfmi.data.dataset import FIRST_INDEX, Catalogue, CategoricalFeature
from tfmi.training.run_folder import RunFolder

# A browser shows no more points with ease.
MOST_ITEMS = 20_000
VECTORS, LABELS, CONFIG = "item_vectors.tsv", "item_labels.tsv", "projector_config.pbtxt"


def write_projector(folder: RunFolder, vectors: np.ndarray, catalogue: Catalogue, most: int = MOST_ITEMS) -> None:
    """Write vectors and labels of the ``most`` frequent items where TensorBoard's projector finds them.

    Args:
        folder: The run's.
        vectors: float [rows, d], a row for each item row.
        catalogue: The items: points can be searched and coloured by id, title and category, where the data has them, and popularity.
        most: Items.

    Raises:
        StorageError: The files cannot be written.
    """
    counts, vectors = np.asarray(catalogue.counts), np.asarray(vectors, np.float32)
    end = min(catalogue.candidate_rows, len(vectors))
    rows = FIRST_INDEX + np.argsort(-counts[FIRST_INDEX:end], kind="stable")[:most]
    lines = ["\t".join(f"{value:.6g}" for value in vectors[row]) for row in rows]
    write_atomically(folder.tensorboard / VECTORS, "\n".join(lines) + "\n")
    write_atomically(folder.tensorboard / LABELS, _labels(catalogue, rows))
    config = f'embeddings {{\n  tensor_name: "item vectors"\n  tensor_path: "{VECTORS}"\n  metadata_path: "{LABELS}"\n}}\n'
    write_atomically(folder.tensorboard / CONFIG, config)


def _labels(catalogue: Catalogue, rows: np.ndarray) -> str:
    """A header and a line for each row; TensorBoard takes the first line for a header because there are several columns."""
    category = catalogue.features.get("category")
    columns = {"item": [catalogue.vocabulary.identifier(int(row)) for row in rows]}
    if catalogue.titles is not None:
        columns["title"] = [catalogue.titles[row] for row in rows]
    if isinstance(category, CategoricalFeature):
        columns["category"] = [category.vocabulary.identifier(int(category.values[row])) for row in rows]
    columns["popularity"] = [str(int(catalogue.counts[row])) for row in rows]
    lines = ["\t".join(columns), *("\t".join(printable(text) for text in line) for line in zip(*columns.values(), strict=True))]
    return "\n".join(lines) + "\n"

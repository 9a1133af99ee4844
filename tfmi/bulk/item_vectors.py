"""An exported retriever's item vectors in files that other vector stores read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from tfmi.core.errors import ExportError
from tfmi.core.files import folder_appears_complete
from tfmi.data.dataset import FIRST_INDEX
from tfmi.export.exported_model import ExportedModel

PARQUET, ARRAY, IDS = "items.parquet", "vectors.npy", "ids.txt"


def write_item_vectors(model: ExportedModel, folder: Path) -> tuple[int, int]:
    """Write every item that can be recommended: id and vector as Parquet, and as an array with the ids beside it.

    Args:
        model: An exported retriever.
        folder: Appears complete or not at all.

    Returns:
        The number of items and the width of a vector.

    Raises:
        ExportError: The model has no item vectors, or an id holds a line break, which the list of ids cannot.
    """
    vectors = model.item_vectors()[FIRST_INDEX:]
    ids = model.item_ids()
    broken = next((identifier for identifier in ids if len(identifier.splitlines()) > 1), None)
    if broken is not None:
        raise ExportError(f"the item {broken!r} has a line break in its id, so that it cannot stand in {IDS}")
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
    table = pa.table({"item_id": pa.array(ids, pa.string()), "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])})
    with folder_appears_complete(folder) as temporary:
        pyarrow.parquet.write_table(table, temporary / PARQUET)
        np.save(temporary / ARRAY, vectors, allow_pickle=False)
        (temporary / IDS).write_text("".join(f"{identifier}\n" for identifier in ids), encoding="utf-8")
    return len(ids), vectors.shape[1]

"""Building one index of synthetic item vectors: seconds, and the most memory beside the vectors that it is given.

Each kind and size is to be run as a process of its own, since memory that one has freed serves the next.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

import tfmi  # noqa: F401 - selects Keras 2 before TensorFlow is imported
from benchmarks.common import benchmark_arguments, forget_memory, limit_threads, most_memory, report, resident_memory
from tfmi.data.dataset import FIRST_INDEX
from tfmi.index.build import INDEX_KINDS, build_index
from tfmi.index.scann import has_scann

ROWS_AT_ONCE = 500_000


def clustered_vectors(items: int, dimension: int, random: np.random.Generator) -> np.ndarray:
    """float32 [items + 2, d] around as many centres as the root of the items, in blocks that cost no memory beside the table."""
    centres = random.standard_normal([max(1, round(items**0.5)), dimension], np.float32)
    table = np.zeros([items + FIRST_INDEX, dimension], np.float32)
    for start in range(FIRST_INDEX, len(table), ROWS_AT_ONCE):
        rows = table[start : start + ROWS_AT_ONCE]
        rows[:] = centres[random.integers(0, len(centres), len(rows))] + 0.5 * random.standard_normal(rows.shape, np.float32)
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = benchmark_arguments(__doc__ or "", repeats=1)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--kind", choices=INDEX_KINDS, default="scann")
    options = parser.parse_args(arguments)
    limit_threads(options.threads)
    has_scann()  # loads its library, which is not the index's memory
    vectors = clustered_vectors(options.items, options.dimension, np.random.default_rng(options.seed))
    before = resident_memory()
    forget_memory()
    start, processor = time.perf_counter(), time.process_time()
    index = build_index(options.kind, vectors)
    results = {
        "items": options.items,
        "kind": options.kind,
        "table": round(vectors.nbytes / 1e9, 3),
        "seconds": round(time.perf_counter() - start, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "most_tables": round((most_memory() - before) / (vectors.nbytes / 1e9), 2),
        "left_tables": round((resident_memory() - before) / (vectors.nbytes / 1e9), 2),
        "parameters": index.parameters(),
    }
    report("index_build", results, {})


if __name__ == "__main__":
    main()

"""Telling one dataset from another, so that a run is never continued on data that its checkpoint does not fit."""

from __future__ import annotations

import hashlib

import numpy as np

from tfmi.data.structures import Dataset


def data_fingerprint(dataset: Dataset) -> str:
    """A digest of what a model's weights and metrics depend on: item ids in order, their training counts, who is held out with what."""
    digest = hashlib.sha256()
    for identifier in dataset.catalogue.vocabulary.ids:
        encoded = identifier.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    held_out = [part for examples in (dataset.valid, dataset.test) for part in (examples.histories, examples.targets)]
    for array in (dataset.catalogue.counts, *(array for part in held_out for array in (part.items, part.offsets))):
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    digest.update(f"{len(dataset.train)} sequences, {dataset.train.num_events} events".encode())
    return digest.hexdigest()

"""Telling one dataset from another, so that a run is never continued on data that its checkpoint does not fit."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from tfmi.data.dataset import InteractionDataset, Vocabulary
from tfmi.data.features import feature_arrays
from tfmi.data.impressions.impression_dataset import RankingDataset
from tfmi.data.tags.tag_dataset import TagDataset


def data_fingerprint(dataset: InteractionDataset) -> str:
    """A digest of what a model's weights and metrics depend on: item ids in order, their training counts, who is held out with what."""
    digest = _vocabulary_digest(dataset.catalogue.vocabulary)
    held_out = [part for examples in (dataset.valid, dataset.test) for part in (examples.histories, examples.targets)]
    for array in (dataset.catalogue.counts, *(array for part in held_out for array in (part.items, part.offsets))):
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    digest.update(f"{len(dataset.train)} sequences, {dataset.train.num_events} events".encode())
    return digest.hexdigest()


def impressions_fingerprint(dataset: RankingDataset) -> str:
    """The same of ranking data: item ids in order, and every row of each part with its outcome and where its history ends."""
    digest = _vocabulary_digest(dataset.catalogue.vocabulary)
    for rows in (dataset.train, dataset.valid, dataset.test):
        for array in (rows.row_ids, rows.users, rows.items, rows.labels, rows.history_ends):
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    digest.update(np.ascontiguousarray(dataset.clicks.items, dtype="<i8").tobytes())
    return digest.hexdigest()


def tagging_fingerprint(dataset: TagDataset) -> str:
    """The same of data with tags: tags in order, every labelled row of each part, and the fields of every state."""
    digest = _vocabulary_digest(dataset.tags)
    for rows in (dataset.train, dataset.valid, dataset.test):
        for array in (rows.users, rows.states, rows.tags, rows.labels):
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    for name, array in sorted(feature_arrays(dataset.states.fields).items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
    return digest.hexdigest()


def _vocabulary_digest(vocabulary: Vocabulary) -> Any:
    digest = hashlib.sha256()
    for identifier in vocabulary.ids:
        encoded = identifier.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest

"""Divide a catalogue's vectors into partitions of near ones: k-means, with partitions that are too large divided again.

Shapes: N items, d width, P partitions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

# k-means learns its centres from so many items of each partition; more changes little.
SAMPLES_PER_PARTITION = 64
# A partition of more than so many times the mean is divided: a few huge ones would be most of what is read.
LARGEST_SHARE_OF_MEAN = 2.0
# Scores of items and centres that are held at a time: 64 MB.
SCORES_AT_ONCE = 2**24
# Lengths that differ by less than this share are rounding: such vectors lie on a sphere, and so should the centres.
LENGTH_TOLERANCE = 1e-3


class Partitions(NamedTuple):
    """Items by partition.

    Attributes:
        centres: float32 [P, d].
        order: int32 [N], the items by partition, within one by position.
        starts: int32 [P + 1]: partition p is ``order[starts[p] : starts[p + 1]]``; none is empty.
    """

    centres: np.ndarray
    order: np.ndarray
    starts: np.ndarray


def make_partitions(vectors: np.ndarray, count: int, iterations: int, seed: int = 0) -> Partitions:
    """Divide ``vectors`` float32 [N, d] into about ``count`` partitions; the same ones every time.

    Where all vectors have one length, the centres get it, too (spherical k-means).
    """
    random = np.random.default_rng(seed)
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))  # np.linalg.norm would hold a table of squares
    spherical = bool(np.ptp(lengths) <= LENGTH_TOLERANCE * max(float(lengths.max()), 1e-30))
    most = max(1.0, LARGEST_SHARE_OF_MEAN * len(vectors) / count)
    items = np.arange(len(vectors))
    sample = _sample(items, SAMPLES_PER_PARTITION * count, random)
    centres = _k_means(vectors[sample], count, iterations, spherical, random)
    waiting = _by_partition(items, nearest_centres(vectors, centres, spherical), len(centres))
    finished: list[np.ndarray] = []
    while waiting:
        members = waiting.pop()
        if len(members) <= most:
            finished.append(members)
            continue
        inside = vectors[members]
        parts = _k_means(inside, int(np.ceil(len(members) / most)) + 1, iterations, spherical, random)
        divided = _by_partition(members, nearest_centres(inside, parts, spherical), len(parts))
        # Equal vectors cannot be told apart by any centre.
        waiting += divided if len(divided) > 1 else np.array_split(members, int(np.ceil(len(members) / most)))
    finished.sort(key=lambda members: int(members[0]))
    sums = np.stack([vectors[members].mean(axis=0) for members in finished]).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum([len(members) for members in finished])]).astype(np.int32)
    return Partitions(_on_sphere(sums) if spherical else sums, np.concatenate(finished).astype(np.int32), starts)


def nearest_centres(vectors: np.ndarray, centres: np.ndarray, spherical: bool) -> np.ndarray:
    """int32 [N]: the nearest of ``centres`` [P, d] to each of ``vectors`` [N, d]; by angle where ``spherical``."""
    offsets = 0.0 if spherical else 0.5 * np.square(centres).sum(axis=1)
    table = tf.constant(centres)
    items_at_once = max(1, SCORES_AT_ONCE // len(centres))
    blocks = []
    for start in range(0, len(vectors), items_at_once):
        scores = tf.matmul(vectors[start : start + items_at_once], table, transpose_b=True) - offsets
        blocks.append(tf.argmax(scores, axis=1, output_type=tf.int32).numpy())
    return np.concatenate(blocks)


def _k_means(vectors: np.ndarray, count: int, iterations: int, spherical: bool, random: np.random.Generator) -> np.ndarray:
    """At most ``count`` centres [P, d] of Lloyd's algorithm; a centre that loses all its items starts again at one of them."""
    distinct = min(count, len(vectors))
    centres = vectors[random.choice(len(vectors), distinct, replace=False)]
    for _ in range(iterations):
        nearest = nearest_centres(vectors, centres, spherical)
        sizes = np.bincount(nearest, minlength=distinct)
        ordered = vectors[np.argsort(nearest, kind="stable")]
        filled = np.flatnonzero(sizes)
        starts = np.concatenate([[0], np.cumsum(sizes[filled])[:-1]])
        centres = vectors[random.choice(len(vectors), distinct)]
        centres[filled] = np.add.reduceat(ordered, starts, axis=0) / sizes[filled, None]
        centres = _on_sphere(centres) if spherical else centres
    return centres


def _on_sphere(centres: np.ndarray) -> np.ndarray:
    """Centres of length 1. Only their directions count where all items have one length."""
    return centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)


def _by_partition(items: np.ndarray, nearest: np.ndarray, count: int) -> list[np.ndarray]:
    """The ``items`` of each partition that has any."""
    ordered = items[np.argsort(nearest, kind="stable")]
    return [part for part in np.split(ordered, np.cumsum(np.bincount(nearest, minlength=count))[:-1]) if len(part)]


def _sample(items: np.ndarray, most: int, random: np.random.Generator) -> np.ndarray:
    return items if len(items) <= most else np.sort(random.choice(items, most, replace=False))

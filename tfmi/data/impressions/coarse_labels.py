"""Coarse labels out of fine ones: whether a user took anything of a row's category, brand, ..., in the training part.

Source: "MGIPF: Multi-Granularity Interest Prediction Framework for Personalized Recommendation", SIGIR 2025.
A label of one row is made of other rows' outcomes. Therefore split first and label afterwards: only the rows that train come in, once
more for every smaller training part; rows to validate or test on have no coarse labels. A coarse label is a target, never an input.
"""

from __future__ import annotations

import numpy as np

from tfmi.data.dataset import FIRST_INDEX


def pseudo_coarse_labels(users: np.ndarray, labels: np.ndarray, coarse_values: np.ndarray) -> np.ndarray:
    """For each training row, whether its user has a positive row of the same coarse value; an unknown value shares with nothing.

    Args:
        users: int [n], each row's user.
        labels: [n] fine labels, 0 or 1.
        coarse_values: int [n], the coarse feature of each row's item; 0 and 1 are unknown.

    Returns:
        float32 [n], in the order of the rows and independent of it: 1 wherever the fine label is 1.

    Raises:
        ValueError: The arrays are not equally long.
    """
    if not len(users) == len(labels) == len(coarse_values):
        raise ValueError(f"expected as many users, labels and values, got {len(users)}, {len(labels)} and {len(coarse_values)}")
    positive = np.asarray(labels) > 0
    known = np.asarray(coarse_values) >= FIRST_INDEX
    if known.any():
        # User and value in one integer. Users are renumbered, so that no id is too large for that.
        _, user = np.unique(np.asarray(users)[known], return_inverse=True)
        value = np.asarray(coarse_values)[known].astype(np.int64)
        _, group = np.unique(user.astype(np.int64) * (value.max() + 1) + value, return_inverse=True)
        liked = np.bincount(group, weights=positive[known]) > 0
        positive[known] = liked[group]
    return positive.astype(np.float32)


def shuffled_within_users(users: np.ndarray, coarse_labels: np.ndarray, seed: int) -> np.ndarray:
    """``coarse_labels`` [n] permuted among the rows of each user: as many of each kind, which say nothing about categories any more.

    For an ablation: what remains of a gain with these labels does not come from what users like.
    """
    in_order = np.argsort(users, kind="stable")
    shuffled_order = np.lexsort((np.random.default_rng(seed).random(len(users)), users))
    shuffled = np.empty_like(coarse_labels)
    shuffled[in_order] = coarse_labels[shuffled_order]
    return shuffled

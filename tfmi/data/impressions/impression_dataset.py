"""What ranking data is: rows of user, item and outcome, and the clicks that histories are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfmi.data.dataset import Catalogue, InteractionDataset, Sequences, UserProfiles


@dataclass(frozen=True)
class ImpressionRows:
    """Items that users were shown, row by row in the log's order.

    Attributes:
        row_ids: int64 [n]: each row's place in the log, by which anything else that is known of a row is joined.
        users: int32 [n]: rows of ``RankingDataset.clicks``.
        items: int32 [n] item indices.
        labels: float32 [n]: 1 clicked, 0 not.
        timestamps: float64 [n] seconds, or places in an order.
        history_ends: int64 [n]: where in ``clicks.items`` the row's history ends: after the user's last click strictly before the row.
    """

    row_ids: np.ndarray
    users: np.ndarray
    items: np.ndarray
    labels: np.ndarray
    timestamps: np.ndarray
    history_ends: np.ndarray

    def __len__(self) -> int:
        return len(self.row_ids)

    def take(self, rows: np.ndarray) -> ImpressionRows:
        """The rows that ``rows`` (bool [n] or positions) chooses."""
        return ImpressionRows(
            self.row_ids[rows], self.users[rows], self.items[rows], self.labels[rows], self.timestamps[rows], self.history_ends[rows]
        )


@dataclass(frozen=True)
class RankingDataset:
    """Everything that training and judging a model that ranks need.

    Attributes:
        catalogue: The items. Vocabulary and features are those of ``retrieval``; its counts are of the rows of ``train``, clicked or not,
            so that a count says nothing of a row's own label.
        clicks: Every user's clicks, all parts, in time order, one row per user.
        train, valid, test: The rows to learn from, to choose by, and to look at once.
        retrieval: The clicks of the same split, as data for a retriever: item indices and profile rows are the same in both. A part of it
            may be empty where no user has clicked on either side of a moment.
        report: Counts for ``metrics.json``.
        truth: What a generator knows and a model does not, by ``row_ids``: ``preference`` float32, the probability that the user likes
            the item, and ``liked`` bool, whether the user does; empty otherwise.
    """

    catalogue: Catalogue
    clicks: Sequences
    train: ImpressionRows
    valid: ImpressionRows
    test: ImpressionRows
    retrieval: InteractionDataset
    report: Mapping[str, Any]
    truth: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Short name for reports."""
        return self.retrieval.name

    @property
    def profiles(self) -> UserProfiles | None:
        """User features, or None; ``clicks.users`` are rows of them."""
        return self.retrieval.profiles

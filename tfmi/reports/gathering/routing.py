"""Routing of real users, with titles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfmi.data.dataset import Catalogue, EvaluationSet, UserProfiles
from tfmi.evaluation.routing import Routing
from tfmi.reports.gathering.labels import item_label, user_label

SHOWN_USERS = 2
SHOWN_ITEMS = 16


def routing_values(
    routing: Sequence[Routing], examples: EvaluationSet, catalogue: Catalogue, profiles: UserProfiles | None
) -> list[dict[str, Any]]:
    """The newest ``SHOWN_ITEMS`` items of the first ``SHOWN_USERS`` users: ``items``, oldest first, and ``weights`` [items, interests]."""
    return [
        {
            "user": user_label(profiles, int(examples.histories.users[user.row]), user.row),
            "history_length": len(user.items),
            "items": [item_label(catalogue, int(item)) for item in user.items[-SHOWN_ITEMS:]],
            "weights": user.weights[:, -SHOWN_ITEMS:].T.astype(float).round(4).tolist(),
        }
        for user in routing[:SHOWN_USERS]
    ]

"""A log as tags see it: events of users with items, the tags of these, and what else becomes known of users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tfmi.data.tables import UserTable
from tfmi.data.tags.facts import Facts


@dataclass(frozen=True)
class FieldSource:
    """Where a multi-valued field of users comes from.

    Attributes:
        facts: Of users (``keys`` are user codes).
        names: The name of each value code; None: the values are tag codes.
        keep: Of more values than fit, the heaviest or the newest.
    """

    facts: Facts
    names: Sequence[str] | None = None
    keep: Literal["heaviest", "newest"] = "heaviest"


@dataclass(frozen=True)
class TagLog:
    """A log in time order.

    Attributes:
        name: Short name for reports.
        user_ids: The id of each user code.
        num_items: Item codes are below it.
        tag_names: The name of each tag code.
        users, items: int64 [events] codes.
        times: float64 [events], never falling.
        task_names: The tasks, an action before those that imply it.
        labels: bool [events, A]: of which tasks an event is a positive.
        tags: The tags of events or items: ``keys`` are positions of events, or item codes.
        tags_belong_to: Which of the two. Tags of items may change over time.
        fields: The users' fields.
        profiles: What users have said of themselves, or None.
        report: What was read.
        parts: int8 [events], of a log that says its own split, the part of each event; its ``times`` are then those of a ``PartClock``.
    """

    name: str
    user_ids: Sequence[str]
    num_items: int
    tag_names: Sequence[str]
    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    task_names: tuple[str, ...]
    labels: np.ndarray
    tags: Facts
    tags_belong_to: Literal["events", "items"]
    fields: Mapping[str, FieldSource]
    profiles: UserTable | None = None
    report: Mapping[str, Any] = field(default_factory=dict)
    parts: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.users)

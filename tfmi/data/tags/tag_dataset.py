"""What a loaded dataset of users and tags is: plain NumPy arrays. Tag and value indices as in ``tfmi.data.dataset``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfmi.data.dataset import Feature, Sequences, Vocabulary


@dataclass(frozen=True)
class UserStates:
    """Users at moments: what was known of a user strictly before a moment. Several labelled rows share a state.

    Attributes:
        fields: By name, row by row the fields' values at that moment. A user of whom nothing is known has empty fields.
        users: int32 [states]: positions in ``TagUsers.ids``.
        times: float64 [states], infinite for the newest state of a user.
    """

    fields: Mapping[str, Feature]
    users: np.ndarray
    times: np.ndarray

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class TagRows:
    """Labelled items: a user in a state saw an item with some tags, and did or did not act.

    Attributes:
        states: int32 [rows]: rows of ``UserStates``.
        tags: int32 [rows, N]: the item's tags, 0 pads, 1 stands for tags that training does not know; every row has a known one.
        labels: float32 [rows, A], 0 or 1 for each task.
        weights: float32 [rows, A]: 0 where a task's label says nothing.
        users: int32 [rows].
        times: float64 [rows]; a sampled negative has the time of its positive.
    """

    states: np.ndarray
    tags: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    users: np.ndarray
    times: np.ndarray

    def __len__(self) -> int:
        return len(self.states)


@dataclass(frozen=True)
class TagEvaluation:
    """Users at one moment, and the tags of what they did afterwards.

    Attributes:
        states: int32 [users]: rows of ``UserStates``, those of the moment.
        targets: Per task, a row of distinct tags per user, empty where the user did nothing more; index 1 for each tag that training does
            not know, which counts as missed.
        target_is_new: Per task, bool [targets]: the user had seen the tag in no task before the moment.
        own: Per task, a row per user of the known tags of what the user had done before the moment, with the number of events as weight.
    """

    states: np.ndarray
    targets: Sequence[Sequences]
    target_is_new: Sequence[np.ndarray]
    own: Sequence[Sequences]

    def __len__(self) -> int:
        return len(self.states)

    def has_history(self) -> np.ndarray:
        """bool [users]: who had done something before the moment."""
        return np.any([own.lengths() > 0 for own in self.own], axis=0)

    def new_targets(self, task: int) -> Sequences:
        """The targets of a task without the tags that the user had seen before."""
        targets, new = self.targets[task], self.target_is_new[task]
        running = np.concatenate([[0], np.cumsum(new)]).astype(np.int64)
        return Sequences(running[targets.offsets], targets.items[new], None, None, targets.users)


@dataclass(frozen=True)
class TagUsers:
    """Everybody in the log, as known at its end.

    Attributes:
        ids: Raw user ids.
        states: int32 [users]: each user's newest state.
    """

    ids: Sequence[str]
    states: np.ndarray

    def __len__(self) -> int:
        return len(self.states)


@dataclass(frozen=True)
class TagDataset:
    """Everything that training, evaluation and export of a user-tag model need.

    Attributes:
        name: Short name for reports.
        tags: The tags of training positives, most frequent first.
        tag_counts: int64 [A, tag rows]: in how many training positives of each task a tag occurs; 0 at padding and unknown.
        task_names: The tasks, an action before those that imply it.
        states: The users' states.
        tag_fields: The names of the fields whose values are tags, all with the vocabulary ``tags``.
        train, valid, test: Labelled rows, split by time.
        valid_tags, test_tags: What to predict from the moment on at which a part begins.
        users: For audiences.
        report: Counts for ``metrics.json``.
    """

    name: str
    tags: Vocabulary
    tag_counts: np.ndarray
    task_names: tuple[str, ...]
    states: UserStates
    tag_fields: tuple[str, ...]
    train: TagRows
    valid: TagRows
    test: TagRows
    valid_tags: TagEvaluation
    test_tags: TagEvaluation
    users: TagUsers
    report: Mapping[str, Any] = field(default_factory=dict)

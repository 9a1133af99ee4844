"""Layers that hold counts of the training data."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from tfmi.data.dataset import Sequences


@runtime_checkable
class AdaptsToSequences(Protocol):
    """A component that looks at the training data once, before training, as Keras' preprocessing layers do.

    What it counts goes into variables that are not trained, so that checkpoints and SavedModels hold them.
    """

    def adapt(self, sequences: Sequences, num_rows: int) -> None:
        """Count.

        Args:
            sequences: Training rows.
            num_rows: Rows of an item table: real items have indices 2 to ``num_rows - 1``.
        """

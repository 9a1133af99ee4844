"""An exported version folder as Python sees it: signatures from NumPy arrays to NumPy arrays, and the metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.core.errors import ExportError, nearest
from tfmi.data.dataset import FIRST_INDEX
from tfmi.export.metadata import load_metadata
from tfmi.index.scann import ScannIndex, load_scann_ops

ITEMS_AT_ONCE = 100_000


class ExportedModel:
    """A loaded version. Nothing of the model's Python code is needed, only the op library of its index.

    Args:
        version_folder: ``<name>/<version>``.

    Attributes:
        metadata: See ``load_metadata``.

    Raises:
        ExportError: The folder is not an exported model.
        IndexBuildError: The model needs ScaNN's ops, which this environment lacks.
    """

    def __init__(self, version_folder: str | Path) -> None:
        self.metadata = load_metadata(version_folder)
        if self.metadata["index"]["kind"] == ScannIndex.kind:
            load_scann_ops()
        self._model = tf.saved_model.load(str(version_folder))

    @property
    def signature_names(self) -> list[str]:
        """The names of the signatures, sorted."""
        return sorted(self._model.signatures)

    def item_ids(self) -> list[str]:
        """The items of a retriever in index order, from index ``FIRST_INDEX`` on.

        Raises:
            ExportError: It is no retriever, or an older version of tfmi exported it.
        """
        ids = self._part("item_ids")(tf.range(FIRST_INDEX, self.metadata["items"] + FIRST_INDEX)).numpy()
        return [identifier.decode("utf-8") for identifier in ids]

    def item_vectors(self) -> np.ndarray:
        """float32 [items + 2, d], a row for each item index: what an index of any kind is built from.

        Raises:
            ExportError: The model ranks without an index, or an older version of tfmi exported it.
        """
        rows = self.metadata["items"] + FIRST_INDEX
        find = self._part("item_vectors")
        return np.concatenate([find(tf.range(start, min(start + ITEMS_AT_ONCE, rows))).numpy() for start in range(0, rows, ITEMS_AT_ONCE)])

    def recommend_items(self, inputs: Mapping[str, Any], n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What ``recommend`` answers, at any length, and without strings.

        Args:
            inputs: Those of ``recommend``; ``exclude`` may have any width.
            n: Results per user.

        Returns:
            Item indices int32, scores float32 and interests int32, [B, n] each; where there are fewer, 0, -inf and -1.

        Raises:
            ExportError: It is no retriever, or an older version of tfmi exported it.
        """
        expected = self.metadata["signatures"].get("recommend", {}).get("inputs", {})
        tensors = [tf.convert_to_tensor(inputs[name], tf.as_dtype(expected[name]["dtype"])) for name in sorted(expected)]
        items, scores, interests = self._part("item_answers")(*tensors, tf.constant(n, tf.int32))
        return items.numpy(), scores.numpy(), interests.numpy()

    def _part(self, name: str) -> Callable[..., Any]:
        part = getattr(getattr(self._model, "parts", None), name, None)
        if part is None:
            raise ExportError(
                f"this model does not hold its {name.replace('_', ' ')}: it ranks without an index, or was exported by an older version; "
                "export it again"
            )
        return part

    def predict(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Call a signature; strings come back as ``bytes`` objects.

        Raises:
            ExportError: There is no such signature, or the inputs' names are not its own.
            tf.errors.InvalidArgumentError: The inputs' shapes are wrong.
        """
        if signature not in self._model.signatures:
            raise ExportError(f"no signature {signature!r}{nearest(signature, self.signature_names)}; there are {self.signature_names}")
        function = self._model.signatures[signature]
        expected = function.structured_input_signature[1]
        if set(inputs) != set(expected):
            raise ExportError(f"signature {signature!r} takes the inputs {sorted(expected)}, got {sorted(inputs)}")
        tensors = {name: tf.convert_to_tensor(value, expected[name].dtype) for name, value in inputs.items()}
        return {name: value.numpy() for name, value in function(**tensors).items()}

"""Approximate search by ScaNN (Guo et al., ICML 2020) inside the graph.

This builds on ScaNN's own TensorFlow ops rather than on ``tfrs.layers.factorized_top_k.ScaNN``, which wraps the same ops but cannot

- score a catalogue by brute force, which one of fewer than 16 items needs;
- reorder more candidates when more results are asked for: it silently answers with fewer;
- mark missing results: it answers with item 0 and NaN;
- share one searcher between the signatures of a SavedModel: in a TensorFlow session each would build, and hold, its own;
- train its codes for inner products (anisotropic quantisation).
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.core.errors import IndexBuildError
from tfmi.data.dataset import FIRST_INDEX
from tfmi.index.auto import ScannParameters, choose_parameters, widened
from tfmi.index.base import InterestIndex, as_array, check_item_vectors, finish_answer, gather_rows

# The share of a vector's length that quantisation errors along it weigh more from: the value that ScaNN's authors give for inner products.
ANISOTROPIC_QUANTIZATION_THRESHOLD = 0.2
# However many results are asked for, the leaves searched for them hold about this many times as many items.
SEARCHED_ITEMS_PER_RESULT = 8
TRAINING_ITEMS_PER_LEAF = 50
FEWEST_TRAINING_ITEMS = 100_000


def load_scann_ops() -> ModuleType:
    """Load ScaNN's ops into this process, which loading a SavedModel with a ScaNN index needs, too.

    Raises:
        IndexBuildError: ScaNN cannot be imported here.
    """
    try:
        from scann import scann_ops
    except (ImportError, tf.errors.OpError) as error:
        raise IndexBuildError(
            f"index 'scann' needs the package 'scann', which cannot be imported here ({error}); install it where there is a wheel for "
            "this platform and Python, or use the index 'exact' or 'partitioned', which answer the same with stock TensorFlow ops"
        ) from None
    return scann_ops


def has_scann() -> bool:
    """Whether ScaNN's ops can be loaded here."""
    try:
        load_scann_ops()
    except IndexBuildError:
        return False
    return True


def scann_op_library() -> Path:
    """The shared library with ScaNN's ops, for servers that load it themselves; found without importing ScaNN or TensorFlow.

    Raises:
        IndexBuildError: ScaNN is not installed.
    """
    package = importlib.util.find_spec("scann")
    if package is None or not package.submodule_search_locations:
        raise IndexBuildError("the package 'scann' is not installed, so there is no library with its ops")
    return Path(package.submodule_search_locations[0]) / "scann_ops" / "cc" / "_scann_ops.so"


class ScannIndex(InterestIndex):
    """Searches the nearest partitions, scores them with quantised vectors, and scores the best of these exactly.

    Parameters that are not given follow from the catalogue's size (``tfmi.index.auto``); all are described at ``ScannParameters``.

    Raises:
        IndexBuildError: ScaNN is missing here, or the vectors cannot be used (see ``check_item_vectors``).
    """

    kind = "scann"
    op_namespaces = ("Scann",)

    def __init__(
        self,
        item_vectors: np.ndarray | tf.Tensor,
        *,
        leaves: int | None = None,
        leaves_to_search: int | None = None,
        reordering_candidates: int | None = None,
        dimensions_per_block: int | None = None,
        training_iterations: int = 12,
    ) -> None:
        self._ops = load_scann_ops()
        vectors = check_item_vectors(item_vectors)
        super().__init__(*vectors.shape)
        self.scann_parameters = choose_parameters(
            self.num_items,
            self.dimension,
            leaves=leaves,
            leaves_to_search=leaves_to_search,
            reordering_candidates=reordering_candidates,
            dimensions_per_block=dimensions_per_block,
            training_iterations=training_iterations,
        )
        given = {"leaves_to_search": leaves_to_search, "reordering_candidates": reordering_candidates}
        self._by_hand = [name for name, value in given.items() if value is not None]
        self._state = _train_searcher(self._ops, as_array(vectors)[FIRST_INDEX:], self.scann_parameters).serialize_to_module()
        self._shared_name = _content_name(self._state)

    @property
    def is_approximate(self) -> bool:
        """See ``InterestIndex.is_approximate``."""
        return not self.scann_parameters.brute_force

    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """See ``InterestIndex.search``. Asking for many results searches further than the parameters say."""
        positions, scores = self.search_scann(queries, k)
        return finish_answer(scores, positions, k)

    def search_scann(self, queries: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """ScaNN's own answer: positions int32 [M, w] among the real items and scores [M, w], w <= k, with NaN where one is missing."""
        parameters = self.scann_parameters
        if parameters.brute_force:
            candidates, leaves_to_search = -1, -1  # ScaNN's sign for what it was built with
        else:
            leaves_for_results = tf.math.ceil(tf.cast(k, tf.float32) * SEARCHED_ITEMS_PER_RESULT * parameters.leaves / self.num_items)
            leaves_to_search = tf.clip_by_value(tf.cast(leaves_for_results, tf.int32), parameters.leaves_to_search, parameters.leaves)
            candidates = tf.maximum(k * parameters.reordering_per_result, parameters.reordering_candidates)
        return self._ops.scann_search_batched(self.searcher(), queries, k, candidates, leaves_to_search, parallel=True)

    def searcher(self) -> tf.Tensor:
        """The handle of ScaNN's searcher, which the first use in a process builds from the variables.

        The shared name is what lets all signatures of a SavedModel use one searcher; it names the content, so that two versions of a
        model in one process never share.
        """
        state = self._state
        return self._ops.tensors_to_scann(
            state.dataset,
            state.scann_config,
            state.serialized_partitioner,
            state.datapoint_to_token,
            state.ah_codebook,
            state.hashed_dataset,
            state.int8_dataset,
            state.int8_multipliers,
            state.dp_norms,
            shared_name=self._shared_name,
        )

    def vectors(self, items: tf.Tensor) -> tf.Tensor:
        """See ``InterestIndex.vectors``. They are ScaNN's own copy, kept for exact scores."""
        positions = tf.maximum(items - FIRST_INDEX, 0)
        found = gather_rows(self._state.dataset, positions)  # [B, d]
        return tf.where((items >= FIRST_INDEX)[:, None], found, 0.0)

    def parameters(self) -> dict[str, int | str]:
        """See ``InterestIndex.parameters``."""
        chosen = self.scann_parameters
        if chosen.brute_force:
            return {"kind": self.kind, "scoring": "brute_force"}
        return {
            "kind": self.kind,
            "scoring": "asymmetric_hashing",
            "leaves": chosen.leaves,
            "leaves_to_search": chosen.leaves_to_search,
            "reordering_candidates": chosen.reordering_candidates,
            "reordering_per_result": chosen.reordering_per_result,
            "dimensions_per_block": chosen.dimensions_per_block,
            "training_iterations": chosen.training_iterations,
        }

    def wider_searches(self) -> list[dict[str, int]]:
        """See ``InterestIndex.wider_searches``: more leaves, or exact scores for more candidates."""
        return widened(self.scann_parameters, self.num_items, self._by_hand)

    def set_search(self, parameters: Mapping[str, int]) -> None:
        """See ``InterestIndex.set_search``."""
        self.scann_parameters = dataclasses.replace(self.scann_parameters, **parameters)  # type: ignore[arg-type]

    def settings_by_hand(self) -> list[str]:
        """See ``InterestIndex.settings_by_hand``."""
        return [] if self.scann_parameters.brute_force else self._by_hand


def _train_searcher(scann_ops: ModuleType, vectors: np.ndarray, parameters: ScannParameters) -> Any:
    """A ScaNN searcher of ``vectors`` [N, d]."""
    builder = scann_ops.builder(vectors, parameters.reordering_candidates, "dot_product")
    if parameters.brute_force:
        return builder.score_brute_force().build()
    training_items = min(len(vectors), max(FEWEST_TRAINING_ITEMS, TRAINING_ITEMS_PER_LEAF * parameters.leaves))
    builder = builder.tree(
        num_leaves=parameters.leaves,
        num_leaves_to_search=parameters.leaves_to_search,
        training_sample_size=training_items,
        training_iterations=parameters.training_iterations,
        random_init=False,  # k-means++ makes the same partitions every time; ScaNN's random start has no seed to set
    )
    builder = builder.score_ah(
        dimensions_per_block=parameters.dimensions_per_block, anisotropic_quantization_threshold=ANISOTROPIC_QUANTIZATION_THRESHOLD
    )
    return builder.reorder(parameters.reordering_candidates).build()


def _content_name(state: tf.Module) -> str:
    """A name for a searcher that is the same only for the same content."""
    digest = hashlib.blake2b(digest_size=16)
    for variable in state.variables:
        digest.update(np.ascontiguousarray(variable.numpy()).tobytes() if variable.dtype != tf.string else variable.numpy())
    return f"tfmi_scann_{digest.hexdigest()}"

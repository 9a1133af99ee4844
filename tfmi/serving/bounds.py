"""How much one request may ask for, by signature, found out before anything is allocated.

A few bytes of protocol buffer can claim a tensor of any size (one value, repeated by its shape), and a few rows of a signature can make a
graph hold far more than they are: every exclusion widens the search of its whole batch, every candidate is scored by a ranker. So a request
is measured by an estimate of the values that its graph holds at a time, from its shapes, the signature and the export's metadata.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorflow.core.protobuf import meta_graph_pb2

from tfmi.serving.errors import invalid

logger = logging.getLogger(__name__)

Shapes = Mapping[str, tuple[int, ...]]

# What a ranker holds for a candidate, and an explanation for a value, in values: fields times width, and hidden layers.
_RANKED_CANDIDATE = 64
_EXPLAINED_VALUE = 64
# Candidates per result that diversity chooses among; export.diversity_pool is 4 by default.
_POOL = 4
# An exclusion in a serialised example has at least a tag, a length and one character.
_BYTES_OF_AN_EXCLUSION = 3
_MOST_EXCLUSIONS = 10_000


@dataclass(frozen=True)
class RequestLimits:
    """What one request may ask for.

    Attributes:
        rows: Users, items or tags per request.
        elements: Values that its graph may hold at a time, by the estimate of ``SignatureBounds``.
        scores: Scores that an exact search may compute: rows times interests times items, or times tags or users of a tag model.
        text_bytes: Bytes of all strings of a request, repeated ones as often as its shapes say.
    """

    rows: int = 1024
    elements: int = 1 << 22
    scores: int = 1 << 31
    text_bytes: int = 16 << 20


@dataclass(frozen=True)
class ModelCosts:
    """What the metadata of an export says about the cost of a row. The defaults suit a model without metadata.

    Attributes:
        results: Results of an answer.
        most_results: Results that a request may ask for, where it may.
        interests: Searches per user.
        items: Items or tags that a user's search scores; 0 where an approximate index leaves out most of them.
        audience: Users that a tag's search scores.
        pool: Candidates per user that a ranker scores.
    """

    results: int = 1
    most_results: int = 1
    interests: int = 1
    items: int = 0
    audience: int = 0
    pool: int = 0

    @classmethod
    def from_folder(cls, folder: Path, signatures: Mapping[str, meta_graph_pb2.SignatureDef]) -> ModelCosts:
        """Read the metadata of a version folder. Whatever is not there, or not as expected, keeps its default."""
        try:
            metadata = json.loads((folder / "assets.extra" / "tfmi_metadata.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return cls()
        widths = _mapping(metadata, "widths")
        exact = _mapping(metadata, "index").get("kind") != "scann"
        results = max(_count(widths, "num_results"), 1)
        return cls(
            results=results,
            most_results=max(_count(_mapping(metadata, "filters"), "most_results"), results),
            interests=_interests(signatures),
            items=(_count(metadata, "items") or _count(metadata, "tags")) if exact else 0,
            audience=_count(metadata, "users") if exact else 0,
            pool=_count(_mapping(metadata, "ranking"), "pool"),
        )


class SignatureBounds:
    """The bounds of one signature.

    Args:
        name: The signature's name.
        signature: Its inputs and outputs.
        costs: What the metadata says.
        limits: What a request may ask for.
    """

    def __init__(self, name: str, signature: meta_graph_pb2.SignatureDef, costs: ModelCosts, limits: RequestLimits) -> None:
        self._name, self._signature, self._costs, self._limits = name, signature, costs, limits
        outputs = signature.outputs
        self._finds_items = "item_ids" in outputs or any(output.endswith("_tags") for output in outputs)
        self._finds_users = any(output.endswith("_user_ids") for output in outputs)
        self._for_users = "item_ids" not in signature.inputs

    def check(self, shapes: Shapes, text_bytes: int = 0, longest_text: int = 0) -> None:
        """Refuse a request that asks for too much.

        Args:
            shapes: The shape of every input; they fit the signature.
            text_bytes: Bytes of all strings, as far as they are known, repeated ones as often as they are.
            longest_text: Bytes of the longest string.

        Raises:
            RequestError: ``INVALID_ARGUMENT``, with what was asked for and how much may be.
        """
        limits = self._limits
        rows = max((shape[0] for shape in shapes.values() if shape), default=1)
        if rows > limits.rows:
            raise self._refused(f"{rows} rows are more than the {limits.rows} that this server takes (--max-rows)")
        if text_bytes > limits.text_bytes:
            raise self._refused(f"its strings have {text_bytes} bytes, more than the {limits.text_bytes} that this server takes")
        per_row, scores = self._per_row(shapes, longest_text), self._scores_per_row()
        if max(rows, 1) * per_row > limits.elements:  # no rows of a giant width are a giant shape all the same
            raise self._refused(
                f"{rows} rows, each of about {per_row} elements for the model to hold, are more than the {limits.elements} elements "
                f"that this server takes (--max-elements): {max(limits.elements // per_row, 1) if rows > 1 else 'fewer columns'} at a time"
            )
        if rows * scores > limits.scores and rows > 1:
            raise self._refused(
                f"{rows} rows, each of {scores} scores in the index, are more than the {limits.scores} scores that this server takes: "
                f"{max(limits.scores // scores, 1)} at a time"
            )

    def _scores_per_row(self) -> int:
        """Of an exact search, once for each interest of a user."""
        if self._finds_users:
            return self._costs.audience
        if self._finds_items:
            return self._costs.items * (self._costs.interests if self._for_users else 1)
        return 0

    def _per_row(self, shapes: Shapes, longest_text: int) -> int:
        columns = {name: math.prod(shape[1:]) for name, shape in shapes.items()}
        results = self._costs.most_results if "num_results" in columns else self._costs.results
        # An output whose width the signature leaves open has a column for each candidate, or for each result.
        width = columns.get("candidates", results)
        total = sum(columns.values())
        for info in self._signature.outputs.values():
            sizes = [dimension.size for dimension in info.tensor_shape.dim][1:]
            total += math.prod(size if size >= 0 else width for size in sizes)
        if self._finds_items and self._for_users:
            excluded = columns.get("exclude", 0)
            if "examples" in columns:
                excluded = min(longest_text // _BYTES_OF_AN_EXCLUSION, _MOST_EXCLUSIONS)
            depth = max(_POOL * results, self._costs.pool) + excluded
            total += self._costs.interests * depth + self._costs.pool * _RANKED_CANDIDATE
        if "candidates" in columns:
            total += columns["candidates"] * _RANKED_CANDIDATE
        if self._name.startswith("explain"):
            total += sum(columns.values()) * _EXPLAINED_VALUE
        return total

    def _refused(self, what: str) -> Exception:
        return invalid(f"signature {self._name!r}: more than the server takes in one request: {what}")


def _interests(signatures: Mapping[str, meta_graph_pb2.SignatureDef]) -> int:
    if "user_interests" not in signatures:
        return 1
    sizes = [dimension.size for dimension in signatures["user_interests"].outputs["interests"].tensor_shape.dim]
    return sizes[1] if len(sizes) > 1 and sizes[1] > 0 else 1


def _mapping(value: Any, key: str) -> Mapping[str, Any]:
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _count(values: Any, key: str) -> int:
    found = values.get(key) if isinstance(values, Mapping) else None
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else 0

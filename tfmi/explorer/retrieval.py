"""What a retriever makes of a history: its interests, what each finds, and the merged answer, for the page."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from tfmi.explorer.items import ExploredItems, map_points
from tfmi.explorer.questions import Identifier, Question
from tfmi.explorer.versions import OpenVersion
from tfmi.serving.client import ExplainedInterest

MOST_HISTORY = 1000
MOST_VALUES = 1000


class FilterWish(Question):
    """What items must be, by one column: values, or bounds."""

    allow: list[Identifier] = Field(default_factory=list, max_length=MOST_VALUES)
    deny: list[Identifier] = Field(default_factory=list, max_length=MOST_VALUES)
    min: float | None = None
    max: float | None = None

    def as_filter(self) -> dict[str, Any]:
        """As the client takes it; empty where nothing is asked for."""
        return {name: value for name, value in self.model_dump().items() if value not in (None, [])}


class ExploreRequest(Question):
    """What the page asks a retriever.

    Attributes:
        model: Which version.
        history: Item ids, oldest first.
        timestamps: Seconds beside the history, 0 where unknown, for models that read them.
        exclude: Never to be found.
        diversity: λ.
        n: Results.
        filters: By column.
        profile: By column.
    """

    model: Identifier
    history: list[Identifier] = Field(max_length=MOST_HISTORY)
    timestamps: list[float] | None = Field(None, max_length=MOST_HISTORY)
    exclude: list[Identifier] = Field(default_factory=list, max_length=MOST_HISTORY)
    diversity: float = Field(0.0, ge=0.0, le=1e6)
    n: int = Field(20, ge=1, le=1000)
    filters: dict[Identifier, FilterWish] = Field(default_factory=dict, max_length=100)
    profile: dict[Identifier, Any] = Field(default_factory=dict, max_length=100)


def explore(version: OpenVersion, asked: ExploreRequest) -> dict[str, Any]:
    """Ask a version about a history.

    Returns:
        ``history`` and ``exclude`` with their titles, ``interests`` (None with the reason ``whyNot``), ``answer``, ``retrieval`` of two
        stages, and ``milliseconds``.

    Raises:
        ServingError: The server did not answer.
        ValueError: The model does not take what was asked for.
    """
    started = time.perf_counter()
    asking = _Asking(version, asked)
    answer = asking.answer()
    explained = asking.explained()
    places = asking.interest_places()
    items = version.items
    result: dict[str, Any] = {
        "model": version.key,
        "history": _history(items, asked.history, int(version.metadata["widths"]["history_length"])),
        "exclude": [items.describe(item) for item in asked.exclude],
        "answer": answer,
        "interests": None if explained is None else _interests(items, explained, places),
        "whyNot": asking.why_no_interests,
    }
    if result["interests"] is None and places:
        result["interests"] = [{"weights": None, "items": [], "place": place} for place in places]
    if version.metadata.get("stages") == ["retrieval", "ranking"] and explained:
        result["retrieval"] = retrieval_order(items, explained, len(answer))
    return result | {"milliseconds": round(1000 * (time.perf_counter() - started), 1)}


class _Asking:
    """The requests about one history."""

    def __init__(self, version: OpenVersion, asked: ExploreRequest) -> None:
        self._version, self._asked = version, asked
        reads_times = "timestamps" in version.signatures["serving_default"]["inputs"]
        times = asked.timestamps if reads_times and asked.timestamps and len(asked.timestamps) == len(asked.history) else None
        takes = {each["feature"] for each in version.metadata["profile_inputs"]}
        self._history = [asked.history]
        self._user: dict[str, Any] = {
            "profiles": [{name: value for name, value in asked.profile.items() if name in takes}],
            "timestamps": None if times is None else [times],
        }
        self._results = min(asked.n, version.most_results)
        wishes: dict[str, Any] = {"exclude": [asked.exclude]}
        filters = {column: wish for column, each in asked.filters.items() if (wish := each.as_filter())}
        if version.filters is not None:
            wishes |= {"num_results": self._results, "filters": filters or None}
        elif filters:
            raise ValueError(f"{version.key} takes no filters; export it with export.filterable")
        self._wishes = wishes
        self.why_no_interests = ""

    def answer(self) -> list[dict[str, Any]]:
        """The merged answer."""
        (found,) = self._version.client.recommend(self._history, diversity=self._asked.diversity, **self._user, **self._wishes)
        return [
            {**self._version.items.describe(each.item), "score": _number(each.score), "interest": each.interest}
            for each in found.items[: self._results]
        ]

    def explained(self) -> list[ExplainedInterest] | None:
        """Where interests come from; None where the model does not say."""
        if "explain_interests" not in self._version.signatures:
            self.why_no_interests = (
                "This model ranks by itself: it has no interests."
                if "user_interests" not in self._version.signatures
                else "This version was exported without the signature explain_interests: export it again to see what feeds each interest."
            )
            return None
        (explained,) = self._version.client.explain_interests(self._history, **self._user, **self._wishes)
        if not explained:
            self.why_no_interests = "No item of the history is known to this model, so that it answers with what is popular."
        return explained

    def interest_places(self) -> list[list[float]]:
        """Where the interests stand on the map; none without a map."""
        found = self._version.items.map
        if found is None or "user_interests" not in self._version.signatures:
            return []
        (interests,) = self._version.client.user_interests(self._history, **self._user)
        return map_points(found.projection.places(np.array(interests.vectors)).tolist()) if interests.vectors else []


def retrieval_order(items: ExploredItems, explained: Sequence[ExplainedInterest], most: int) -> list[dict[str, Any]]:
    """What interests found, each item by its best score: the order before a ranker has its say."""
    best: dict[str, tuple[float, int]] = {}
    for number, interest in enumerate(explained):
        for found in interest.items:
            if found.item not in best or found.score > best[found.item][0]:
                best[found.item] = (found.score, number)
    order = sorted(best, key=lambda item: -best[item][0])[:most]
    return [{**items.describe(item), "score": _number(best[item][0]), "interest": best[item][1]} for item in order]


def _interests(items: ExploredItems, explained: Sequence[ExplainedInterest], places: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    return [
        {
            "weights": [_number(weight) for weight in interest.weights],
            "items": [{**items.describe(found.item), "score": _number(found.score)} for found in interest.items],
            **({"place": places[number]} if number < len(places) else {}),
        }
        for number, interest in enumerate(explained)
    ]


def _history(items: ExploredItems, history: Sequence[str], length: int) -> list[dict[str, Any]]:
    """The items, and which of them the model reads: the newest ``length``."""
    first_read = max(len(history) - length, 0)
    return [{**items.describe(item), "read": place >= first_read} for place, item in enumerate(history)]


def user_profile(profile: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a sample user, as JSON has it."""
    return {
        name: value
        for name, value in profile.items()
        if value not in (None, "", {}) and not (isinstance(value, float) and math.isnan(value))
    }


def _number(value: float) -> float | None:
    """A number that JSON in browsers can hold."""
    return round(value, 6) if math.isfinite(value) else None

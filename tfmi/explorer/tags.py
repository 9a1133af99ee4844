"""What a model of users' tags makes of a user, for the page: tags, the reasons for one, and a tag's audience."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from pydantic import Field

from tfmi.explorer.questions import Identifier, Question
from tfmi.explorer.versions import OpenVersion
from tfmi.serving.client import ScoredTag, ScoredUser

MOST_FIELDS, MOST_VALUES = 100, 1000
# Of a field's values, those with the largest effects.
SHOWN_VALUES = 12


class TagsRequest(Question):
    """What the page asks a model of tags.

    Attributes:
        model: Which version.
        fields: By field, a text, a number, or weights by value.
        exclude: Tags never to be answered with.
        tag: To be explained, or whose audience is asked for; "" for a user's tags.
    """

    model: Identifier
    fields: dict[Identifier, str | float | dict[Identifier, float] | None] = Field(default_factory=dict, max_length=MOST_FIELDS)
    exclude: list[Identifier] = Field(default_factory=list, max_length=MOST_VALUES)
    tag: Identifier = ""


def user_tags(version: OpenVersion, asked: TagsRequest) -> dict[str, Any]:
    """A user's best tags by task, with the probability that each logit stands for; of whom nothing is known, the popular ones' shares.

    Raises:
        ServingError: The server did not answer.
        ValueError: The fields are not the model's.
    """
    (answer,) = version.client.user_tags([_known(asked)], exclude=[asked.exclude] if asked.exclude else None)
    return {
        "coldStart": answer.cold_start,
        "tasks": {task: [_scored(tag, answer.cold_start) for tag in tags] for task, tags in answer.tasks.items()},
    }


def reasons(version: OpenVersion, asked: TagsRequest) -> dict[str, Any]:
    """Why a user has a score for a tag, by task: see ``Client.explain_tags``."""
    (answer,) = version.client.explain_tags([_known(asked)], [asked.tag])
    explained: dict[str, Any] = {}
    for task, why in answer.items():
        if not math.isfinite(why.score):
            explained[task] = {"known": False}
            continue
        parts = dataclasses.asdict(why)
        fields, values = ([each for each in parts[name] if each["effect"] or each["attention"]] for name in ("fields", "values"))
        explained[task] = {**parts, "known": True, "fields": fields, "values": values[:SHOWN_VALUES]}
    return {"tag": asked.tag, "tasks": explained}


def audience(version: OpenVersion, tag: str) -> dict[str, Any]:
    """The users for a tag by task."""
    (answer,) = version.client.tag_users([tag])
    return {"tag": tag, "tasks": {task: [_user(user) for user in users] for task, users in answer.items()}}


def _known(asked: TagsRequest) -> dict[str, Any]:
    return {name: value for name, value in asked.fields.items() if value not in (None, "", {})}


def _scored(tag: ScoredTag, cold_start: bool) -> dict[str, Any]:
    return {"tag": tag.tag, "score": round(tag.score, 5), "probability": round(tag.score if cold_start else probability(tag.score), 5)}


def _user(user: ScoredUser) -> dict[str, Any]:
    return {"user": user.user, "score": round(user.score, 5), "probability": round(probability(user.score), 5)}


def probability(logit: float) -> float:
    """The sigmoid of a logit."""
    return 1.0 / (1.0 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1.0 + math.exp(logit))

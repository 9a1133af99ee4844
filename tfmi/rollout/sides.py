"""The two versions of a comparison: a version folder on this machine, or a model behind an address."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from tfmi.bulk.recommendations import RetrieverFields
from tfmi.core.errors import ConfigError, ExportError
from tfmi.export.exported_model import ExportedModel
from tfmi.export.publishing import newest_version
from tfmi.rollout.requests import KnownUser
from tfmi.serving.client import Client, ServingError

_ADDRESS = re.compile(r"(?P<server>https?://[^/]+)/v1/models/(?P<model>[^/:]+)(/versions/(?P<version>\d+))?/?")


@dataclass(frozen=True)
class Answer:
    """What one user is recommended, best first."""

    items: list[str]
    scores: list[float]


class Side(Protocol):
    """One of the versions that are compared."""

    @property
    def name(self) -> str:
        """For reports."""

    @property
    def folder(self) -> Path | None:
        """The version folder, or None if only its address is known."""

    def answer(self, users: Sequence[KnownUser]) -> list[Answer]:
        """What these users are recommended, asked in one request."""


def open_side(given: str) -> Side:
    """A version by its folder (``savedmodels/mind/3``; the newest of ``savedmodels/mind``) or address.

    Raises:
        ConfigError: It is neither.
        ExportError: The folder holds no exported retriever.
    """
    if given.startswith(("http://", "https://")):
        match = _ADDRESS.fullmatch(given)
        if match is None:
            raise ConfigError(f"{given}: expected an address such as http://127.0.0.1:8501/v1/models/mind/versions/3")
        return ServedSide(match["server"], match["model"], None if match["version"] is None else int(match["version"]))
    return FolderSide(newest_version(Path(given)))


class FolderSide:
    """A version folder, loaded into this process. See ``Side``."""

    def __init__(self, folder: Path) -> None:
        self.model = ExportedModel(folder)
        if "recommend" not in self.model.signature_names:
            raise ExportError(f"{folder}: no signature 'recommend'; versions of retrievers and of two stages can be compared")
        self.name = str(folder)
        self.folder = folder
        self._fields = RetrieverFields(self.model.metadata)
        self.profile_kinds = {each["feature"]: each["kind"] for each in self.model.metadata["profile_inputs"]}

    def answer(self, users: Sequence[KnownUser]) -> list[Answer]:
        """See ``Side``."""
        columns: dict[str, list[object]] = {"history": [user.history for user in users]}
        if "timestamps" in self._fields.kinds:
            columns["timestamps"] = [user.timestamps for user in users]
        for name, kind in self.profile_kinds.items():
            values = [user.profile.get(name) for user in users]
            if kind == "multi_valued":
                columns[name] = [list((value or {}).items()) for value in values]
            else:
                missing: object = np.nan if kind == "number" else ""
                columns[name] = [missing if value is None else value for value in values]
        found = self.model.predict("recommend", self._fields.request(columns, len(users)))
        answers = []
        for items, scores in zip(found["item_ids"], found["scores"], strict=True):
            kept = items != b""
            answers.append(Answer([item.decode("utf-8") for item in items[kept]], scores[kept].tolist()))
        return answers


class ServedSide:
    """A model behind an address that speaks TensorFlow Serving's REST API. See ``Side``.

    Args:
        server: ``http://host:port``.
        model: The model's name.
        version: Its version; None for the newest.
    """

    def __init__(self, server: str, model: str, version: int | None) -> None:
        self.name = f"{server}/v1/models/{model}" + ("" if version is None else f"/versions/{version}")
        self.folder: Path | None = None
        self._client = Client(server, model, version=version)

    def answer(self, users: Sequence[KnownUser]) -> list[Answer]:
        """See ``Side``; raises ``ExportError`` if the server does not answer."""
        try:
            metadata = self._client.metadata()
            columns = set(metadata.profile_columns)
            timestamps = [user.timestamps or [0.0] * len(user.history) for user in users] if metadata.reads_timestamps else None
            # Profile columns by the names of requests: what the other version reads may be unknown here.
            profiles = [
                {name: value for name, value in user.profile.items() if _request_name(name) in columns and value is not None}
                for user in users
            ]
            found = self._client.recommend([user.history for user in users], profiles=profiles, diversity=0.0, timestamps=timestamps)
        except (ServingError, ValueError) as error:
            raise ExportError(f"{self.name}: {error}") from None
        return [Answer([each.item for each in answer.items], [each.score for each in answer.items]) for answer in found]


def _request_name(column: str) -> str:
    """A profile column as the client names it."""
    return re.sub(r"[^A-Za-z0-9_]", "_", column)

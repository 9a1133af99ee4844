"""The versions that the page may ask about: what their folders say, and whether the server serves them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tfmi.core.errors import TfmiError
from tfmi.explorer.items import ExploredItems
from tfmi.explorer.tag_details import KnownProfile, TagTable
from tfmi.export.item_details import SAMPLE_USERS_PATH, read_sample_users
from tfmi.export.metadata import load_metadata
from tfmi.export.publishing import published_versions
from tfmi.rollout.requests import KnownUser, sample_users
from tfmi.serving.client import Client, ServingError
from tfmi.serving.errors import Code, RequestError

ASK_SECONDS = 10.0
MOST_SAMPLE_USERS = 200
USER_TAGS = "user_tags"


@dataclass(frozen=True)
class ModelFolder:
    """A model on the server and its folder.

    Attributes:
        name: As the server calls it.
        base: Has the version folders.
    """

    name: str
    base: Path


class OpenVersion:
    """One version: its folder, and the server that answers for it.

    Args:
        model: The model.
        version: The number.
        address: Gives that of the server's REST API, which need not run yet.
        pictures: See ``ExploredItems``.

    Raises:
        ExportError: The folder is not an export.
    """

    def __init__(self, model: ModelFolder, version: int, address: Callable[[], str], pictures: str | None) -> None:
        self.name, self.version, self.folder = model.name, version, model.base / str(version)
        self.metadata = load_metadata(self.folder)
        self._address = address
        self._pictures = pictures

    @cached_property
    def client(self) -> Client:
        """Asks the server about this version. A page that waits is better told at once than tried again for."""
        return Client(self._address(), self.name, timeout=ASK_SECONDS, version=self.version, retries=0)

    @property
    def key(self) -> str:
        """What the page calls it."""
        return version_key(self.name, self.version)

    @property
    def knows_tags(self) -> bool:
        """Whether it is a model of users' tags."""
        return bool(self.metadata.get("kind") == USER_TAGS)

    @property
    def signatures(self) -> dict[str, Any]:
        """What its metadata says of its signatures."""
        return dict(self.metadata["signatures"])

    @property
    def filters(self) -> dict[str, Any] | None:
        """What its metadata says of filters; None where requests have none."""
        found = self.metadata.get("filters")
        return found if isinstance(found, dict) else None

    @property
    def most_results(self) -> int:
        """The largest n that can be asked for."""
        widths = int(self.metadata["widths"]["num_results"])
        return widths if self.filters is None else int(self.filters["most_results"])

    @cached_property
    def items(self) -> ExploredItems:
        """Its items."""
        return ExploredItems(self.folder, self._pictures)

    @cached_property
    def tags(self) -> TagTable:
        """Its tags and some profiles, of a model of users' tags."""
        return TagTable(self.folder)

    @cached_property
    def sample_users(self) -> list[tuple[str, KnownUser]]:
        """Held-out users with a name for each; none where the folder has none."""
        if not (self.folder / SAMPLE_USERS_PATH).exists():
            return []
        users = sample_users(self.folder, most=MOST_SAMPLE_USERS)
        table = read_sample_users(self.folder)
        names = table["user_id"].to_pylist() if "user_id" in table.column_names else []
        return [(names[place] if place < len(names) else f"held-out user {place + 1}", user) for place, user in enumerate(users)]

    @property
    def profiles(self) -> list[KnownProfile]:
        """Known users of a model of users' tags."""
        return self.tags.profiles

    def describe(self) -> dict[str, Any]:
        """What the page has to know before it asks."""
        described: dict[str, Any] = {
            "key": self.key,
            "model": self.name,
            "version": self.version,
            "system": str(self.metadata.get("system", "")),
            "kind": USER_TAGS if self.knows_tags else "retrieval",
            "fields": [
                {"name": each["feature"], "kind": each["kind"], **({"width": each["width"]} if "width" in each else {})}
                for each in self.metadata["profile_inputs"]
            ],
        }
        if self.knows_tags:
            return described | {
                "tasks": [each["output"] for each in self.metadata["tasks"]],
                "tags": int(self.metadata["tags"]),
                "audience": "tag_users" in self.signatures,
                "users": [profile.name for profile in self.profiles],
            }
        return described | {
            "items": int(self.metadata["items"]),
            "twoStages": self.metadata.get("stages") == ["retrieval", "ranking"],
            "interests": self._interests(),
            "explains": "explain_interests" in self.signatures,
            "integration": self.metadata["integration"].get("kind", ""),
            "historyLength": int(self.metadata["widths"]["history_length"]),
            "usualResults": int(self.metadata["widths"]["num_results"]),
            "mostResults": self.most_results,
            "mostExclusions": int(self.metadata["widths"]["exclusion_width"]),
            "excludesHistory": bool(self.metadata["exclude_history"]),
            "diversity": bool(self.metadata["diversity"]),
            "filters": self._describe_filters(),
            "titles": self.items.has_titles,
            "pictures": self.items.has_pictures,
            "map": self._describe_map(),
            "users": [{"name": name, "items": len(user.history)} for name, user in self.sample_users],
        }

    def _interests(self) -> int:
        known = self.signatures.get("user_interests")
        return 0 if known is None else int(known["outputs"]["interests"]["shape"][1])

    def _describe_filters(self) -> list[dict[str, Any]]:
        columns = [] if self.filters is None else self.filters["columns"]
        return [{"column": each["column"], "kind": each["kind"], **self.items.filter_values(each["column"])} for each in columns]

    def _describe_map(self) -> dict[str, Any] | None:
        found = self.items.map
        return (
            None if found is None else {"items": len(found.item_ids), "share": [round(part, 4) for part in found.projection.share.tolist()]}
        )


class Versions:
    """Everything that the page may choose from.

    Args:
        models: The models, the first of which the page begins with.
        address: Of the server's REST API.
        newest: How many of the newest versions of each model.
        pictures: See ``ExploredItems``.
    """

    def __init__(self, models: Sequence[ModelFolder], address: str, *, newest: int, pictures: str | None = None) -> None:
        self._models, self.address, self._newest, self._pictures = list(models), address, newest, pictures
        self._open: dict[str, OpenVersion] = {}
        self._lock = threading.Lock()

    def describe(self) -> list[dict[str, Any]]:
        """Every version that is there, the newest of each model first, with ``served`` and, where it is not, ``why``."""
        described = []
        for model in self._models:
            served, problem = self._served(model)
            for key in self.folders(model):
                try:
                    opened = self.open(key)
                    entry = opened.describe()
                except TfmiError as error:
                    entry = {"key": key, "model": model.name, "kind": "", "served": False, "why": str(error)}
                else:
                    is_served = opened.version in served
                    why = "" if is_served else problem or f"the server does not serve version {opened.version} of {model.name!r}"
                    entry |= {"served": is_served, "why": why}
                described.append(entry)
        return described

    def folders(self, model: ModelFolder) -> list[str]:
        """What the page calls a model's newest versions, the newest first."""
        return [version_key(model.name, version) for version in reversed(published_versions(model.base)[-self._newest :])]

    def open(self, key: str) -> OpenVersion:
        """The version that the page calls ``key``.

        Raises:
            RequestError: There is none.
            ExportError: Its folder cannot be read.
        """
        with self._lock:
            known = self._open.get(key)
            if known is None:
                known = self._open[key] = self._opened(key)
            return known

    def _opened(self, key: str) -> OpenVersion:
        for model in self._models:
            for version in published_versions(model.base):
                if version_key(model.name, version) == key:
                    return OpenVersion(model, version, lambda: self.address, self._pictures)
        raise RequestError(Code.NOT_FOUND, f"no model {key!r} here; load the page again")

    def _served(self, model: ModelFolder) -> tuple[set[int], str]:
        """The versions that answer, or why none does."""
        try:
            statuses = Client(self.address, model.name, timeout=ASK_SECONDS, retries=0).status()
        except ServingError as error:
            return set(), str(error)
        return {status.version for status in statuses if status.state == "AVAILABLE"}, ""


def version_key(model: str, version: int) -> str:
    """What the page calls a version."""
    return f"{model}/{version}"

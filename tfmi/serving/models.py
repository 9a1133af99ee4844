"""All models that a server serves, and the thread that looks for new versions."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tensorflow.core.protobuf import meta_graph_pb2

from tfmi.core.errors import nearest
from tfmi.serving.bounds import RequestLimits
from tfmi.serving.errors import Code, RequestError
from tfmi.serving.servable import Servable, replay_warmup
from tfmi.serving.versions import ModelVersions

logger = logging.getLogger(__name__)

_SHORTEST_START_WAIT = 0.05
_LONGEST_START_WAIT = 0.5


class Models:
    """Serves every model that ``discover`` names, each from its own folder, and keeps looking for new versions while running.

    Args:
        discover: Returns the model folders by model name; asked at every poll, so that models can be added.
        poll_seconds: How often to look for new models and versions.
        request_timeout_seconds: The longest a single run of a graph may take.
        num_versions: How many of the newest versions of each model to keep loaded.
        labels: Version labels by model name, e.g. ``{"mind": {"stable": 3}}``.
        limits: What one request may ask for.
    """

    def __init__(
        self,
        discover: Callable[[], Mapping[str, Path]],
        poll_seconds: float,
        request_timeout_seconds: float,
        num_versions: int = 1,
        labels: Mapping[str, Mapping[str, int]] | None = None,
        *,
        limits: RequestLimits | None = None,
    ) -> None:
        self._discover = discover
        self._poll_seconds = poll_seconds
        self._request_timeout_seconds = request_timeout_seconds
        self._num_versions = num_versions
        self._labels = labels or {}
        self._limits = limits or RequestLimits()
        self._problems: dict[str, str] = {}
        self._models: dict[str, ModelVersions[Servable]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._poll_forever, name="version-poller", daemon=True)

    def start(self) -> None:
        """Load what is there, then go on looking in the background."""
        self.poll()
        # A version is loaded once its files have stopped changing, which takes two looks.
        if any(model.waiting for model in self._models.values()):
            time.sleep(min(max(self._poll_seconds, _SHORTEST_START_WAIT), _LONGEST_START_WAIT))
            self.poll()
        self._thread.start()

    def poll(self) -> None:
        """Look once for new models and versions. What cannot be looked at is logged, once, and does not stop the others."""
        try:
            found = self._discover()
        except OSError as error:
            self._say("models", f"cannot look for models: {error}")
            found = {}
        else:
            self._say("models", "")
        for name, folder in found.items():
            if name not in self._models:
                # Replaced, not changed: requests read the mapping meanwhile.
                self._models = {**self._models, name: self._new_model(name, folder)}
        for name, model in self._models.items():
            if self._stopping.is_set():
                return
            try:
                model.poll()
            except OSError as error:
                self._say(f"model {name}", f"cannot look for versions: {error}")
            else:
                self._say(f"model {name}", "")

    def _say(self, what: str, problem: str) -> None:
        """Log a problem when it comes, and that it has gone; not at every look in between."""
        before, self._problems[what] = self._problems.get(what, ""), problem
        if problem and problem != before:
            logger.error("%s: %s; the others go on", what, problem)
        elif before and not problem:
            logger.info("%s: can be looked at again", what)

    def stop(self, grace_seconds: float) -> bool:
        """Stop looking, and unload everything once requests under way are done.

        Args:
            grace_seconds: How long to wait for them, and for a version that is being loaded just now, which nothing can interrupt.

        Returns:
            Whether all is unloaded and no thread is left that TensorFlow holds.
        """
        self._stopping.set()
        deadline = time.monotonic() + grace_seconds
        if self._thread.is_alive():
            self._thread.join(grace_seconds)
        if self._thread.is_alive():
            logger.warning("a version is still being loaded after %.0f s; leaving without it", grace_seconds)
            return False
        while not self._close_all():
            if time.monotonic() >= deadline:
                logger.warning("requests still under way after %.0f s; leaving without them", grace_seconds)
                return False
            time.sleep(0.02)
        return True

    @property
    def names(self) -> list[str]:
        """The names of the models, sorted."""
        return sorted(self._models)

    def versions(self, name: str) -> ModelVersions[Servable]:
        """The versions of one model; raises ``RequestError`` (``NOT_FOUND``) naming the nearest one if there is none."""
        model = self._models.get(name)
        if model is None:
            models = ", ".join(self.names) or "none"
            raise RequestError(
                Code.NOT_FOUND, f"Servable not found for request: Latest({name}){nearest(name, self.names)}; models: {models}"
            )
        return model

    @contextmanager
    def acquire(self, name: str, version: int | None = None, label: str | None = None) -> Iterator[tuple[int, Servable]]:
        """Hold one version of a model for a request; see ``ModelVersions.acquire``."""
        with self.versions(name).acquire(version, label) as held:
            yield held

    def signature_defs(
        self, name: str, version: int | None = None, label: str | None = None
    ) -> tuple[int, dict[str, meta_graph_pb2.SignatureDef]]:
        """The version that answers and its signatures by name, for the metadata of both protocols."""
        with self.acquire(name, version, label) as (number, servable):
            return number, servable.signature_defs

    def _new_model(self, name: str, folder: Path) -> ModelVersions[Servable]:
        return ModelVersions(name, folder, self._load, self._num_versions, self._labels.get(name))

    def _load(self, folder: Path) -> Servable:
        started = time.monotonic()
        servable = Servable(folder, self._request_timeout_seconds, self._limits)
        try:
            replayed = replay_warmup(servable)
        except BaseException:
            servable.close()
            raise
        logger.info("%s: loaded and %d warm-up requests replayed in %.1f s", folder, replayed, time.monotonic() - started)
        return servable

    def _close_all(self) -> bool:
        closed = [model.close() for model in self._models.values()]  # every one is told, also after the first that is busy
        return all(closed)

    def _poll_forever(self) -> None:
        while not self._stopping.wait(self._poll_seconds):
            try:
                self.poll()
            except Exception:  # whatever happens to one look, the server lives on and looks again
                logger.exception("looking for new versions failed")

"""A client for models exported by tfmi, on the local server and on TensorFlow Serving alike; one file, to be copied where it is needed.

Over REST it needs the standard library only. Over gRPC it needs the package tensorflow-serving-api (which brings TensorFlow), imported
when the first client for gRPC is made.

    from client import Client

    client = Client("http://127.0.0.1:8501", "mind")
    (answer,) = client.recommend([["item1", "item2"]])
    for found in answer.items:
        print(found.item, found.score, found.interest)

and for a model of users' tags:

    (answer,) = Client("http://127.0.0.1:8501", "mvke").user_tags([{"city": "Oslo", "tags": ["jazz", "rock"]}])

On the command line:

    python serving/client.py recommend --model mind --history item1,item2
    python serving/client.py tags --model mvke --user '{"city": "Oslo", "tags": ["jazz", "rock"]}'
"""

from __future__ import annotations

import argparse
import dataclasses
import http
import http.client
import json
import math
import numbers
import os
import random
import re
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

T = TypeVar("T")
Value = Any  # a scalar or nested lists of them, as JSON has them
# What a column of items must be: a value, values of which one is needed, or allow and deny, min and max.
Filter = Mapping[str, Any]
ProfileValue = str | float | Sequence[str] | Mapping[str, float] | None

_DEFAULT_SIGNATURE = "serving_default"
_TIMESTAMPS = "timestamps"
_PROFILE_PREFIX = "profile_"
_USER_TAGS = "user_tags"
_FILTERED = "recommend_filtered"
_ALLOW_ITEMS = "allow_items"
_NUM_RESULTS = "num_results"
_LISTS, _BOUNDS = ("allow", "deny"), ("min", "max")
_NARROWEST_LIST = 8
_SCORES_SUFFIX = "_scores"
_WEIGHTS_SUFFIX = "_weights"
_PORTS = {"rest": 8501, "grpc": 8500}
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0
_HTTP_CODES = {
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class ServingError(Exception):
    """A request that was not answered.

    Attributes:
        code: The canonical status code by name, the same over REST and gRPC: ``INVALID_ARGUMENT`` for a request that the model cannot
            answer, ``NOT_FOUND`` for an unknown model or version, ``UNAVAILABLE`` where no server was reached, ...
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class RecommendedItem:
    """One recommended item: its score, and which of the user's interests found it (-1: the cold-start list)."""

    item: str
    score: float
    interest: int


@dataclass(frozen=True)
class Recommendations:
    """The answer to one history, best first. May be shorter than the model's n, never padded."""

    items: list[RecommendedItem]


@dataclass(frozen=True)
class UserInterests:
    """A user's active interests, one vector each."""

    vectors: list[list[float]]


@dataclass(frozen=True)
class ExplainedInterest:
    """Where an interest comes from, and what it finds.

    Attributes:
        weights: How much of each item of the history went into it, in the history's order: the model's routing or attention weights; 0 for
            unknown items and for those older than what the model reads.
        items: What is nearest to it, best first, without regard to the other interests.
    """

    weights: list[float]
    items: list[SimilarItem]


@dataclass(frozen=True)
class SimilarItem:
    """A neighbour of an item."""

    item: str
    score: float


@dataclass(frozen=True)
class RankedItem:
    """A candidate with a ranker's score, a logit; -inf for an item that the model does not know."""

    item: str
    score: float


@dataclass(frozen=True)
class ScoredTag:
    """A tag and its score: a logit, whose sigmoid is the probability; for users of whom nothing is known, a share of training events."""

    tag: str
    score: float


@dataclass(frozen=True)
class UserTags:
    """A user's best tags by task, best first. ``cold_start``: nothing was known of the user, so that these are the popular ones."""

    tasks: dict[str, list[ScoredTag]]
    cold_start: bool


@dataclass(frozen=True)
class ScoredUser:
    """A user of a tag's audience, with the logit."""

    user: str
    score: float


@dataclass(frozen=True)
class Evidence:
    """What a field, or one of its values, did for a score.

    Attributes:
        field: The field; ``ModelMetadata.profile_columns`` has them all.
        value: The value; None for the field as a whole.
        effect: The score minus what it would be without.
        attention: The share of what the model looked at; None for models that do not attend to fields.
    """

    field: str
    value: str | None
    effect: float
    attention: float | None


@dataclass(frozen=True)
class TagExplanation:
    """Why a user has a score for a tag, for one task.

    Attributes:
        score: The logit; -inf for an unknown tag.
        bias: What it holds for every tag.
        experts: What each of the model's experts adds: their sum and the bias are the score.
        gates: How much the tag listens to each of them.
        fields: Largest effects first.
        values: Largest effects first, of fields with several values.
    """

    score: float
    bias: float
    experts: list[float]
    gates: list[float]
    fields: list[Evidence]
    values: list[Evidence]


@dataclass(frozen=True)
class VersionStatus:
    """A version's state: ``START``, ``LOADING``, ``AVAILABLE``, ``UNLOADING`` or ``END``, and why if it failed."""

    version: int
    state: str
    error_code: str
    error_message: str


@dataclass(frozen=True)
class TensorInfo:
    """Type (``DT_STRING``, ...) and shape of an input or output; -1 where any size will do."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a signature by name."""

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]


@dataclass(frozen=True)
class ModelMetadata:
    """What the server says of the version that answers.

    Attributes:
        model: Its name.
        version: The version's number.
        signatures: By name.
    """

    model: str
    version: int
    signatures: dict[str, Signature]

    @property
    def history_length(self) -> int:
        """L: the number of columns that a history is padded to."""
        return self.signatures[_DEFAULT_SIGNATURE].inputs["history"].shape[1]

    @property
    def reads_timestamps(self) -> bool:
        """Whether the model reads the times of a history's items."""
        return _TIMESTAMPS in self.signatures[_DEFAULT_SIGNATURE].inputs

    @property
    def profile_columns(self) -> list[str]:
        """The profile features that ``recommend`` takes, or the fields that ``user_tags`` does."""
        signature = self.signatures.get("recommend") or self.signatures.get(_USER_TAGS)
        return [] if signature is None else sorted(_profile_infos(signature))

    @property
    def filter_columns(self) -> dict[str, list[str]]:
        """The catalogue's columns that requests can filter by: allow and deny, or min and max."""
        signature = self.signatures.get(_FILTERED)
        return {} if signature is None else _filter_columns(signature)

    @property
    def tasks(self) -> list[str]:
        """The tasks of a model of users' tags, as outputs call them."""
        return _tasks(self.signatures[_USER_TAGS].outputs) if _USER_TAGS in self.signatures else []


class _Transport(Protocol):
    """How requests travel. Both implementations speak in the terms of the REST API's JSON."""

    def predict(self, signature_name: str, signature: Signature, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """Outputs by name."""

    def metadata(self) -> dict[str, Any]:
        """The body of ``GET .../metadata``."""

    def status(self) -> dict[str, Any]:
        """The body of ``GET .../models/<model>``."""


class Client:
    """Asks one model for recommendations. Thread-safe.

    Histories run oldest to newest; the newest L items are sent. Requests are padded to the widths that the server's metadata gives,
    and padding is taken off answers.

    Args:
        address: ``http://host:port`` or ``https://...`` for REST, ``host:port`` for gRPC; without a port the customary 8501 or 8500.
        model: The model's name.
        protocol: ``"rest"`` or ``"grpc"`` (without TLS).
        timeout: Seconds that one attempt may take.
        version: The version to ask; None for the newest.
        retries: How often to try again, with growing pauses, when the server cannot be reached or says that it is busy (503). Any other
            error is raised at once.

    Raises:
        ServingError: From every method, for whatever the server did not answer.
        ValueError: For an address or arguments that cannot be sent.
    """

    def __init__(
        self,
        address: str = "http://127.0.0.1:8501",
        model: str = "mind",
        protocol: Literal["rest", "grpc"] = "rest",
        timeout: float = 10.0,
        *,
        version: int | None = None,
        retries: int = 3,
    ) -> None:
        if protocol not in _PORTS:
            raise ValueError(f"protocol: expected 'rest' or 'grpc', got {protocol!r}")
        transport = _RestTransport if protocol == "rest" else _GrpcTransport
        self._transport: _Transport = transport(address, model, timeout, version)
        self._retries = retries
        self._metadata: ModelMetadata | None = None

    def recommend(
        self,
        histories: Sequence[Sequence[str]],
        exclude: Sequence[Sequence[str]] | None = None,
        diversity: float | Sequence[float] | None = None,
        profiles: Sequence[Mapping[str, ProfileValue]] | None = None,
        timestamps: Sequence[Sequence[float]] | None = None,
        *,
        num_results: int | Sequence[int] | None = None,
        filters: Filter | Sequence[Filter] | None = None,
        allow_items: Sequence[Sequence[str] | None] | None = None,
    ) -> list[Recommendations]:
        """Recommend items to users.

        Args:
            histories: One list of item ids per user, oldest first. Unknown ids are ignored; one without any known id gets the model's
                cold-start list.
            exclude: One list of item ids per user that must not be recommended.
            diversity: The weight of category diversity, one number for all or one per user; 0 turns it off.
            profiles: One mapping per user from profile column to value: a string, a number, or for a multi-valued column a list of
                strings or a mapping from string to weight. What is left out counts as unknown. Columns may be named as in the data
                or as in ``ModelMetadata.profile_columns``.
            timestamps: For models that read them (``ModelMetadata.reads_timestamps``): when each item of the histories was seen, in
                seconds as in the training data, one number per item; 0 for an unknown time, which all are if this is left out.
            num_results: How many items to answer with, one number for all or one per user; by default the model's own.
            filters: What items must be, one mapping for all or one per user from column (``ModelMetadata.filter_columns``) to a value, a
                list of values of which one is needed, or a mapping with ``allow`` and ``deny``, lists of values, or ``min`` and ``max``,
                numbers. Answers are as long as there are items that fit.
            allow_items: One list of item ids per user that answers must be from, such as what is in stock; None for a user without
                restriction.

        Returns:
            One answer per history, in order.

        The last three are for models exported with ``export.filterable``.
        """
        rows = _check_lists("histories", histories)
        times = _check_timestamps(timestamps, rows)
        if not rows:
            return []
        wishes = _Wishes(num_results, filters, allow_items, len(rows))
        if exclude is None and diversity is None and profiles is None and not wishes.are_given:
            return _recommendations(self._predict(_DEFAULT_SIGNATURE, lambda signature: _history_inputs(signature, rows, times)))
        excluded = _check_lists("exclude", exclude, len(rows)) if exclude is not None else [[]] * len(rows)
        weights = list(diversity) if isinstance(diversity, Sequence) else [0.0 if diversity is None else diversity] * len(rows)
        if len(weights) != len(rows):
            raise ValueError(f"diversity: expected one number, or one per history ({len(rows)}), got {len(weights)}")

        def inputs(signature: Signature) -> dict[str, Value]:
            return {
                **_history_inputs(signature, rows, times),
                "exclude": _pad_exclusions(excluded, _width(signature, "exclude")),
                "diversity": [float(weight) for weight in weights],
                **_profile_inputs(signature, profiles, len(rows)),
                **(wishes.inputs(signature) if wishes.are_given else {}),
            }

        return _recommendations(self._predict(_FILTERED if wishes.are_given else "recommend", inputs))

    def user_interests(
        self,
        histories: Sequence[Sequence[str]],
        profiles: Sequence[Mapping[str, ProfileValue]] | None = None,
        timestamps: Sequence[Sequence[float]] | None = None,
    ) -> list[UserInterests]:
        """The interest vectors of users, for systems that have them; arguments as in ``recommend``."""
        rows = _check_lists("histories", histories)
        times = _check_timestamps(timestamps, rows)
        if not rows:
            return []
        outputs = self._predict(
            "user_interests",
            lambda signature: {**_history_inputs(signature, rows, times), **_profile_inputs(signature, profiles, len(rows))},
        )
        return [UserInterests(vectors[:count]) for vectors, count in zip(outputs["interests"], outputs["count"], strict=True)]

    def explain_interests(
        self,
        histories: Sequence[Sequence[str]],
        exclude: Sequence[Sequence[str]] | None = None,
        profiles: Sequence[Mapping[str, ProfileValue]] | None = None,
        timestamps: Sequence[Sequence[float]] | None = None,
        *,
        num_results: int | Sequence[int] | None = None,
        filters: Filter | Sequence[Filter] | None = None,
        allow_items: Sequence[Sequence[str] | None] | None = None,
    ) -> list[list[ExplainedInterest]]:
        """Where each interest of users comes from, and what it finds by itself. ``recommend`` says what becomes of it together.

        Args:
            histories: As in ``recommend``, as is everything else; a history without any known id has no interests.
            exclude: What no interest may find.
            profiles: As in ``recommend``.
            timestamps: As in ``recommend``.
            num_results: Items for each interest.
            filters: As in ``recommend``.
            allow_items: As in ``recommend``.

        Returns:
            The active interests of each history, in the order of ``RecommendedItem.interest``.
        """
        rows = _check_lists("histories", histories)
        times = _check_timestamps(timestamps, rows)
        if not rows:
            return []
        excluded = [[]] * len(rows) if exclude is None else _check_lists("exclude", exclude, len(rows))
        wishes = _Wishes(num_results, filters, allow_items, len(rows))

        def inputs(signature: Signature) -> dict[str, Value]:
            if wishes.are_given and _NUM_RESULTS not in signature.inputs:
                raise ValueError("num_results, filters, allow_items: this model takes none; it was exported without export.filterable")
            return {
                **_history_inputs(signature, rows, times),
                "exclude": _pad_exclusions(excluded, _width(signature, "exclude")),
                **_profile_inputs(signature, profiles, len(rows)),
                **(wishes.inputs(signature) if _NUM_RESULTS in signature.inputs else {}),
            }

        outputs = self._predict("explain_interests", inputs)
        answers = zip(rows, *(outputs[name] for name in ("count", "weights", "item_ids", "scores")), strict=True)
        return [
            [_explained(history, *interest) for interest in zip(weights[:count], ids[:count], scores[:count], strict=True)]
            for history, count, weights, ids, scores in answers
        ]

    def similar_items(self, items: Sequence[str]) -> list[list[SimilarItem]]:
        """The neighbours of each item, best first; none for an unknown one."""
        (ids,) = _check_lists("items", [items])
        if not ids:
            return []
        outputs = self._predict("similar_items", lambda _: {"item_ids": ids})
        rows = zip(outputs["item_ids"], outputs["scores"], strict=True)
        return [[SimilarItem(item, score) for item, score in zip(*row, strict=True) if item] for row in rows]

    def rank(
        self,
        histories: Sequence[Sequence[str]],
        candidates: Sequence[Sequence[str]],
        profiles: Sequence[Mapping[str, ProfileValue]] | None = None,
    ) -> list[list[RankedItem]]:
        """Rank given items for users, for models with a ranker.

        Args:
            histories: As in ``recommend``.
            candidates: One list of item ids per user, of any length.
            profiles: As in ``recommend``.

        Returns:
            Every user's candidates, best first; equal ones in the order given, and items that the model does not know last.
        """
        rows = _check_lists("histories", histories)
        given = _check_lists("candidates", candidates, len(rows))
        if not rows:
            return []
        width = _customary_width(given)
        outputs = self._predict(
            "rank",
            lambda signature: {
                **_history_inputs(signature, rows, None),
                "candidates": [_pad(row, width, "") for row in given],
                **_profile_inputs(signature, profiles, len(rows)),
            },
        )
        return [
            sorted((RankedItem(item, score) for item, score in zip(row, scores, strict=False)), key=lambda ranked: -ranked.score)
            for row, scores in zip(given, outputs["scores"], strict=True)
        ]

    def user_tags(self, users: Sequence[Mapping[str, ProfileValue]], exclude: Sequence[Sequence[str]] | None = None) -> list[UserTags]:
        """The best tags of users, for models of users' tags.

        Args:
            users: One mapping per user from field to value: a string, a number, or for a multi-valued field a list of strings or a
                mapping from string to weight, of which the first ones are sent, as many as the model takes. What is left out counts as
                unknown.
            exclude: One list of tags per user that must not be answered with.

        Returns:
            One answer per user, in order.
        """
        excluded = None if exclude is None else _check_lists("exclude", exclude, len(users))
        if not users:
            return []

        def inputs(signature: Signature) -> dict[str, Value]:
            fields = _profile_inputs(signature, users, len(users))
            return fields if excluded is None else {**fields, "exclude": _pad_exclusions(excluded, _width(signature, "exclude"))}

        outputs = self._predict(_USER_TAGS if exclude is None else "recommend_tags", inputs)
        answers = _by_task(outputs, "tags", ScoredTag)
        return [UserTags(tasks, bool(is_cold)) for tasks, is_cold in zip(answers, outputs["cold_start"], strict=True)]

    def tag_users(self, tags: Sequence[str]) -> list[dict[str, list[ScoredUser]]]:
        """The users for each tag by task, best first; none for an unknown tag."""
        (names,) = _check_lists("tags", [tags])
        return _by_task(self._predict("tag_users", lambda _: {"tags": names}), "user_ids", ScoredUser) if names else []

    def score_tags(self, users: Sequence[Mapping[str, ProfileValue]], tags: Sequence[Sequence[str]]) -> list[dict[str, list[float]]]:
        """The scores of given tags, one list of tags per user, by task; -inf for unknown tags. Users as in ``user_tags``."""
        rows = _check_lists("tags", tags, len(users))
        if not rows:
            return []

        def inputs(signature: Signature) -> dict[str, Value]:
            width, longest = _width(signature, "tags"), max(len(row) for row in rows)
            if longest > width:
                raise ValueError(f"tags: this model scores at most {width} tags per user at a time, got {longest}; ask several times")
            return {**_profile_inputs(signature, users, len(users)), "tags": [_pad(row, width, "") for row in rows]}

        outputs = self._predict("score_tags", inputs)
        tasks = _tasks(outputs)
        return [{task: outputs[f"{task}{_SCORES_SUFFIX}"][at][: len(row)] for task in tasks} for at, row in enumerate(rows)]

    def explain_tags(self, users: Sequence[Mapping[str, ProfileValue]], tags: Sequence[str]) -> list[dict[str, TagExplanation]]:
        """Why each user has a score for a tag, one tag per user, by task. Users as in ``user_tags``."""
        (names,) = _check_lists("tags", [tags])
        if len(names) != len(users):
            raise ValueError(f"tags: expected one per user ({len(users)}), got {len(names)}")
        if not names:
            return []
        fields: dict[str, Value] = {}

        def inputs(signature: Signature) -> dict[str, Value]:
            fields.clear()  # those of the signature that is asked in the end
            fields.update(_profile_inputs(signature, users, len(users)))
            return {**fields, "tags": names}

        outputs = self._predict("explain_tags", inputs)
        return [{task: tag_explanation(task, row, fields, outputs) for task in _tasks(outputs)} for row in range(len(names))]

    def status(self) -> list[VersionStatus]:
        """The state of each version that the server knows of, newest first."""
        entries = self._retry(self._transport.status)["model_version_status"]
        return [
            VersionStatus(int(entry["version"]), entry["state"], entry["status"]["error_code"], entry["status"]["error_message"])
            for entry in entries
        ]

    def metadata(self) -> ModelMetadata:
        """The signatures of the version that answers, asked again."""
        self._metadata = _parse_metadata(self._retry(self._transport.metadata))
        return self._metadata

    def _predict(self, name: str, inputs: Callable[[Signature], dict[str, Value]]) -> dict[str, Value]:
        known = self._metadata or self.metadata()
        try:
            return self._predict_by(known, name, inputs)
        except ServingError as error:
            # A newer version may have other widths or inputs than the one that the request was padded for.
            if error.code != "INVALID_ARGUMENT" or self.metadata().signatures == known.signatures:
                raise
        return self._predict_by(self._metadata or known, name, inputs)

    def _predict_by(self, metadata: ModelMetadata, name: str, inputs: Callable[[Signature], dict[str, Value]]) -> dict[str, Value]:
        signature = metadata.signatures.get(name)
        if signature is None:
            available = ", ".join(sorted(metadata.signatures))
            message = f"model {metadata.model!r} version {metadata.version} has no signature {name!r}; it has: {available}"
            raise ServingError("INVALID_ARGUMENT", message)
        request = inputs(signature)
        return self._retry(lambda: self._transport.predict(name, signature, request))

    def _retry(self, attempt: Callable[[], T]) -> T:
        pause = _FIRST_PAUSE_SECONDS
        for _ in range(self._retries):
            try:
                return attempt()
            except ServingError as error:
                if error.code != "UNAVAILABLE":
                    raise
            time.sleep(pause * random.uniform(0.5, 1.0))  # so that many clients do not come back all at once
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        return attempt()


class _RestTransport:
    """REST by the standard library, one connection per request."""

    def __init__(self, address: str, model: str, timeout: float, version: int | None) -> None:
        parts = urllib.parse.urlsplit(address if "://" in address else f"http://{address}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"address: expected http://host:port or https://host:port, got {address!r}")
        self._connection = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._scheme, self._host = parts.scheme, parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else _PORTS["rest"])
        self._timeout = timeout
        self._model_path = f"{parts.path.rstrip('/')}/v1/models/{urllib.parse.quote(model, safe='')}"
        self._path = self._model_path if version is None else f"{self._model_path}/versions/{version}"

    def predict(self, signature_name: str, signature: Signature, inputs: Mapping[str, Value]) -> dict[str, Value]:
        outputs = self._request("POST", f"{self._path}:predict", {"signature_name": signature_name, "inputs": inputs})["outputs"]
        if len(signature.outputs) == 1:  # then the server leaves the name out
            return dict.fromkeys(signature.outputs, outputs)
        return dict(outputs)

    def metadata(self) -> dict[str, Any]:
        return self._request("GET", f"{self._path}/metadata")

    def status(self) -> dict[str, Any]:
        return self._request("GET", self._path)

    def _request(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> dict[str, Any]:
        where = f"{self._scheme}://{self._host}:{self._port}{path}"
        body = None if document is None else json.dumps(document).encode("ascii")
        connection = self._connection(self._host, self._port, timeout=self._timeout)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json", "Connection": "close"})
            response = connection.getresponse()
            status, text = response.status, response.read()
        except TimeoutError:
            raise ServingError("DEADLINE_EXCEEDED", f"no answer from {where} within {self._timeout} s") from None
        except ConnectionRefusedError:
            raise ServingError("UNAVAILABLE", f"nothing listens at {self._host}:{self._port}; is the server running?") from None
        except (OSError, http.client.HTTPException) as error:
            raise ServingError("UNKNOWN", f"{where}: {error or type(error).__name__}") from None
        finally:
            connection.close()
        return _read_answer(status, text, where)


class _GrpcTransport:
    """gRPC by tensorflow-serving-api, on one channel."""

    def __init__(self, address: str, model: str, timeout: float, version: int | None) -> None:
        try:
            import grpc
            import numpy
            import tensorflow
            from google.protobuf import json_format
            from tensorflow_serving import apis
            from tensorflow_serving.apis import (  # noqa: F401 - attributes of apis from here on
                get_model_metadata_pb2,
                get_model_status_pb2,
                model_service_pb2_grpc,
                predict_pb2,
                prediction_service_pb2_grpc,
            )
        except ImportError as error:
            raise ImportError(
                f"protocol 'grpc' needs the package tensorflow-serving-api ({error}); protocol 'rest' needs nothing"
            ) from error
        self._grpc, self._apis, self._json_format, self._numpy, self._tensorflow = grpc, apis, json_format, numpy, tensorflow
        target = address.rpartition("://")[2].rstrip("/")
        if not urllib.parse.urlsplit(f"//{target}").port:
            target = f"{target}:{_PORTS['grpc']}"
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            # By default a channel that was refused fails every call of the next second without trying, retries included.
            ("grpc.initial_reconnect_backoff_ms", int(1000 * _FIRST_PAUSE_SECONDS)),
            ("grpc.min_reconnect_backoff_ms", int(1000 * _FIRST_PAUSE_SECONDS)),
            ("grpc.max_reconnect_backoff_ms", int(1000 * _LONGEST_PAUSE_SECONDS)),
        ]
        channel = grpc.insecure_channel(target, options=options)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(channel)
        self._model, self._timeout, self._version = model, timeout, version

    def predict(self, signature_name: str, signature: Signature, inputs: Mapping[str, Value]) -> dict[str, Value]:
        request = self._addressed(self._apis.predict_pb2.PredictRequest())
        request.model_spec.signature_name = signature_name
        for name, value in inputs.items():
            dtype = signature.inputs[name].dtype.removeprefix("DT_").lower()
            request.inputs[name].CopyFrom(self._tensorflow.make_tensor_proto(value, dtype=dtype))
        response = self._call(self._predictions.Predict, request)
        return {name: self._plain(self._tensorflow.make_ndarray(proto)) for name, proto in response.outputs.items()}

    def metadata(self) -> dict[str, Any]:
        request = self._addressed(self._apis.get_model_metadata_pb2.GetModelMetadataRequest())
        request.metadata_field.append("signature_def")
        response = self._call(self._predictions.GetModelMetadata, request)
        signatures = self._apis.get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        spec = {"name": response.model_spec.name, "version": response.model_spec.version.value}
        return {"model_spec": spec, "metadata": {"signature_def": self._as_json(signatures, preserving_proto_field_name=True)}}

    def status(self) -> dict[str, Any]:
        request = self._addressed(self._apis.get_model_status_pb2.GetModelStatusRequest())
        return self._as_json(self._call(self._models.GetModelStatus, request))

    def _addressed(self, request: Any) -> Any:
        request.model_spec.name = self._model
        if self._version is not None:
            request.model_spec.version.value = self._version
        return request

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout)
        except self._grpc.RpcError as error:
            raise ServingError(error.code().name, error.details() or error.code().name) from None

    def _as_json(self, message: Any, **options: bool) -> dict[str, Any]:
        return self._json_format.MessageToDict(message, always_print_fields_with_no_presence=True, **options)

    def _plain(self, array: Any) -> Value:
        if array.dtype == object:
            return self._numpy.vectorize(lambda value: value.decode("utf-8", "replace"), otypes=[object])(array).tolist()
        # By way of text, as REST does it: 0.2 in float32 becomes 0.2 and not 0.20000000298.
        return array.astype(str).astype(float).tolist() if array.dtype == self._numpy.float32 else array.tolist()


def _read_answer(status: int, text: bytes, where: str) -> dict[str, Any]:
    """The JSON of an answer; Python's reader knows the NaN and -Infinity that TensorFlow Serving writes."""
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if status == http.HTTPStatus.OK and isinstance(answer, dict):
        return answer
    code = _HTTP_CODES.get(status, "UNKNOWN")
    if isinstance(answer, dict) and "error" in answer:
        raise ServingError(code, str(answer["error"]))
    raise ServingError(code, f"{where} answered {status} without the JSON of TensorFlow Serving; is something else listening there?")


def _parse_metadata(document: Mapping[str, Any]) -> ModelMetadata:
    signatures = document["metadata"]["signature_def"]["signature_def"]
    return ModelMetadata(
        model=document["model_spec"]["name"],
        version=int(document["model_spec"]["version"]),
        signatures={
            name: Signature(inputs=_parse_infos(signature["inputs"]), outputs=_parse_infos(signature["outputs"]))
            for name, signature in signatures.items()
            if signature["method_name"] == "tensorflow/serving/predict"
        },
    )


def _parse_infos(infos: Mapping[str, Any]) -> dict[str, TensorInfo]:
    return {
        name: TensorInfo(info["dtype"], tuple(int(dimension["size"]) for dimension in info["tensor_shape"].get("dim", [])))
        for name, info in infos.items()
    }


def _check_lists(name: str, rows: Sequence[Sequence[str]], expected: int | None = None) -> list[list[str]]:
    """Lists of strings; a string in place of a list would otherwise be read as a list of letters."""
    for row in rows:
        if isinstance(row, str) or not all(isinstance(item, str) for item in row):
            raise ValueError(f"{name}: expected lists of item ids (strings), one list per user, got {row!r}")
    if expected is not None and len(rows) != expected:
        raise ValueError(f"{name}: expected one list per history ({expected}), got {len(rows)}")
    return [list(row) for row in rows]


def _width(signature: Signature, name: str) -> int:
    shape = signature.inputs[name].shape
    return shape[1] if len(shape) > 1 else -1


def _history_inputs(signature: Signature, rows: Sequence[Sequence[str]], timestamps: Sequence[Sequence[float]] | None) -> dict[str, Value]:
    """Histories, and their timestamps if the model reads any, padded on the right to the model's L, the newest items kept.

    Where the model takes any width, they are padded to the longest one.
    """
    width = _width(signature, "history")
    if width < 0:
        width = max(1, *(len(row) for row in rows))
    inputs: dict[str, Value] = {"history": [_pad(row[-width:], width, "") for row in rows]}
    if _TIMESTAMPS in signature.inputs:
        times = [[]] * len(rows) if timestamps is None else timestamps
        inputs[_TIMESTAMPS] = [_pad(row[-width:], width, 0.0) for row in times]
    elif timestamps is not None:
        raise ValueError("timestamps: this model does not read the times of a history's items")
    return inputs


def _check_timestamps(timestamps: Sequence[Sequence[float]] | None, histories: Sequence[Sequence[str]]) -> list[list[float]] | None:
    """One number for each item of each history."""
    if timestamps is None:
        return None
    if [len(row) for row in timestamps] != [len(row) for row in histories]:
        raise ValueError("timestamps: expected one list per history, with one number per item of it (0 for an unknown time)")
    try:
        return [[float(seconds) for seconds in row] for row in timestamps]
    except (TypeError, ValueError):
        raise ValueError(f"timestamps: expected numbers of seconds, got {timestamps!r}") from None


def _pad(row: Sequence[T], width: int, padding: T) -> list[T]:
    return [*row, *[padding] * (width - len(row))]


def _pad_exclusions(rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    longest = max(len(row) for row in rows)
    if width < 0:
        width = max(1, longest)
    if longest > width:
        # Leaving some out would recommend what must not be recommended.
        raise ValueError(
            f"exclude: this model takes at most {width} exclusions per user, got {longest}; export with a larger exclusion_width"
        )
    return [_pad(row, width, "") for row in rows]


def _customary_width(rows: Sequence[Sequence[Any]]) -> int:
    """What lists of any length are padded to: a power of two. A server that batches requests refuses those whose widths differ, so that few
    different ones should be sent."""
    longest = max((len(row) for row in rows), default=0)
    return max(_NARROWEST_LIST, 1 << max(longest - 1, 0).bit_length())


def _filter_columns(signature: Signature) -> dict[str, list[str]]:
    """Columns to filter by, as inputs call them, with what can be asked of them."""
    columns: dict[str, list[str]] = {}
    for name in sorted(signature.inputs):
        kind, separator, column = name.partition("_")
        if separator and kind in (*_LISTS, *_BOUNDS) and name != _ALLOW_ITEMS:
            columns.setdefault(column, []).append(kind)
    return columns


class _Wishes:
    """The inputs of ``recommend_filtered`` that ``recommend`` lacks."""

    def __init__(
        self,
        num_results: int | Sequence[int] | None,
        filters: Filter | Sequence[Filter] | None,
        allow_items: Sequence[Sequence[str] | None] | None,
        rows: int,
    ) -> None:
        self.are_given = not (num_results is None and filters is None and allow_items is None)
        self._num_results = _one_for_each(_NUM_RESULTS, 0 if num_results is None else num_results, rows)
        self._filters = _one_for_each("filters", {} if filters is None else filters, rows)
        for number in self._num_results:
            # A larger number would lose its first bits over gRPC.
            if isinstance(number, bool) or not isinstance(number, numbers.Integral) or not 0 <= int(number) < 2**31:
                raise ValueError(f"{_NUM_RESULTS}: expected whole numbers of at least 0, below 2^31, got {number!r}")
        for wanted in self._filters:
            if not isinstance(wanted, Mapping) or not all(isinstance(column, str) for column in wanted):
                raise ValueError(f'filters: expected columns and what is asked of each, such as {{"category": ["Pets"]}}, got {wanted!r}')
        given = [None] * rows if allow_items is None else list(allow_items)
        self._allow_items = _check_lists(_ALLOW_ITEMS, [[] if row is None else row for row in given], rows)
        if any(row is not None and not len(row) for row in given):
            # An empty list in a request restricts nothing, which is not what somebody without any item to offer means.
            raise ValueError(f"{_ALLOW_ITEMS}: a list is empty; None restricts nothing")

    def inputs(self, signature: Signature) -> dict[str, Value]:
        columns = _filter_columns(signature)
        asked = [self._by_input(wanted, columns) for wanted in self._filters]
        numbers_of_results = [int(number) for number in self._num_results]  # of NumPy's, too, which JSON does not know
        inputs: dict[str, Value] = {_NUM_RESULTS: numbers_of_results, _ALLOW_ITEMS: self._padded(self._allow_items)}
        for column, kinds in columns.items():
            for kind in kinds:
                name = f"{kind}_{column}"
                if kind in _LISTS:
                    inputs[name] = self._padded([each.get(name, []) for each in asked])
                else:
                    inputs[name] = [each.get(name, math.nan) for each in asked]
        return inputs

    @staticmethod
    def _padded(lists: Sequence[Sequence[str]]) -> list[list[str]]:
        width = _customary_width(lists)
        return [_pad(row, width, "") for row in lists]

    @staticmethod
    def _by_input(wanted: Filter, columns: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """What one user asks for, by the names of inputs."""
        inputs: dict[str, Any] = {}
        for given, value in wanted.items():
            column = _input_column(given)
            if column not in columns:
                raise ValueError(f"filters: this model has no column {given!r} to filter by; it has: {', '.join(columns) or 'none'}")
            parts = value if isinstance(value, Mapping) else {"allow": [value] if isinstance(value, str) else value}
            for kind, part in parts.items():
                if kind not in columns[column]:
                    raise ValueError(f"filters: column {given!r} takes {' and '.join(columns[column])}, got {kind!r}")
                inputs[f"{kind}_{column}"] = _listed(given, kind, part) if kind in _LISTS else _bound(given, kind, part)
        return inputs


def _one_for_each(name: str, given: Any, rows: int) -> list[Any]:
    """What is ``given`` once for all ``rows``, or once for each."""
    if isinstance(given, Mapping | str) or not isinstance(given, Iterable):
        return [given] * rows
    values = list(given)
    if len(values) != rows:
        raise ValueError(f"{name}: expected one for all, or one per history ({rows}), got {len(values)}")
    return values


def _listed(column: str, kind: str, values: Any) -> list[str]:
    """Values that a filter allows or denies."""
    is_list = isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping)
    if not is_list or not all(isinstance(value, str) and value for value in values):
        raise ValueError(f"filters: column {column!r}: {kind} takes a list of strings, got {values!r}")
    if not values:
        # An empty list in a request restricts nothing, which is not what somebody who allows nothing means.
        raise ValueError(f"filters: column {column!r}: {kind} is empty; leave it out where nothing is asked for")
    return list(values)


def _bound(column: str, kind: str, value: Any) -> float:
    """A bound of a number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"filters: column {column!r}: {kind} takes a number, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)  # beyond every number that an item can have


def _profile_infos(signature: Signature) -> dict[str, TensorInfo]:
    """The profile inputs by column; the weights of a multi-valued one are not a column of their own."""
    infos = {name.removeprefix(_PROFILE_PREFIX): info for name, info in signature.inputs.items() if name.startswith(_PROFILE_PREFIX)}
    return {
        name: info for name, info in infos.items() if not (name.endswith(_WEIGHTS_SUFFIX) and name.removesuffix(_WEIGHTS_SUFFIX) in infos)
    }


def _input_column(column: str) -> str:
    """A column's name as inputs have it: TensorFlow allows them ASCII letters, digits and _ only."""
    return re.sub(r"[^A-Za-z0-9_]", "_", column)


def _profile_inputs(signature: Signature, profiles: Sequence[Mapping[str, ProfileValue]] | None, rows: int) -> dict[str, Value]:
    """The values of every profile input of the signature, as "" or NaN where a user's profile does not say."""
    profiles = [{}] * rows if profiles is None else profiles
    if len(profiles) != rows:
        raise ValueError(f"profiles: expected one per history ({rows}), got {len(profiles)}")
    infos = _profile_infos(signature)
    named = [{_input_column(column): value for column, value in profile.items()} for profile in profiles]
    unknown = sorted({column for profile in named for column in profile} - set(infos))
    if unknown:
        raise ValueError(f"profiles: this model has no profile column {', '.join(unknown)}; it has: {', '.join(sorted(infos)) or 'none'}")
    inputs: dict[str, Value] = {}
    for column, info in infos.items():
        values = [profile.get(column) for profile in named]
        name = f"{_PROFILE_PREFIX}{column}"
        if len(info.shape) > 1:
            weighted = [_weighted(column, value) for value in values]
            width = info.shape[1] if info.shape[1] >= 0 else max(1, *(len(row) for row in weighted))
            inputs[name] = [_pad(list(row)[:width], width, "") for row in weighted]
            if f"{name}{_WEIGHTS_SUFFIX}" in signature.inputs:
                inputs[f"{name}{_WEIGHTS_SUFFIX}"] = [[*row.values(), *[0.0] * width][:width] for row in weighted]
        else:
            inputs[name] = [_single(column, value, info.dtype) for value in values]
    return inputs


def _weighted(column: str, value: ProfileValue) -> dict[str, float]:
    """The weights of a multi-valued column's values, in order; 1 where none are given."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return {str(key): float(weight) for key, weight in value.items()}
    if isinstance(value, str | int | float):
        raise ValueError(f"profiles: column {column!r} takes a list of strings or a mapping from string to weight, got {value!r}")
    return {str(key): 1.0 for key in value}


def _single(column: str, value: ProfileValue, dtype: str) -> str | float:
    """The value of a column that takes one."""
    if dtype == "DT_STRING":
        if value is not None and not isinstance(value, str):
            raise ValueError(f"profiles: column {column!r} takes a string, got {value!r}")
        return value or ""
    if value is None:
        return math.nan
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"profiles: column {column!r} takes a number, got {value!r}") from None


def _recommendations(outputs: Mapping[str, Value]) -> list[Recommendations]:
    rows = zip(outputs["item_ids"], outputs["scores"], outputs["interests"], strict=True)
    return [Recommendations([RecommendedItem(*found) for found in zip(*row, strict=True) if found[0]]) for row in rows]


def _explained(history: Sequence[str], weights: Sequence[float], ids: Sequence[str], scores: Sequence[float]) -> ExplainedInterest:
    read = weights[: len(history)]  # of the newest items, as many as the model reads
    found = [SimilarItem(item, score) for item, score in zip(ids, scores, strict=True) if item]
    return ExplainedInterest([*[0.0] * (len(history) - len(read)), *read], found)


def _tasks(outputs: Mapping[str, Any]) -> list[str]:
    """The tasks of a model of users' tags: each has an output of scores."""
    return sorted(name.removesuffix(_SCORES_SUFFIX) for name in outputs if name.endswith(_SCORES_SUFFIX))


def _by_task(outputs: Mapping[str, Value], names: str, make: Callable[[str, float], T]) -> list[dict[str, list[T]]]:
    """What each row's answer holds by task, without padding; ``names`` is the end of the outputs that hold strings."""
    tasks = _tasks(outputs)
    columns = {task: list(zip(outputs[f"{task}_{names}"], outputs[f"{task}{_SCORES_SUFFIX}"], strict=True)) for task in tasks}
    return [
        {task: [make(name, score) for name, score in zip(*columns[task][row], strict=True) if name] for task in tasks}
        for row in range(len(columns[tasks[0]]))
    ]


def tag_explanation(task: str, row: int, fields: Mapping[str, Value], outputs: Mapping[str, Value]) -> TagExplanation:
    """What the outputs of ``explain_tags`` say of one task of one row of a request.

    Args:
        task: What the task is called in the outputs' names.
        row: The row.
        fields: The request's profile inputs by name, lists of values.
        outputs: The answer by name, nested lists.
    """

    def output(name: str) -> Any:
        values = outputs.get(f"{task}_{name}")
        return None if values is None else values[row]

    of_fields, of_values = [], []
    for key, sent in fields.items():
        column = key.removeprefix(_PROFILE_PREFIX)
        effect, effects = output(f"effect_{column}"), output(f"value_effects_{column}")
        if effect is None:
            continue  # the weights of a field with several values
        of_fields.append(Evidence(column, None, effect, output(f"attention_{column}")))
        if effects is not None:
            looked = output(f"value_attention_{column}") or [None] * len(effects)
            of_values += [Evidence(column, *cell) for cell in zip(sent[row], effects, looked, strict=True) if cell[0]]
    return TagExplanation(
        score=output("scores"),
        bias=output("biases"),
        experts=output("experts"),
        gates=output("gates"),
        fields=sorted(of_fields, key=lambda each: -abs(each.effect)),
        values=sorted(of_values, key=lambda each: -abs(each.effect)),
    )


# Command line


def _parse_ids(text: str) -> list[str]:
    """``a,b,c``, or a JSON list for ids with commas in them."""
    if not text.startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        ids = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not a JSON list of ids: {error}") from None
    if not all(isinstance(item, str) for item in ids):
        raise argparse.ArgumentTypeError("every id in the JSON list must be a string")
    return list(ids)


def _parse_seconds(text: str) -> list[float]:
    """``1700000000,1700000060``: one number per item of a history."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers of seconds separated by commas, got {text!r}") from None


def _parse_profile(text: str) -> dict[str, ProfileValue]:
    """A JSON object from column to value."""
    try:
        profile = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not a JSON object: {error}") from None
    if not isinstance(profile, dict):
        raise argparse.ArgumentTypeError("expected a JSON object from column to value")
    return profile


def _one_per_history(option: str, values: Sequence[T], histories: int) -> list[T] | None:
    """No value, one for all histories, or one for each."""
    return _one_per(option, values, histories, "histories, or once per --history")


def _one_per(option: str, values: Sequence[T], count: int, of: str) -> list[T] | None:
    if not values:
        return None
    if len(values) not in (1, count):
        raise ValueError(f"{option}: give it once for all {of} ({count}); got {len(values)}")
    return list(values) * (count if len(values) == 1 else 1)


def _recommend_command(client: Client, arguments: argparse.Namespace) -> Any:
    histories = arguments.history
    answers = client.recommend(
        histories,
        exclude=_one_per_history("--exclude", arguments.exclude, len(histories)),
        diversity=arguments.diversity,
        profiles=_one_per_history("--profile", arguments.profile, len(histories)),
        timestamps=_one_per_history("--timestamps", arguments.timestamps, len(histories)),
        num_results=arguments.num_results,
        filters=_one_per_history("--filter", arguments.filter, len(histories)),
        allow_items=_one_per_history("--allow-items", arguments.allow_items, len(histories)),
    )
    return [Recommendations(answer.items[: arguments.top]) for answer in answers]


def _rank_command(client: Client, arguments: argparse.Namespace) -> list[list[RankedItem]]:
    histories = arguments.history
    answers = client.rank(
        histories,
        _one_per_history("--candidates", arguments.candidates, len(histories)) or [],
        profiles=_one_per_history("--profile", arguments.profile, len(histories)),
    )
    return [answer[: arguments.top] for answer in answers]


def _tags_command(client: Client, arguments: argparse.Namespace) -> list[UserTags]:
    exclude = _one_per("--exclude", arguments.exclude, len(arguments.user), "users, or once per --user")
    answers = client.user_tags(arguments.user, exclude=exclude)
    return [UserTags({task: tags[: arguments.top] for task, tags in answer.tasks.items()}, answer.cold_start) for answer in answers]


def _users_command(client: Client, arguments: argparse.Namespace) -> list[dict[str, list[ScoredUser]]]:
    return [{task: users[: arguments.top] for task, users in answer.items()} for answer in client.tag_users(arguments.tag)]


def _explain_command(client: Client, arguments: argparse.Namespace) -> list[dict[str, TagExplanation]]:
    return client.explain_tags([arguments.user] * len(arguments.tag), arguments.tag)


def _print_recommendations(arguments: argparse.Namespace, answers: Sequence[Recommendations]) -> None:
    for history, found in zip(arguments.history, answers, strict=True):
        print(f"after {', '.join(history) or '(nothing)'}:")
        for place, item in enumerate(found.items, start=1):
            origin = "cold start" if item.interest < 0 else f"interest {item.interest}"
            print(f"  {place:3}. {item.item}  score {item.score:.4f}  {origin}")


def _print_ranks(arguments: argparse.Namespace, answers: Sequence[Sequence[RankedItem]]) -> None:
    for history, ranked in zip(arguments.history, answers, strict=True):
        print(f"after {', '.join(history) or '(nothing)'}:")
        for place, item in enumerate(ranked, start=1):
            print(f"  {place:3}. {item.item}  {'unknown item' if math.isinf(item.score) else f'score {item.score:.4f}'}")


def _print_neighbours(arguments: argparse.Namespace, answers: Sequence[Sequence[SimilarItem]]) -> None:
    for wanted, neighbours in zip(arguments.item, answers, strict=True):
        print(f"like {wanted}:" if neighbours else f"like {wanted}: unknown item")
        for place, item in enumerate(neighbours, start=1):
            print(f"  {place:3}. {item.item}  score {item.score:.4f}")


def _print_tags(arguments: argparse.Namespace, answers: Sequence[UserTags]) -> None:
    for user, found in zip(arguments.user, answers, strict=True):
        print(f"{json.dumps(user, ensure_ascii=False)}{', of whom nothing is known' if found.cold_start else ''}:")
        for task, tags in found.tasks.items():
            print(f"  {task}")
            for place, tag in enumerate(tags, start=1):
                print(f"  {place:3}. {tag.tag}  score {tag.score:.4f}")


def _print_users(arguments: argparse.Namespace, answers: Sequence[Mapping[str, Sequence[ScoredUser]]]) -> None:
    for tag, found in zip(arguments.tag, answers, strict=True):
        print(f"for {tag}:" if any(found.values()) else f"for {tag}: unknown tag")
        for task, users in found.items():
            print(f"  {task}")
            for place, user in enumerate(users, start=1):
                print(f"  {place:3}. {user.user}  score {user.score:.4f}")


def _print_explanations(arguments: argparse.Namespace, answers: Sequence[Mapping[str, TagExplanation]]) -> None:
    for tag, by_task in zip(arguments.tag, answers, strict=True):
        for task, why in by_task.items():
            if math.isinf(why.score):
                print(f"{tag}, {task}: unknown tag")
                continue
            shares = zip(why.experts, why.gates, strict=True)
            parts = [f"expert {k} {share:+.4f} (gate {gate:.2f})" for k, (share, gate) in enumerate(shares) if gate]
            print(f"{tag}, {task}: score {why.score:.4f} = {', '.join([*parts, *([f'bias {why.bias:+.4f}'] if why.bias else [])])}")
            fields, values = ([each for each in part if each.effect or each.attention] for part in (why.fields, why.values))
            for each in [*fields[: arguments.top], *values[: arguments.top]]:
                looked = "" if each.attention is None else f"  attention {each.attention:.3f}"
                print(f"  {each.field if each.value is None else f'{each.field}: {each.value}'}  {each.effect:+.4f}{looked}")


def _print_status(_: argparse.Namespace, versions: Sequence[VersionStatus]) -> None:
    for version in versions:
        reason = f"  {version.error_code}: {version.error_message}" if version.error_message else ""
        print(f"version {version.version}  {version.state}{reason}")


def _print_metadata(_: argparse.Namespace, answer: ModelMetadata) -> None:
    print(f"model {answer.model}, version {answer.version}")
    for name, signature in sorted(answer.signatures.items()):
        for kind, infos in (("takes", signature.inputs), ("gives", signature.outputs)):
            described = ", ".join(f"{key} {info.dtype}{list(info.shape)}" for key, info in sorted(infos.items()))
            print(f"  {name} {kind} {described}")


_PRINTERS: dict[str, Callable[[argparse.Namespace, Any], None]] = {
    "recommend": _print_recommendations,
    "rank": _print_ranks,
    "tags": _print_tags,
    "users": _print_users,
    "explain": _print_explanations,
    "similar": _print_neighbours,
    "status": _print_status,
    "metadata": _print_metadata,
}


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--address", help="http://host:port for REST, host:port for gRPC (default: 127.0.0.1 and the customary port)")
    common.add_argument("--model", default="mind", help="the model's name (default: %(default)s)")
    common.add_argument("--protocol", choices=sorted(_PORTS), default="rest", help="default: %(default)s")
    common.add_argument("--version", type=int, help="ask this version (default: the newest)")
    common.add_argument("--timeout", type=float, default=10.0, help="seconds to wait for an answer (default: %(default)s)")
    common.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser = argparse.ArgumentParser(
        description="Ask a served model for recommendations, or for the tags of users.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  what to show a user who clicked three items, oldest first:
    python serving/client.py recommend --model mind --history item7,item2,item9
  two users at once, without two items, with more diverse categories:
    python serving/client.py recommend --history item7,item2 --history item5 --exclude item1,item3 --diversity 0.1
  ids with commas in them, as JSON:
    python serving/client.py recommend --history '["a,b", "c"]'
  which of three items to show first, for models with a ranker:
    python serving/client.py rank --history item7,item2 --candidates item1,item3,item4
  the tags of a user, the users for a tag, and what speaks for a tag of a user:
    python serving/client.py tags --model mvke --user '{"city": "Oslo", "tags": {"jazz": 3, "rock": 1}}'
    python serving/client.py users --model mvke blues
    python serving/client.py explain --model mvke --user '{"tags": ["jazz"]}' blues
  neighbours of an item; which versions are being served; what the model takes and gives:
    python serving/client.py similar item7
    python serving/client.py status
    python serving/client.py metadata""",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    recommend = commands.add_parser("recommend", parents=[common], help="recommend items to users")
    rank = commands.add_parser("rank", parents=[common], help="rank given items for users, for models with a ranker")
    for command in (recommend, rank):
        command.add_argument(
            "--history", type=_parse_ids, action="append", required=True, metavar="IDS", help="a user's items, oldest first; repeatable"
        )
        command.add_argument(
            "--profile",
            type=_parse_profile,
            action="append",
            default=[],
            metavar="JSON",
            help='e.g. \'{"age": 31, "city": "Oslo"}\'; once, or once per --history',
        )
    rank.add_argument(
        "--candidates", type=_parse_ids, action="append", required=True, metavar="IDS", help="what to rank; once, or once per --history"
    )
    recommend.add_argument(
        "--exclude", type=_parse_ids, action="append", default=[], metavar="IDS", help="never answer these; once, or once per --history"
    )
    recommend.add_argument("--diversity", type=float, help="weight of category diversity, 0 or more")
    recommend.add_argument(
        "--timestamps",
        type=_parse_seconds,
        action="append",
        default=[],
        metavar="SECONDS",
        help="when each item of --history was seen, for models that read it; once per --history",
    )
    recommend.add_argument("--num-results", type=int, metavar="N", help="how many items to ask for (default: the model's own number)")
    recommend.add_argument(
        "--filter",
        type=_parse_profile,
        action="append",
        default=[],
        metavar="JSON",
        help='what items must be, e.g. \'{"category": ["Pets"], "brand": {"deny": ["acme"]}, "price": {"max": 20}}\'; once, or once per '
        "--history",
    )
    recommend.add_argument(
        "--allow-items", type=_parse_ids, action="append", default=[], metavar="IDS", help="only these; once, or once per --history"
    )
    similar = commands.add_parser("similar", parents=[common], help="neighbours of items")
    similar.add_argument("item", nargs="+")
    tags = commands.add_parser("tags", parents=[common], help="the tags of users")
    tags.add_argument("--user", type=_parse_profile, action="append", required=True, metavar="JSON", help="a user's fields; repeatable")
    tags.add_argument(
        "--exclude", type=_parse_ids, action="append", default=[], metavar="TAGS", help="never answer these; once, or once per --user"
    )
    users = commands.add_parser("users", parents=[common], help="the users for tags")
    users.add_argument("tag", nargs="+")
    explain = commands.add_parser("explain", parents=[common], help="what speaks for tags of a user, and what against")
    explain.add_argument("--user", type=_parse_profile, required=True, metavar="JSON", help="the user's fields")
    explain.add_argument("tag", nargs="+")
    for command in (recommend, rank, similar, tags, users, explain):
        command.add_argument("--top", type=int, metavar="N", help="print the best N only (default: all that the model answers)")
    commands.add_parser("status", parents=[common], help="the versions being served")
    commands.add_parser("metadata", parents=[common], help="what the model takes and gives")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, or 1 with a message if there was no answer."""
    arguments = build_parser().parse_args(argv)
    if arguments.protocol == "grpc":
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow, which comes with gRPC's stubs, greets at length
    address = arguments.address or f"127.0.0.1:{_PORTS[arguments.protocol]}"
    try:
        client = Client(address, arguments.model, arguments.protocol, arguments.timeout, version=arguments.version)
        commands: dict[str, Callable[[], Any]] = {
            "recommend": lambda: _recommend_command(client, arguments),
            "rank": lambda: _rank_command(client, arguments),
            "tags": lambda: _tags_command(client, arguments),
            "users": lambda: _users_command(client, arguments),
            "explain": lambda: _explain_command(client, arguments),
            "similar": lambda: [neighbours[: arguments.top] for neighbours in client.similar_items(arguments.item)],
            "status": client.status,
            "metadata": client.metadata,
        }
        answer = commands[arguments.command]()
    except (ServingError, ValueError, ImportError) as error:
        code = f"{error.code}: " if isinstance(error, ServingError) else ""
        print(f"error: {code}{error}", file=sys.stderr)
        return 1
    try:
        if arguments.json:
            print(json.dumps(answer, default=dataclasses.asdict, ensure_ascii=False, indent=1))
        else:
            _PRINTERS[arguments.command](arguments, answer)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())

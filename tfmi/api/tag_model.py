"""``tfmi.TagModel``: models that know users by tags."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from tfmi.api.answers import check_count, id_list, per_user_ids, ranked_frame
from tfmi.api.estimator import Estimator
from tfmi.api.users import AskedUsers, asked_users, require_known
from tfmi.bulk.recommendations import newest
from tfmi.core.errors import ConfigError, DataError, nearest
from tfmi.evaluation.binary_metrics import sigmoid
from tfmi.export.profile_inputs import profile_values
from tfmi.export.saving import Answering, InMemory, Request
from tfmi.export.tags.explanations import TaskExplanation, explain_tag
from tfmi.export.tags.export_user_tags import tags_in_memory
from tfmi.export.tags.user_fields import UserFields
from tfmi.kinds.base import ModelKind

FEWEST_RESULTS = 50


class TagModel(Estimator):
    """Says which tags users like, for each of several tasks, and which users like a tag.

    Args:
        system: The name of a system of tags, such as "mvke" or "utpm"; the path of a YAML configuration; or a recipe as a mapping.
        **settings: By short name: ``dimension``, ``fields``, and those that every kind of model has (``epochs``, ``steps``,
            ``batch_size``, ``learning_rate``, ``seed``, ``monitor``, ``patience``, ``cutoffs``); or by dotted key of the configuration.
    """

    shortcuts: ClassVar[Mapping[str, str]] = {"dimension": "model.user_tags.dimension", "fields": "model.user_tags.fields"}
    a_model = "models of tags"

    def __init__(self, system: Any = "utpm", **settings: Any) -> None:
        super().__init__(system, **settings)

    @classmethod
    def accepts(cls, kind: ModelKind[Any, Any, Any]) -> bool:
        """See ``Estimator.accepts``."""
        return kind.answers == "tags"

    def user_tags(self, users: Any = None, *, profiles: Any = None, n: int = 10, exclude: Any = None) -> pd.DataFrame:
        """The best tags of users, for each task.

        Args:
            users: Ids of users of the data, as known at its end.
            profiles: Instead of users: a mapping from field to value for each, or a table.
            n: Tags per user and task.
            exclude: Tags never to answer with: one list for all users, or a list for each.

        Returns:
            A row for each answer, best first: ``user``, ``rank``, ``tag``, ``score`` (the logit), ``probability`` and ``task``.

        Raises:
            ConfigError: It is not fitted, or neither or both of users and profiles are given.
            DataError: An unknown user, or values of a wrong type.
        """
        self._require("user_tags")
        n = check_count(n)
        asked, request = self._request(users, profiles, "user_tags", self._answers(n, 0, 1))
        excluded = per_user_ids(exclude, "exclude", len(asked))
        widest = max(map(len, excluded), default=0)
        answering = self._answers(n, widest, 1)
        signature = "user_tags"
        if widest:
            signature = "recommend_tags"
            width = max(int(answering.metadata["widths"]["exclusion_width"]), widest)
            request = {**request, "exclude": newest(excluded, width, object, "")}
        return self._frame(asked.names, answering.predict(signature, request), row_name="user", name="tag", suffix="tags", n=n)

    def tag_users(self, tags: Any, n: int = 10) -> pd.DataFrame:
        """The users of the data that like tags most, for each task.

        Args:
            tags: One or several.
            n: Users per tag and task.

        Returns:
            A row for each answer, best first: ``tag``, ``rank``, ``user``, ``score`` (the logit), ``probability`` and ``task``.

        Raises:
            ConfigError: It is not fitted, or its export holds no users.
            DataError: An unknown tag.
        """
        self._require("tag_users")
        n = check_count(n)
        asked = id_list(tags, "tags")
        self._require_tags(asked)
        answering = self._answers(1, 0, n)
        if "tag_users" not in answering.signature_names:
            raise ConfigError("tag_users: this version was exported without users; export with export.audience_size above 0")
        answer = answering.predict("tag_users", {"tags": np.array(asked, dtype=object)})
        return self._frame(asked, answer, row_name="tag", name="user", suffix="user_ids", n=n)

    def explain(self, user: Any = None, tag: str | None = None, *, profile: Mapping[str, Any] | None = None) -> list[TaskExplanation]:
        """Why a user gets a score for a tag: what each field, value and expert adds.

        Args:
            user: The id of a user of the data.
            tag: The tag.
            profile: Instead of a user: a mapping from field to value.

        Returns:
            One explanation per task; ``print(*explanation.rows(), sep="\\n")`` shows one.

        Raises:
            ConfigError, DataError: As ``user_tags``; or the tag is unknown.
        """
        self._require("explain")
        if tag is None:
            raise DataError("explain: expected a tag")
        self._require_tags([tag])
        answering = self._answers(1, 0, 1)
        asked, request = self._request(user, None if profile is None else [profile], "explain", answering)
        if len(asked) != 1:
            raise DataError(f"explain: expected one user, got {len(asked)}")
        return explain_tag(answering, request, tag)

    def _request(self, users: Any, profiles: Any, method: str, answering: Answering) -> tuple[AskedUsers, Request]:
        """The request inputs of users."""
        fields = UserFields(answering.metadata["profile_inputs"])
        if users is None:
            asked = asked_users(None, None, profiles, None, known=None, kinds=fields.kinds, method=method)
            return asked, fields.request({name: asked.columns[name] for name in fields.kinds if name in asked.columns}, len(asked))
        if profiles is not None:
            raise ConfigError(f"{method}: give either users, ids of the data, or profiles=, what is known of anybody")
        if self.dataset is None:
            raise ConfigError(f"{method}: an exported version does not know users by their ids; give profiles=")
        data, names = self._data(), id_list(users, "users")
        known = self._user_rows
        require_known(names, known, "users", lambda user: nearest(user, list(known)[:100_000]))
        states = np.asarray(data.users.states)[[known[name] for name in names]]
        features = {name: data.states.fields[name] for name in fields.kinds}
        return AskedUsers(names, {}), profile_values(features, states)

    @functools.cached_property
    def _user_rows(self) -> dict[str, int]:
        return {user: row for row, user in enumerate(self._data().users.ids)}

    def _take(self, *arguments: Any) -> None:
        super()._take(*arguments)
        self.__dict__.pop("_user_rows", None)

    def _require_tags(self, tags: list[str]) -> None:
        if self._exported is not None:
            return  # an export holds its tags for itself; it gives unknown ones no answer
        vocabulary = self.kind.vocabulary(self._data())
        known = set(vocabulary.ids)
        require_known(tags, known, "tags", lambda tag: nearest(tag, vocabulary.ids[:100_000]))

    def _frame(self, rows: Any, answer: Mapping[str, np.ndarray], *, row_name: str, name: str, suffix: str, n: int) -> pd.DataFrame:
        frames = []
        tasks = self._answers(1, 0, 1).metadata["tasks"]
        for task in tasks:
            found, scores = answer[f"{task['output']}_{suffix}"], answer[f"{task['output']}_scores"]
            there = (found != b"") & (np.arange(found.shape[1]) < n)
            frame = ranked_frame(rows, there, row_name, {name: found, "score": scores, "probability": sigmoid(scores)})
            frames.append(frame.assign(task=task["task"]))
        return pd.concat(frames, ignore_index=True)

    def _answers(self, n: int, exclusions: int, audience: int) -> Answering:
        """What answers with so many tags, takes so many exclusions and answers with so many users, or more."""
        wanted = {"num_results": n, "audience_size": audience}
        if self._exported is not None:
            for width, count in wanted.items():
                most = int(self._exported.metadata["widths"][width])
                if count > max(most, 1):
                    raise ConfigError(f"n: this exported model answers with {most}; export with export.{width}={count} to get {count}")
            return self._exported
        widths = {"num_results": max(n, FEWEST_RESULTS), "exclusion_width": max(exclusions, FEWEST_RESULTS)}
        widths["audience_size"] = max(audience, FEWEST_RESULTS)
        for (version, made), answering in self._answering.items():
            if version == self._version() and all(dict(made)[name] >= value for name, value in widths.items()):
                return answering
        config = self._config
        export, index = config.export.model_copy(update=widths), config.index.model_copy(update={"kind": "exact"})
        answering = InMemory(tags_in_memory(self._model, self._data(), export=export, index=index))
        self._answering = {(self._version(), tuple(widths.items())): answering}
        return answering

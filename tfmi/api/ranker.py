"""``tfmi.Ranker``: models that order candidates for users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from tfmi.api.answers import check_count, per_user_ids, ranked_frame
from tfmi.api.recommender import ItemAnswers, Recommender
from tfmi.bulk.recommendations import HISTORY, newest
from tfmi.core.errors import ConfigError, DataError
from tfmi.evaluation.binary_metrics import sigmoid
from tfmi.export.retrieval.rank_signature import RankSignature
from tfmi.export.saving import Answering, InMemory
from tfmi.export.tags.user_fields import UserFields
from tfmi.kinds.base import ModelKind


class Ranker(ItemAnswers):
    """Predicts which candidates a user clicks, from impressions.

    Args:
        system: The name of a system that ranks, such as "din" or "mgipf"; the path of a YAML configuration; or a recipe as a mapping.
        **settings: By short name: ``dimension``, ``history_length``, ``hidden``, ``coarse_features``, ``retriever``, and those that every
            kind of model has (``epochs``, ``steps``, ``batch_size``, ``learning_rate``, ``seed``, ``monitor``, ``patience``); or by dotted
            key of the configuration.
    """

    shortcuts: ClassVar[Mapping[str, str]] = {
        "dimension": "model.ranker.dimension",
        "hidden": "model.ranker.hidden",
        "coarse_features": "model.ranker.coarse_features",
        "retriever": "model.ranker.retriever.system",
        "history_length": "data.history_length",
    }
    a_model = "models that rank"

    def __init__(self, system: Any = "din", **settings: Any) -> None:
        super().__init__(system, **settings)

    @classmethod
    def accepts(cls, kind: ModelKind[Any, Any, Any]) -> bool:
        """See ``Estimator.accepts``."""
        return kind.answers == "items" and not kind.is_retriever

    def rank(
        self,
        users: Any = None,
        *,
        candidates: Any,
        histories: Any = None,
        profiles: Any = None,
        n: int | None = None,
    ) -> pd.DataFrame:
        """Order candidates by how likely users click them.

        Args:
            users: Ids of users of the data; what they clicked in all of it is their history.
            candidates: Item ids: one list for all users, or a list for each.
            histories: Instead of users: a list of item ids for each, oldest first. Unknown items are left out, which is logged.
            profiles: Beside or instead of histories: a mapping from field to value for each user, or a table.
            n: Only the best so many of each user; None: all.

        Returns:
            A row for each candidate, best first: ``user``, ``rank``, ``item``, ``score`` (the logit) and ``probability``.

        Raises:
            ConfigError: It is not fitted, or neither or both of users and histories are given.
            DataError: An unknown user or candidate, or values of a wrong type.
        """
        self._require("rank")
        most = None if n is None else check_count(n)
        answering = self._rank_answers()
        fields = UserFields(answering.metadata["profile_inputs"])
        asked = self._asked(users, histories, profiles, None, kinds=fields.kinds, method="rank")
        lists = per_user_ids(candidates, "candidates", len(asked))
        self._require_items([item for row in lists for item in row], "candidates")
        width = max(map(len, lists), default=0)
        if not width:
            raise DataError("candidates: expected at least one item")
        request = fields.request({name: values for name, values in asked.columns.items() if name in fields.kinds}, len(asked))
        length = int(answering.metadata["widths"]["history_length"])
        table = newest(lists, width, object, "")
        inputs = {**request, "history": newest(asked.columns[HISTORY], length, object, ""), "candidates": table}
        scores = answering.predict("rank", inputs)["scores"]
        order = np.argsort(-scores, axis=1, kind="stable")
        scores, items = np.take_along_axis(scores, order, axis=1), np.take_along_axis(table, order, axis=1)
        found = (items != "") & (np.arange(width) < (width if most is None else most))
        encoded = np.array([[item.encode("utf-8") for item in row] for row in items], dtype=object).reshape(items.shape)
        columns = {"item": encoded, "score": scores, "probability": sigmoid(scores)}
        return ranked_frame(asked.names, found, "user", columns)

    def recommend(self, users: Any = None, **asked: Any) -> pd.DataFrame:
        """Find items and rank them, by an exported version, which has a retriever in front; arguments as of ``Recommender.recommend``.

        Raises:
            ConfigError: This is a ranker alone: export it, and load the version.
        """
        if self._exported is None:
            raise ConfigError(
                "recommend: a ranker orders what a retriever finds; export(path) publishes both, and tfmi.load reads them back"
            )
        retriever = Recommender._of_export(self._exported, self._config)
        answer: pd.DataFrame = retriever.recommend(users, **asked)
        return answer

    def _rank_answers(self) -> Answering:
        if self._exported is not None:
            return self._exported
        key = self._version()
        if key not in self._answering:
            signature = RankSignature(self._model, self._data().profiles)
            self._answering = {key: InMemory(signature)}
        return self._answering[key]

"""The signatures of a user-tag model: the tags of a user, the users for a tag, and why, as functions of raw strings.

Shapes: B rows, E exclusions, n tags of an answer, m users of an answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.config import ExportConfig, IndexConfig
from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX, Feature, Vocabulary
from tfmi.data.tags.tag_dataset import TagDataset
from tfmi.export.cold_start import ColdStart
from tfmi.export.graph_checks import of_any_width, require_at_most, require_columns, require_rows, require_vector
from tfmi.export.lookup import ItemVocabulary
from tfmi.export.profile_inputs import ProfileInputs
from tfmi.export.retrieval.retrieval_signatures import MOST_EXCLUSIONS
from tfmi.export.saving import ReleasedSignatures, SignatureFunction, Tensors, WarmupRequest
from tfmi.export.tags.tag_explaining import TagExplainer
from tfmi.export.tags.tag_requests import TagRequestMaker
from tfmi.export.tags.tag_search import TagSearch, UserSearch
from tfmi.export.warmup import make_requests
from tfmi.index.base import InterestIndex
from tfmi.index.exact import ExactIndex
from tfmi.index.merging import NO_INTEREST, Candidates
from tfmi.index.partitioned import PartitionedIndex
from tfmi.index.scann import ScannIndex
from tfmi.index.selection import most_distinct_items, select
from tfmi.models.shared_trace import SharedTrace
from tfmi.models.user_tags.user_tag_model import UserTagModel


class AudienceUsers:
    """Users for audiences.

    Args:
        ids: Raw ids, distinct.
        queries: float32 [users, E d], ``UserTagModel.user_queries`` of each.
    """

    def __init__(self, ids: Sequence[str], queries: np.ndarray) -> None:
        self.ids = ids
        self.queries = np.pad(queries, ((FIRST_INDEX, 0), (0, 0)))  # rows as of a vocabulary


class TagSearches:
    """The searches of a servable in both directions.

    Args:
        model: A trained model.
        users: Users for audiences; None: only tags are searched.
        index: Of the indexes.
        server: What will serve, see ``resolve_kind``.

    Attributes:
        tags: By task, the tags of users.
        users: By task, the users for tags; none without users.
    """

    def __init__(self, model: UserTagModel, users: AudienceUsers | None, index: IndexConfig, server: str) -> None:
        tasks = range(len(model.task_names))
        queries = None if users is None else tf.Variable(users.queries, trainable=False, name="user_queries")
        self.tags = [TagSearch(model, task, index, server) for task in tasks]
        self.users = [] if queries is None else [UserSearch(model, task, queries, index, server) for task in tasks]

    def kind(self, asked: str) -> str:
        """The kind of index ``asked`` for; of ``auto``, the one among those chosen that asks most of a server."""
        if asked != "auto":
            return asked
        kinds = {index.kind for index in self.indexes()}
        return next((kind for kind in (ScannIndex.kind, PartitionedIndex.kind) if kind in kinds), ExactIndex.kind)

    def indexes(self) -> list[InterestIndex]:
        """Every index that is asked."""
        return [search.index for search in (*self.tags, *self.users) if search.index is not None]


class UserTagSignatures(ReleasedSignatures):
    """Functions from strings to strings for every signature, and how to save them.

    Scores are the model's own logits: the sigmoid of one is the probability of the task's action among rows as training had them, its
    sampled negatives included.

    Args:
        model: A trained model.
        dataset: Tags, their counts, and which fields hold tags.
        features: The model's fields by name, as the dataset has them.
        users: Users for audiences; None: there is no signature ``tag_users``.
        searches: Of the same model and users; whatever they are set to when this is made is what is served.
        export: n, E, m, and whether own tags are excluded.

    Attributes:
        profile_inputs: The fields at the boundary.
        task_keys: What each task is called in outputs.
    """

    def __init__(
        self,
        model: UserTagModel,
        dataset: TagDataset,
        features: Mapping[str, Feature],
        users: AudienceUsers | None,
        *,
        searches: TagSearches,
        export: ExportConfig,
    ) -> None:
        self._model, self._export, self._dataset, self._features = model, export, dataset, features
        self._num_tags = model.num_tag_rows - FIRST_INDEX
        self.profile_inputs = ProfileInputs(features)
        self._first_input = next(iter(self.profile_inputs.specs()))
        self._own_tags = [name for name in dataset.tag_fields if name in features]
        self.task_keys = output_names(model.task_names)
        self._tags = ItemVocabulary(dataset.tags)
        self._cold_starts = [ColdStart(counts) for counts in dataset.tag_counts]
        self._searches = searches
        self._num_users = 0 if users is None else len(users.ids)
        self._users = None if users is None else ItemVocabulary(Vocabulary(users.ids))
        self._user_queries = SharedTrace(model.user_queries)
        self._answer_without = SharedTrace(self._answer)
        self._explainer = TagExplainer(model, features, self.task_keys, self._user_queries)
        indexes = searches.indexes()
        super().__init__(
            self._functions(),
            resources=[self._tags, self._users, self.profile_inputs, indexes],
            op_namespaces=[namespace for each in indexes for namespace in each.op_namespaces],
        )

    def requests(self, batch_sizes: Sequence[int]) -> list[WarmupRequest]:
        """See ``ReleasedSignatures``: users of the dataset, and popular tags more often."""
        maker = TagRequestMaker(self._dataset, self._features, self._export)
        return make_requests(maker.inputs, sorted(self.signatures), batch_sizes)

    def describe(self, *, outputs: bool = True) -> dict[str, Any]:
        """See ``Signatures``: what a client needs to know of tasks, tags and users."""
        return {
            **super().describe(outputs=outputs),
            "widths": {
                "num_results": self._export.num_results,
                "exclusion_width": self._export.exclusion_width,
                "audience_size": self._export.audience_size,
            },
            "exclude_history": self._export.leaves_out_history,
            "scoring": self._model.scoring,
            "tasks": [
                {
                    "task": name,
                    "output": key,
                    "experts": list(self._model.user_encoder.experts_of(task)),
                    "bias": float(self._model.bias(task)),
                    "inner_product": self._model.is_linear(task),
                }
                for task, (name, key) in enumerate(zip(self._model.task_names, self.task_keys, strict=True))
            ],
            "tags": len(self._dataset.tags),
            "users": self._num_users,
            "profile_inputs": self.profile_inputs.describe(),
        }

    # Signatures

    def _functions(self) -> dict[str, SignatureFunction]:
        fields = self.profile_inputs.specs()
        exclude = tf.TensorSpec([None, self._export.exclusion_width], tf.string, name="exclude")
        one_tag = tf.TensorSpec([None], tf.string, name="tags")
        some_tags = tf.TensorSpec([None, self._export.num_results], tf.string, name="tags")
        functions: dict[str, SignatureFunction] = {
            "serving_default": (self._user_tags, fields),
            "user_tags": (self._user_tags, fields),
            "recommend_tags": (self._recommend_tags, {**fields, "exclude": exclude}),
            "user_tags_examples": (self._user_tags_examples, {"examples": tf.TensorSpec([None], tf.string, name="examples")}),
            "score_tags": (self._score_tags, {**fields, "tags": some_tags}),
            "explain_tags": (self._explain_tags, {**fields, "tags": one_tag}),
        }
        if self._searches.users:
            functions["tag_users"] = (self._tag_users, {"tags": one_tag})
        return functions

    def _user_tags(self, **fields: tf.Tensor) -> Tensors:
        return self._answer(fields)

    def _recommend_tags(self, exclude: tf.Tensor, **fields: tf.Tensor) -> Tensors:
        exclude = require_columns(exclude, "exclude", most=max(MOST_EXCLUSIONS, self._export.exclusion_width))
        indices = self._tags.indices(require_rows(exclude, "exclude", self._rows(fields)))
        return self._answer_without(fields, of_any_width(indices))

    def _user_tags_examples(self, examples: tf.Tensor) -> Tensors:
        parsed = tf.io.parse_example(
            require_vector(examples, "examples"), {"exclude": tf.io.RaggedFeature(tf.string), **self.profile_inputs.example_features()}
        )
        exclude = parsed["exclude"]
        lengths = require_at_most(exclude.row_lengths(), max(MOST_EXCLUSIONS, self._export.exclusion_width), "exclude")
        exclude = tf.RaggedTensor.from_row_lengths(self._tags.indices(exclude.flat_values), lengths, validate=False)
        return self._answer_without(self.profile_inputs.from_example(parsed), exclude.to_tensor(PADDING_INDEX))

    def _score_tags(self, tags: tf.Tensor, **fields: tf.Tensor) -> Tensors:
        rows = self._rows(fields)
        indices = self._tags.indices(require_rows(require_columns(tags, "tags", self._export.num_results), "tags", rows))
        queries = self._user_queries(self.profile_inputs.encode(fields, rows))
        return {
            f"{key}_scores": self._model.score(queries, indices, task) + self._model.bias(task) for task, key in enumerate(self.task_keys)
        }

    def _explain_tags(self, tags: tf.Tensor, **fields: tf.Tensor) -> Tensors:
        rows = self._rows(fields)
        indices = self._tags.indices(require_rows(require_vector(tags, "tags"), "tags", rows))
        return self._explainer.explain(self.profile_inputs.encode(fields, rows), indices)

    def _tag_users(self, tags: tf.Tensor) -> Tensors:
        indices = self._tags.indices(require_vector(tags, "tags"))
        outputs: Tensors = {}
        for task, (key, search) in enumerate(zip(self.task_keys, self._searches.users, strict=True)):
            scores, users = search.search(indices, self._export.audience_size)
            outputs[f"{key}_user_ids"] = self._users.identifiers(users)  # type: ignore[union-attr]
            outputs[f"{key}_scores"] = scores + self._model.bias(task)
        return outputs

    # Their common part

    def _rows(self, fields: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return tf.shape(fields[self._first_input])[0]

    def _answer(self, fields: Mapping[str, tf.Tensor], exclude: tf.Tensor | None = None) -> Tensors:
        """The best tags of users, without exclusions int32 [B, E]."""
        encoded = self.profile_inputs.encode(fields, self._rows(fields))
        is_known = self.profile_inputs.known(fields)
        excluded = self._excluded(encoded, exclude)
        k: tf.Tensor | int = self._export.num_results
        if excluded is not None:
            k = k + most_distinct_items(excluded)
        k = tf.minimum(k, self._num_tags)
        queries = self._user_queries(encoded)
        outputs: Tensors = {"cold_start": ~is_known}
        for task, (key, search, cold_start) in enumerate(zip(self.task_keys, self._searches.tags, self._cold_starts, strict=True)):
            scores, tags = search.search(queries, k)
            found = Candidates(tags, scores + self._model.bias(task), tf.fill(tf.shape(tags), NO_INTEREST))
            found = cold_start.replace(found, ~is_known)
            chosen = select(found, self._export.num_results, excluded)
            outputs[f"{key}_tags"], outputs[f"{key}_scores"] = self._tags.identifiers(chosen.items), chosen.scores
        return outputs

    def _excluded(self, encoded: Mapping[str, tf.Tensor], exclude: tf.Tensor | None) -> tf.Tensor | None:
        tables = [] if exclude is None else [exclude]
        if self._export.leaves_out_history:
            tables += [encoded[name] for name in self._own_tags]  # these fields have the tags' own indices
        return tf.concat(tables, axis=1) if tables else None


def output_names(task_names: Sequence[str]) -> tuple[str, ...]:
    """What tasks are called in outputs: their names, every character other than ASCII letters, digits and _ replaced by _."""
    return tuple(re.sub(r"[^A-Za-z0-9_]", "_", name) for name in task_names)

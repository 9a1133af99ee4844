"""The signatures of a servable: a recommender, its candidates and its vocabularies as functions of raw strings.

Shapes: B users, L history length, E exclusions, n results, K interests, d width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfmi.config import ExportConfig
from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX, UNKNOWN_INDEX, Catalogue, Feature
from tfmi.export.cold_start import ColdStart
from tfmi.export.filter_inputs import FilterInputs, Restrictions
from tfmi.export.graph_checks import of_any_width, require_at_most, require_columns, require_rows, require_vector
from tfmi.export.lookup import ItemVocabulary
from tfmi.export.profile_inputs import ProfileInputs
from tfmi.export.retrieval.rank_signature import rank_candidates_by_id
from tfmi.export.saving import PartFunction, ReleasedSignatures, SignatureFunction, Tensors, WarmupRequest
from tfmi.export.timestamp_inputs import TIMESTAMPS, TimestampInputs
from tfmi.export.warmup import RequestMaker
from tfmi.index.base import InterestIndex
from tfmi.index.explaining import ExplainedInterests
from tfmi.index.merging import Candidates, first_of_each
from tfmi.index.selection import most_distinct_items, select
from tfmi.index.sources import InterestCandidates, RankedCandidates, candidate_source
from tfmi.models.recommender import ExplainableRecommender, Reranker, Retriever, UserInputs, VectorRecommender
from tfmi.models.shared_trace import SharedTrace

# Exclusions per user beyond which a request is refused: each of them widens the search of its whole batch by one item.
MOST_EXCLUSIONS = 10_000


def weight_of_retrieval(export: ExportConfig) -> float:
    """How much of retrieval's score is added to a ranker's: 0 where nobody has chosen it on validation users."""
    return 0.0 if export.retrieval_weight == "auto" else export.retrieval_weight


def results_per_interest(export: ExportConfig, ranker: Reranker | None) -> int:
    """How far an index is searched for a plain request."""
    return export.num_results * (1 if ranker is None else export.ranking_pool)


class RetrievalSignatures(ReleasedSignatures):
    """Functions from strings to strings for every signature, and how to save them.

    Args:
        recommender: A trained model.
        index: Built from the recommender's item vectors; None for a ``DirectRecommender``.
        catalogue: The items, with their counts and categories.
        export: n, E, whether histories are excluded, and the candidates among which diversity chooses.
        profile_features: The profile features that the recommender reads, by name.
        quota_exponent: Allot an answer's places to interests by their usage raised to this, which needs a ``SharingRecommender``; None
            lets interests compete by score.
        ranker: Orders a pool of ``export.ranking_pool`` x n candidates, whose places are then those that are allotted; None answers with
            what the recommender finds.

    Attributes:
        signatures: Concrete functions by signature name; each takes keyword tensors and returns a dict of tensors.
        input_specs: The keyword tensors by signature name.
        profile_inputs: The profile at the boundary.
        filter_inputs: What a request may restrict; None where it may not.
        integration: How an answer is made of what several interests found, for the metadata.
        results_per_interest: How far the index is searched for a plain request.
        index: As given.
    """

    def __init__(
        self,
        recommender: Retriever,
        index: InterestIndex | None,
        catalogue: Catalogue,
        export: ExportConfig,
        profile_features: Mapping[str, Feature],
        *,
        quota_exponent: float | None = None,
        ranker: Reranker | None = None,
    ) -> None:
        self._recommender = recommender
        self._ranker = ranker
        self.index = index
        self.results_per_interest = results_per_interest(export, ranker)
        self._source = self._retrieval = candidate_source(recommender, index, self.results_per_interest, quota_exponent)
        self._explained = None
        if export.explain_interests and isinstance(self._source, InterestCandidates) and isinstance(recommender, ExplainableRecommender):
            self._explained = ExplainedInterests(recommender, self._source)
        if ranker is not None:
            self._source = RankedCandidates(self._source, ranker, self.results_per_interest, weight_of_retrieval(export))
        self._export, self._catalogue, self._profile_features = export, catalogue, profile_features
        self.history_length = recommender.history_length
        # Items that are gone from the catalogue come last: histories may hold them, answers do not.
        self._candidate_rows = catalogue.candidate_rows
        self._num_items = catalogue.candidate_rows - FIRST_INDEX
        self._has_gone_items = catalogue.candidate_rows < catalogue.num_rows
        self._items = ItemVocabulary(catalogue.vocabulary)
        self._cold_start = ColdStart(np.asarray(catalogue.counts)[: catalogue.candidate_rows])
        categories = catalogue.category_indices()
        self._categories = None if categories is None else tf.Variable(categories, trainable=False, name="categories")
        self._most_exclusions = max(MOST_EXCLUSIONS, export.exclusion_width)
        self.profile_inputs = ProfileInputs(profile_features)
        self.filter_inputs: FilterInputs | None = None
        if export.filterable is not None:
            self.filter_inputs = FilterInputs(export.filterable, catalogue, self._items, export.num_results, export.results_bound())
        self.integration = self._source.describe_integration()
        requested = recommender.requested_inputs if isinstance(recommender, VectorRecommender) else ()
        self._timestamps = TimestampInputs(TIMESTAMPS in requested, self.history_length)
        # Of ``recommend`` or ``recommend_filtered``, and of ``recommend_examples``.
        self._answered = SharedTrace(self._answer)
        super().__init__(
            self._functions(),
            resources=[self._items, self.profile_inputs, self.filter_inputs, index],
            op_namespaces=() if index is None else index.op_namespaces,
            parts=self._parts_for_programs(),
        )

    def requests(self, batch_sizes: Sequence[int]) -> list[WarmupRequest]:
        """See ``ReleasedSignatures``: popular items more often, and rows of the profile features as users."""
        maker = RequestMaker(
            self._catalogue,
            self.history_length,
            self._export.exclusion_width,
            self._profile_features,
            has_timestamps=TIMESTAMPS in self.input_specs["serving_default"],
            filters={} if self.filter_inputs is None else self.filter_inputs.specs(),
        )
        return maker.requests(sorted(self.signatures), batch_sizes)

    def describe(self, *, outputs: bool = True) -> dict[str, Any]:
        """See ``Signatures``: what a client needs to know, the stages that an answer goes through, and whose scores it holds."""
        return {
            **super().describe(outputs=outputs),
            "widths": {
                "history_length": self.history_length,
                "num_results": self._export.num_results,
                "exclusion_width": self._export.exclusion_width,
            },
            "exclude_history": self._export.leaves_out_history,
            "integration": self.integration,
            "filters": None if self.filter_inputs is None else self.filter_inputs.describe(),
            "diversity": self._categories is not None,
            "items": self._num_items,
            "profile_inputs": self.profile_inputs.describe(),
            **self._describe_stages(),
        }

    def _describe_stages(self) -> dict[str, Any]:
        if self._ranker is None:
            return {"stages": ["retrieval"]}
        return {
            "stages": ["retrieval", "ranking"],
            "ranking": {
                **self._ranker.describe(),
                "pool": min(self.results_per_interest, len(self._catalogue.vocabulary)),
                "retrieval_weight": weight_of_retrieval(self._export),
                "scores": "the ranker's logits of a click, plus retrieval_weight times the retriever's score; of rank the logits alone; of "
                "the cold-start list shares of training events; of similar_items the retriever's",
            },
        }

    # Signatures

    def _history_specs(self) -> dict[str, tf.TensorSpec]:
        return {"history": tf.TensorSpec([None, self.history_length], tf.string, name="history"), **self._timestamps.specs()}

    def _recommend_specs(self) -> dict[str, tf.TensorSpec]:
        wishes = {
            "exclude": tf.TensorSpec([None, self._export.exclusion_width], tf.string, name="exclude"),
            "diversity": tf.TensorSpec([None], tf.float32, name="diversity"),
        }
        return {**self._history_specs(), **self.profile_inputs.specs(), **wishes}

    def _functions(self) -> dict[str, SignatureFunction]:
        history, profile = self._history_specs(), self.profile_inputs.specs()
        functions: dict[str, SignatureFunction] = {
            "serving_default": (self._serve_history, history),
            "recommend": (self._recommend, self._recommend_specs()),
            "recommend_examples": (self._recommend_examples, {"examples": tf.TensorSpec([None], tf.string, name="examples")}),
            "similar_items": (self._similar_items, {"item_ids": tf.TensorSpec([None], tf.string, name="item_ids")}),
        }
        if self.filter_inputs is not None:
            # A signature of its own: every input has to be in every request, so that more inputs would turn old clients away.
            functions["recommend_filtered"] = (self._recommend_filtered, {**functions["recommend"][1], **self.filter_inputs.specs()})
        if self.index is not None:
            functions["user_interests"] = (self._user_interests, {**history, **profile})
        if self._explained is not None:
            filters = {} if self.filter_inputs is None else self.filter_inputs.specs()
            functions["explain_interests"] = (
                self._explain_interests,
                {**history, **profile, "exclude": self._recommend_specs()["exclude"], **filters},
            )
        if self._ranker is not None:
            # A ranker reads no times, and every input of a signature has to be in every request.
            candidates = {"candidates": tf.TensorSpec([None, None], tf.string, name="candidates")}
            functions["rank"] = (self._rank, {"history": history["history"], **profile, **candidates})
        return functions

    def _parts_for_programs(self) -> dict[str, PartFunction]:
        """Answers of any length as item indices, and what an index is built from, the same whatever kind this one is."""
        items = tf.TensorSpec([None], tf.int32, name="items")
        # In the order of the inputs' names; exclusions of any width, since every column of them is searched for.
        asked = {**self._recommend_specs(), "exclude": tf.TensorSpec([None, None], tf.string, name="exclude")}
        inputs = [asked[name] for name in sorted(asked)]
        parts: dict[str, PartFunction] = {
            "item_ids": (self._items.identifiers, [items]),
            "item_answers": (self._item_answers, [*inputs, tf.TensorSpec([], tf.int32, name="n")]),
        }
        if self.index is not None:
            parts["item_vectors"] = (self.index.vectors, [items])
        return parts

    def _serve_history(self, history: tf.Tensor, **timestamps: tf.Tensor) -> Tensors:
        history = require_columns(history, "history", self.history_length)
        nobody = self.profile_inputs.missing(tf.shape(history)[0])
        return self._as_strings(self._chosen(self._users(history, {**timestamps, **nobody})))

    def _recommend_filtered(self, history: tf.Tensor, **given: tf.Tensor) -> Tensors:
        filters = {name: given[name] for name in self.filter_inputs.specs()}  # type: ignore[union-attr]
        return self._recommend(history, filters=filters, **given)

    def _recommend(
        self,
        history: tf.Tensor,
        exclude: tf.Tensor,
        diversity: tf.Tensor,
        filters: Mapping[str, tf.Tensor] | None = None,
        **given: tf.Tensor,
    ) -> Tensors:
        users, exclude, diversity = self._wishes(history, exclude, diversity, **given)
        return self._answered(users, of_any_width(self._items.indices(exclude)), diversity, dict(filters or {}))

    def _answer(self, users: UserInputs, exclude: tf.Tensor, diversity: tf.Tensor, filters: dict[str, tf.Tensor]) -> Tensors:
        """The answer to users with exclusions int32 [B, any], λ [B] and filter inputs, if there are any."""
        restrictions = None
        if filters:
            restrictions = self.filter_inputs.encode(filters, tf.shape(users.history)[0])  # type: ignore[union-attr]
        return self._as_strings(self._chosen(users, exclude, diversity, restrictions))

    def _item_answers(self, *inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Item indices, scores and interests [B, n] of the inputs of ``recommend``, by name, and n."""
        *asked, n = inputs
        given = dict(zip(sorted(self._recommend_specs()), asked, strict=True))
        places = tf.fill([tf.shape(given["history"])[0]], n)
        users, exclude, diversity = self._wishes(**given)
        found = self._chosen(users, self._items.indices(exclude), diversity, Restrictions(None, places))
        return found.items, found.scores, found.interests

    def _wishes(
        self, history: tf.Tensor, exclude: tf.Tensor, diversity: tf.Tensor, **given: tf.Tensor
    ) -> tuple[UserInputs, tf.Tensor, tf.Tensor]:
        """Inputs of ``recommend``, checked: users, exclusions string [B, E] and λ [B]."""
        users = self._users(require_columns(history, "history", self.history_length), given)
        rows = tf.shape(users.history)[0]
        exclude = require_rows(require_columns(exclude, "exclude", most=self._most_exclusions), "exclude", rows)
        return users, exclude, require_rows(require_vector(diversity, "diversity"), "diversity", rows)

    def _recommend_examples(self, examples: tf.Tensor) -> Tensors:
        parsed = tf.io.parse_example(
            require_vector(examples, "examples"),
            {
                "history": tf.io.RaggedFeature(tf.string),
                "exclude": tf.io.RaggedFeature(tf.string),
                "diversity": tf.io.FixedLenFeature([], tf.float32, default_value=0.0),
                **({} if self.filter_inputs is None else self.filter_inputs.example_features()),
                **self._timestamps.example_features(),
                **self.profile_inputs.example_features(),
            },
        )
        history, exclude = parsed["history"], parsed["exclude"]
        named = history != ""
        times = {name: self._newest(values, named, 0.0) for name, values in self._timestamps.from_example(parsed).items()}
        users = self._users(self._newest(history, named, ""), {**times, **self.profile_inputs.from_example(parsed)})
        lengths = require_at_most(exclude.row_lengths(), self._most_exclusions, "exclude")
        exclude = tf.RaggedTensor.from_row_lengths(self._items.indices(exclude.flat_values), lengths, validate=False)
        filters = {} if self.filter_inputs is None else self.filter_inputs.from_example(parsed)
        return self._answered(users, exclude.to_tensor(PADDING_INDEX), parsed["diversity"], filters)

    def _user_interests(self, history: tf.Tensor, **given: tf.Tensor) -> Tensors:
        users = self._users(require_columns(history, "history", self.history_length), given)
        interests, active = self._retrieval.user_interests(users)
        active = active & _has_known_item(users.history)[:, None]
        return {
            "interests": tf.where(active[:, :, None], interests, 0.0),
            "count": tf.reduce_sum(tf.cast(active, tf.int32), axis=1),
        }

    def _explain_interests(self, history: tf.Tensor, exclude: tf.Tensor, **given: tf.Tensor) -> Tensors:
        users = self._users(require_columns(history, "history", self.history_length), given)
        rows = tf.shape(users.history)[0]
        exclude = require_rows(require_columns(exclude, "exclude", most=self._most_exclusions), "exclude", rows)
        restrictions = None if self.filter_inputs is None else self.filter_inputs.encode(given, rows)
        places = None if restrictions is None else restrictions.num_results
        n = self._places_of_batch(places)
        allowed = None if restrictions is None else restrictions.allowed
        excluded = self._excluded(users.history, self._items.indices(exclude))
        explained = self._explained.explain(users, n, excluded, allowed, places)  # type: ignore[union-attr]
        return {
            "weights": explained.weights,
            "item_ids": self._items.identifiers(explained.items),
            "scores": explained.scores,
            "count": tf.reduce_sum(tf.cast(explained.active, tf.int32), axis=1),
        }

    def _rank(self, history: tf.Tensor, candidates: tf.Tensor, **given: tf.Tensor) -> Tensors:
        score, known = self._source.score, (self._items, self.profile_inputs)
        return rank_candidates_by_id(score, self.history_length, *known, history=history, candidates=candidates, given=given)

    def _similar_items(self, item_ids: tf.Tensor) -> Tensors:
        items = self._items.indices(require_vector(item_ids, "item_ids"))
        if self._has_gone_items:
            items = tf.where(items < self._candidate_rows, items, UNKNOWN_INDEX)
        neighbours = self._source.similar(items, self._export.num_results)
        return {"item_ids": self._items.identifiers(neighbours.items), "scores": neighbours.scores}

    # Their common part

    def _users(self, history: tf.Tensor, given: Mapping[str, tf.Tensor]) -> UserInputs:
        """What the model reads of the users with histories string [B, L] and these profile inputs and timestamps."""
        rows = tf.shape(history)[0]
        return UserInputs(self._items.indices(history), self.profile_inputs.encode(given, rows), self._timestamps.encode(given, rows))

    def _newest(self, values: tf.RaggedTensor, kept: tf.RaggedTensor, padding: str | float) -> tf.Tensor:
        """[B, L]: the last L of the ``values`` [B, (items)] that are ``kept``, padded on the right."""
        newest = tf.ragged.boolean_mask(values, kept)[:, -self.history_length :]
        return newest.to_tensor(padding, shape=[None, self.history_length])

    def _as_strings(self, chosen: Candidates) -> Tensors:
        return {"item_ids": self._items.identifiers(chosen.items), "scores": chosen.scores, "interests": chosen.interests}

    def _chosen(
        self,
        users: UserInputs,
        exclude: tf.Tensor | None = None,
        diversity: tf.Tensor | None = None,
        restrictions: Restrictions | None = None,
    ) -> Candidates:
        """The answer for users, exclusions int32 [B, E], λ [B] and restrictions, all but the first optional."""
        chooses = diversity is not None and self._categories is not None
        places = None if restrictions is None else restrictions.num_results
        allowed = None if restrictions is None else restrictions.allowed
        n = self._places_of_batch(places)
        excluded = self._excluded(users.history, exclude)
        most_excluded = 0 if excluded is None else most_distinct_items(excluded)
        pool = self._pool_size(n, diversity)
        k = tf.minimum(pool + most_excluded, self._num_items)
        competing = None if places is None else places * (self.results_per_interest // self._export.num_results)
        found = self._source.candidates(users, k, excluded, diversity if chooses else None, allowed=allowed, places=competing)
        found = self._cold_start.replace(found, ~_has_known_item(users.history), allowed)
        if chooses:
            # Every row chooses among its own best candidates, however many its neighbours in the batch exclude or ask for.
            found = select(found, pool, excluded)
            if places is not None and diversity is not None:
                found = first_of_each(found, tf.where(diversity > 0.0, places * self._export.diversity_pool, places))
            excluded = None
        return first_of_each(select(found, n, excluded, diversity, self._categories), places)

    def _excluded(self, history: tf.Tensor, exclude: tf.Tensor | None) -> tf.Tensor | None:
        if self._export.leaves_out_history:
            own = history
        elif self._has_gone_items:
            # A model that scores a user's own items would answer with those that are gone, too.
            own = tf.where(history >= self._candidate_rows, history, PADDING_INDEX)
        else:
            return exclude
        return own if exclude is None else tf.concat([exclude, own], axis=1)

    def _places_of_batch(self, places: tf.Tensor | None) -> tf.Tensor | int:
        """The width of an answer to users who ask for so many ``places`` [B] each; None: the usual number."""
        return self._export.num_results if places is None else tf.reduce_max(tf.concat([places, [1]], axis=0))

    def _pool_size(self, n: tf.Tensor | int, diversity: tf.Tensor | None) -> tf.Tensor | int:
        """Candidates that compete for the n places: n, or more if any user of the batch asks for diversity."""
        if diversity is None or self._categories is None:
            return n
        return tf.where(tf.reduce_any(diversity > 0.0), n * self._export.diversity_pool, n)


def _has_known_item(history: tf.Tensor) -> tf.Tensor:
    return tf.reduce_any(history >= FIRST_INDEX, axis=1)  # [B]

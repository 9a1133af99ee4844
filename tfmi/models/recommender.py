"""What evaluation, indexing and export ask of a model: one of two shapes, and a third for a second stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeGuard, runtime_checkable

import tensorflow as tf

from tfmi.core.errors import ConfigError
from tfmi.data.dataset import Vocabulary


class UserInputs(NamedTuple):
    """What is known of a batch of users. Padding (0) and unknown items (1) may stand anywhere in ``history``.

    Attributes:
        history: int32 [B, L] item indices, oldest to newest.
        profile: Profile features: a feature's name to its indices or numbers, row by row; empty for models without profile.
        timestamps: float64 [B, L] seconds at which the items of ``history`` were seen; 0 where that is unknown, and at padding. None
            where no times are known at all; a recommender that does not request them ignores them.
    """

    history: tf.Tensor
    profile: Mapping[str, tf.Tensor] = {}
    timestamps: tf.Tensor | None = None

    @classmethod
    def of_batch(cls, batch: Mapping[str, Any]) -> UserInputs:
        """The users of a batch of ``tfmi.data.pipeline``, or of its specification."""
        return cls(batch["history"], batch.get("profile", {}), batch.get("timestamps"))


# Inputs beyond history and profile that a recommender may request: fields of ``UserInputs`` that are None where nobody needs them.
REQUESTABLE_INPUTS: tuple[str, ...] = ("timestamps",)


@runtime_checkable
class VectorRecommender(Protocol):
    """A model whose score is the largest inner product between a user's interests and the item's vector.

    Attributes:
        history_length: L.
        num_rows: Rows of the item table, padding and unknown included.
        requested_inputs: Those of ``REQUESTABLE_INPUTS`` that ``user_interests`` needs. Evaluation gives them, and an export asks for
            them in its requests.
    """

    history_length: int
    num_rows: int
    requested_inputs: tuple[str, ...]

    def user_interests(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor]:
        """Interests float32 [B, K, d] and which are active, bool [B, K].

        Padding and unknown items, with their timestamps, are dropped before anything is computed.
        """

    def item_vectors(self) -> tf.Tensor:
        """Item vectors float32 [num_rows, d]; rows 0 and 1 (padding, unknown) hold no item.

        Evaluation and export ask for these before they ask for interests: a model whose item vectors are costly keeps them here, and its
        interests are then those of the weights of that moment.
        """


@runtime_checkable
class SharingRecommender(VectorRecommender, Protocol):
    """A ``VectorRecommender`` that knows how much each interest is used, so that candidates can be allotted to interests by it."""

    def interests_with_shares(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """``user_interests``, and each interest's share of what its user consumes next, float32 [B, K], at least 0.

        Raises:
            ConfigError: The model was not built to know shares.
        """


@runtime_checkable
class ExplainableRecommender(VectorRecommender, Protocol):
    """A ``VectorRecommender`` that can say which items of a history its interests come from."""

    def interests_with_weights(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """``user_interests``, and how much of each item of ``inputs.history`` went into each interest, float32 [B, K, L].

        Weights stand where their items stand; they are 0 at padding, at unknown items and for interests that are not active.
        """


class OwnItems(NamedTuple):
    """Items that have scores of their own: those of users' own histories, each at one of its places, and those that counts vote for.

    Attributes:
        items: int32 [B, M] item indices; 0 pads. Where a history's items are scored apart, all of them are here, scored or not.
        scores: float32 [B, M] on the scale of interests and item vectors; -inf at padding and at all but one place of each item.
        interests: int32 [B, M]: the interest to which each place is attributed.
        replaced: int32 [B, E], 0 pads: the items whose inner products do not count. Other items are found by both, at the better score.
            None: all of ``items``.
    """

    items: tf.Tensor
    scores: tf.Tensor
    interests: tf.Tensor
    replaced: tf.Tensor | None = None

    def without_inner_products(self) -> tf.Tensor:
        """int32 [B, E]: the items that a search may find in vain."""
        return self.items if self.replaced is None else self.replaced


@runtime_checkable
class RepeatingRecommender(VectorRecommender, Protocol):
    """A ``VectorRecommender`` that may score some items, such as a user's own, by a rule of their own instead of by inner products.

    Attributes:
        knows_repeats: Whether it does.
        apart: Which items it scores so, and how, for metadata.
    """

    knows_repeats: bool
    apart: Mapping[str, str]

    def interests_with_repeats(self, inputs: UserInputs) -> tuple[tf.Tensor, tf.Tensor, OwnItems]:
        """``user_interests``, and the items scored apart.

        Raises:
            ConfigError: The model was not built to know repeats.
        """


def knows_repeats(recommender: object) -> TypeGuard[RepeatingRecommender]:
    """Whether a recommender scores users' own items, or others, apart."""
    return isinstance(recommender, RepeatingRecommender) and recommender.knows_repeats


def check_allotment(recommender: object, quota_exponent: float | None) -> None:
    """Raise ``ConfigError`` if places are to be allotted (an exponent is given), and the recommender is not made for it."""
    if quota_exponent is None:
        return
    name = type(recommender).__name__
    if not isinstance(recommender, SharingRecommender):
        raise ConfigError(
            f"index.integration: {name} does not know how much each interest is used (interests_with_shares), so no places can be allotted "
            "by it; set it to competitive"
        )
    if knows_repeats(recommender):
        raise ConfigError(
            f"index.integration: 'allotted' gives places to interests, but {name} scores some items apart from them; set it to competitive"
        )


@runtime_checkable
class DirectRecommender(Protocol):
    """A model that ranks by itself, such as one that counts."""

    history_length: int
    num_rows: int

    def top_k(self, history: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """The exact best ``k`` items int32 [B, k] and scores float32 [B, k], best first; missing ones are 0 and -inf."""

    def similar_items(self, items: tf.Tensor, k: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """The best ``k`` neighbours int32 [B, k] and scores [B, k] of items int32 [B], themselves left out; missing ones 0 and -inf."""


Retriever = VectorRecommender | DirectRecommender


@runtime_checkable
class Reranker(Protocol):
    """A model that scores given candidates of users: the second stage behind a ``Retriever`` of either kind.

    Attributes:
        history_length: L.
        vocabulary: The items that it knows, by whose indices it takes histories and candidates.
        profile_features: Names of the profile's features that it reads.
    """

    history_length: int
    vocabulary: Vocabulary
    profile_features: Sequence[str]

    def score(self, history: tf.Tensor, profile: Mapping[str, tf.Tensor] | None, candidates: tf.Tensor) -> tf.Tensor:
        """Scores float32 [U, R], larger is better.

        Args:
            history: int32 [U, L] item indices; padding and unknown items may stand anywhere.
            profile: Profile features by name, U rows; may hold more than the model reads.
            candidates: int32 [U, R] item indices; padding and unknown items score -inf.
        """

    def describe(self) -> dict[str, Any]:
        """What kind of model it is, for reports."""

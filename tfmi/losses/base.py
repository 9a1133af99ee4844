"""What objectives and regularisers have in common."""

from __future__ import annotations

import abc
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import tensorflow as tf

from tfmi.core.registry import Registry
from tfmi.layers.base import MASKED_LOGIT, ConfiguredLayer, InterestExtractor, InterestOutput, Readout


class CatalogueTable(NamedTuple):
    """A catalogue's item vectors as rows of one tensor.

    Attributes:
        vectors: [first_row + N, d].
        first_row: The first real item's row; what stands before is no item.
        normalize: Whether scores take the vectors at unit length.
    """

    vectors: tf.Tensor
    first_row: int = 0
    normalize: bool = False

    def catalogue(self) -> tf.Tensor:
        """Item vectors [N, d] as scores take them."""
        rows = self.vectors[self.first_row :]
        return tf.math.l2_normalize(rows, axis=-1) if self.normalize else rows


class ItemSpace(Protocol):
    """The items as an objective sees them. Real items have indices ``first_index`` (2) to ``num_rows - 1``."""

    num_rows: int

    def embed(self, item_indices: tf.Tensor) -> tf.Tensor:
        """Item vectors [..., d] of int item indices [...], normalised if the model normalises."""

    def embed_catalogue(self) -> tf.Tensor:
        """Item vectors [N, d] of every real item in index order: row r is item r + 2."""

    def catalogue_table(self) -> CatalogueTable | None:
        """The same as rows of a table that exists already, for whoever goes over it in parts; None if vectors are computed."""


class Contrast(NamedTuple):
    """What a softmax loss compares: the target's logit, and all that stands against it.

    Attributes:
        positive: float32 [B].
        log_negatives: float32 [B], the log of the sum of exp(logit) over the negatives; ``MASKED_LOGIT`` or less where there are none.
        log_inclusion: The log of the share of the catalogue that is compared, where the logits are not corrected for it: it cancels
            between positive and negatives, but not with logits of another origin.
        negatives: Computes the logits of the negatives one by one, float32 [B, C] with ``MASKED_LOGIT`` or less where there is none, for
            weightings that ask for them; None where the objective does not compare with every item.
        own_loss: float32 [B], the objective's loss of each example where that is not the cross-entropy of ``positive`` and
            ``log_negatives``; see ``Objective.why_no_softmax``.
    """

    positive: tf.Tensor
    log_negatives: tf.Tensor
    log_inclusion: tf.Tensor | float = 0.0
    negatives: Callable[[], tf.Tensor] | None = None
    own_loss: tf.Tensor | None = None

    def cross_entropy(self) -> tf.Tensor:
        """float32 [B]: ``-log p`` with ``p = exp(positive) / (exp(positive) + sum of exp(negatives))``, or the objective's own loss."""
        if self.own_loss is not None:
            return self.own_loss
        return tf.nn.softplus(self.log_negatives - self.positive)

    def summed_over_interests(self, active: tf.Tensor) -> Contrast:
        """From a contrast of every interest, [B K], to one of every user, [B]: the mean of exp over the ``active`` ones, bool [B, K].

        Of the mean and the sum, which differ by a factor that cancels, the mean is on the scale of a single interest's scores, as logits of
        another origin are.
        """
        log_count = tf.math.log(tf.reduce_sum(tf.cast(active, tf.float32), axis=1))

        def averaged(logits: tf.Tensor) -> tf.Tensor:
            return tf.reduce_logsumexp(tf.where(active, tf.reshape(logits, tf.shape(active)), MASKED_LOGIT), axis=1) - log_count

        return Contrast(averaged(self.positive), averaged(self.log_negatives), self.log_inclusion)


class Objective(ConfiguredLayer, abc.ABC):
    """Base of the losses that pull the target up and others down.

    Subclasses implement ``contrast(queries, targets, items, left_out=None, training=None)``:

    - ``queries``: float [B, d], or [B, K, d] for max-sim (see ``Readout``), already divided by the temperature. Where a readout sums
      over interests, each of them is an example, and B is that of all users' interests.
    - ``targets``: int32 [B] item indices.
    - ``items``: an ``ItemSpace``.
    - ``left_out``: int32 [B, E] items that are no negatives of an example; 0 pads, items may repeat. None leaves out nothing but the
      target.

    and return a ``Contrast``, of which a ``Weighting`` makes the loss of each example; the model takes the weighted batch mean. Declaring
    a further argument ``context`` asks for the ``BatchContext``.
    """

    # Whether the K interests of a user, as K examples, are compared with the same items: see ``Readout.SUMS_INTERESTS``.
    COMPARES_ALL_ALIKE: ClassVar[bool] = True
    # Whether every item is compared, so that contrasts can tell the ``negatives`` one by one.
    COMPARES_EVERY_ITEM: ClassVar[bool] = False

    @property
    def why_no_softmax(self) -> str | None:
        """None where the loss is the cross-entropy of the contrast, which others may rearrange; otherwise what else it is."""
        return None

    @abc.abstractmethod
    def contrast(
        self, queries: tf.Tensor, targets: tf.Tensor, items: ItemSpace, left_out: tf.Tensor | None = None, training: bool | None = None
    ) -> Contrast:
        """What the loss compares; see the class."""

    def call(self, queries: tf.Tensor, targets: tf.Tensor, items: ItemSpace, training: bool | None = None, **given: Any) -> Contrast:
        """``contrast`` as Keras calls it."""
        return self.contrast(queries, targets, items, training=training, **given)

    def losses(self, queries: tf.Tensor, targets: tf.Tensor, items: ItemSpace, training: bool | None = None, **given: Any) -> tf.Tensor:
        """float32 [B], the cross-entropy of each example; arguments as for ``contrast``."""
        contrast: Contrast = self(queries, targets, items, training, **given)
        return contrast.cross_entropy()

    @classmethod
    def wants_context(cls) -> bool:
        """Whether ``contrast`` declares ``context``."""
        return "context" in inspect.signature(cls.contrast).parameters


class Weighting(ConfiguredLayer):
    """Base of what makes each example's loss of its ``Contrast``: ``call(contrast)`` returns float32 [B]."""

    def __init__(self, **kwargs: Any) -> None:
        # A contrast is float32 under any policy, and stays it.
        super().__init__(**{"autocast": False, **kwargs})

    def check(self, objective: Objective, readout: Readout) -> None:
        """Raise ``ValueError`` with the reason if this weighting cannot work with the contrasts that come of the two."""


class BatchContext(NamedTuple):
    """What a regulariser, or an objective that asks for it, may look at.

    Attributes:
        output: The extractor's output.
        history: [B, L, d] item vectors of the history, before dropout; 0 at padding.
        history_indices: int32 [B, L].
        mask: bool [B, L].
        target: [B, d] item vector of the target.
        interests: [B, K, d] the vectors used for scoring (after the user tower and normalisation).
        unpropagated: [B, L, d] ``history`` before message passing; None where the item tower does not propagate.
    """

    output: InterestOutput
    history: tf.Tensor
    history_indices: tf.Tensor
    mask: tf.Tensor
    target: tf.Tensor
    interests: tf.Tensor
    unpropagated: tf.Tensor | None = None


class Regularizer(ConfiguredLayer):
    """Base of the auxiliary losses. ``call(context: BatchContext, training=None)`` returns a float32 scalar, weight included."""

    def check(self, extractor: InterestExtractor) -> None:
        """Raise ``ValueError`` with the reason if this regulariser would have no effect on, or cannot work with, ``extractor``."""


OBJECTIVES: Registry[Objective] = Registry("objective", "tfmi.losses")
WEIGHTINGS: Registry[Weighting] = Registry("weighting", "tfmi.losses")
REGULARIZERS: Registry[Regularizer] = Registry("regularizer", "tfmi.losses")


@tf.custom_gradient
def log_sum_exp(logits: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """float32 [B]: the log of each row's sum of exp, of finite ``logits`` float32 [B, C].

    From one softmax, which is one kernel where ``tf.reduce_logsumexp`` takes a pass for each operation, and which the gradient needs in any
    case: with m the largest logit of a row, ``log sum exp = m - log softmax(m)``.
    """
    shares = tf.nn.softmax(logits)
    largest = tf.reduce_max(logits, axis=1) - tf.math.log(tf.reduce_max(shares, axis=1))
    return largest, lambda gradient: gradient[:, None] * shares


def candidate_logits(queries: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    """float32 [B, C] scores of shared candidates [C, d] for queries [B, d], or for [B, K, d] by each candidate's best interest."""
    if queries.shape.rank == 2:
        return tf.cast(tf.matmul(queries, candidates, transpose_b=True), tf.float32)
    scores = tf.einsum("bkd,cd->bkc", queries, candidates)
    return tf.cast(tf.reduce_max(scores, axis=1), tf.float32)


def target_logits(queries: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """float32 [B] score of each example's own target [B, d], by its best interest where queries are [B, K, d]."""
    if queries.shape.rank == 2:
        return tf.cast(tf.reduce_sum(queries * targets, axis=-1), tf.float32)
    return tf.cast(tf.reduce_max(tf.einsum("bkd,bd->bk", queries, targets), axis=1), tf.float32)


def require_softmax(objective: Objective, label: str) -> None:
    """Raise ``ValueError`` if what ``label`` names rearranges a softmax, and the objective's loss is none."""
    if objective.why_no_softmax is not None:
        raise ValueError(f"{label} works on a softmax, but {type(objective).__name__} {objective.why_no_softmax}; take full_softmax")


def require_summable(readout: Readout, objective: Objective) -> None:
    """Raise ``ValueError`` if the readout sums over interests, and the objective does not compare all of them alike."""
    if readout.SUMS_INTERESTS:
        require_softmax(objective, f"{type(readout).__name__}, which sums over interests,")
    if readout.SUMS_INTERESTS and (objective.wants_context() or not objective.COMPARES_ALL_ALIKE):
        able = [n for n in OBJECTIVES.names() if OBJECTIVES.get(n).COMPARES_ALL_ALIKE and not OBJECTIVES.get(n).wants_context()]
        raise ValueError(
            f"{type(readout).__name__} compares every interest for itself, and {type(objective).__name__} would compare "
            f"them with different items; take one of {', '.join(able)}, or another readout"
        )

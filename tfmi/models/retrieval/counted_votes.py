"""Votes: what a heuristic model knows of a user's items, added to the scores of a trained one.

Shapes: B users, L history length, C candidates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from tfmi.core.errors import ConfigError
from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX, Sequences
from tfmi.layers.base import ConfiguredLayer, num_real_items
from tfmi.layers.common.arguments import require_above, require_at_least
from tfmi.models.heuristics.heuristic import HEURISTICS, HeuristicModel, newest_first, occurs_before
from tfmi.models.heuristics.neighbours import NeighbourModel

_FOLDS = 4
_NUM_FEATURES = 4
_HIDDEN = 16


class Votes(NamedTuple):
    """Who is voted for; C is 0 where votes weigh nothing.

    Attributes:
        items: int32 [B, C], distinct, most votes first; 0 pads.
        votes: float32 [B, C], above 0 but where they are learned; 0 at padding.
        own_votes: float32 [B, L], what is added to the score that a repetition gives an item of the history; None adds nothing.
    """

    items: tf.Tensor
    votes: tf.Tensor
    own_votes: tf.Tensor | None = None


def fold_of(items: tf.Tensor | np.ndarray) -> tf.Tensor:
    """int32: in which of the parts that are counted apart a sequence is, by its oldest item."""
    # Neighbouring indices, which are of items about as frequent, come into different parts.
    return tf.cast(tf.bitwise.right_shift(tf.cast(items, tf.uint32) * tf.constant(2654435761, tf.uint32), 16), tf.int32) % _FOLDS


class CountedVotes(ConfiguredLayer):
    r"""The best candidates of a heuristic model, each with its share of the best one's score::

        votes(i) = weight (c_i / max over j of c_j)^exponent,  c the heuristic model's scores above 0          [B, C]
        score(i) = max over k of v_k . e_i + votes(i)

    A model of d dimensions smooths over what it has seen; counts know single pairs, whatever their number. Both err, on different users:
    their sum is better than either. The votes are added when a model answers, in validation, evaluation and export alike, and not while it
    learns: every training target has been counted beside its own history, so that training would learn to trust the counts alone.
    ``weight`` is on the scale of scores (at most 1 where ``normalize`` makes them cosines) and is to be chosen on validation users:
    "auto" leaves that to whoever trains (``tfmi.evaluation.votes``), and is 0 until then.

    With ``learned`` the model learns beside its votes how much they weigh for each user, so that nothing is left to choose::

        votes(i) = weight(u) (c_i / max_j c_j)^p + offset(u)           an item that is not in the history
        votes(h) = own_weight(u) (c_h / max_j c_j)^q                   an item h of it, added to the score that a repetition gives it
        weight, offset, own_weight: tanh([log(1 + n); share of distinct items; log(1 + max_j c_j); log(1 + candidates)] W1 + b1) W2 + b2

    p and q start at ``exponent``, weight(u) at ``weight``, the others at 0. So that no target is counted with its own history, training
    asks counts that its sequence is not in: the sequences are dealt into four parts by their oldest item, and those of a part see what the
    other three say. Whoever asks later asks all counts. Sequences that are longer than the window and its target, whose oldest item a
    history does not tell, are in none of the parts.

    What is served knows more than that, all counts, and answers later, when users may come back more often than they did. Two numbers for
    that are to be chosen on validation users: when the model answers, ``answer_weight`` multiplies the learned votes of new items, and
    ``own_offset`` is added to those of the history's.

    Source: no paper; this project's own. The counts are item-KNN's by default (Sarwar et al., WWW 2001).

    Args:
        heuristic: The heuristic model, ``{"name": ..., parameter: value, ...}``; None takes item-KNN at a power of 0.25.
        weight: Of the votes, above 0; where it is learned, at the start. "auto" holds it in a variable, which checkpoints and exports
            keep; where it is learned, it starts at 1.
        exponent: Above 0; below 1 candidates that are far behind the best one are heard, too.
        candidates: C; items beyond the best so many get no votes.
        learned: Whether votes are part of training.
        answer_weight: Above 0; of the learned votes, when the model answers.
        own_offset: Added to the learned votes for the history's items, when the model answers.
        history_length: L, of which the heuristic model looks at all.

    Raises:
        ConfigError: ``heuristic`` is none.
        ValueError: Another argument is out of its range.
    """

    def __init__(
        self,
        heuristic: dict[str, Any] | None = None,
        *,
        weight: float | Literal["auto"] = "auto",
        exponent: float = 0.5,
        candidates: int = 1000,
        learned: bool = False,
        answer_weight: float = 1.0,
        own_offset: float = 0.0,
        history_length: int = 50,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_above(0, exponent=exponent, answer_weight=answer_weight)
        if weight != "auto":
            require_above(0, weight=weight)
        require_at_least(1, candidates=candidates, history_length=history_length)
        spec = heuristic or {"name": "item_knn", "power": 0.25}
        # As text: of an attribute Keras would wrap the dictionaries, and the caller's with them.
        self._described = json.dumps(spec)
        self.counts = HEURISTICS.build(spec, "model.votes.heuristic")
        self.chosen = tf.Variable(0.0, trainable=False, name="chosen_weight") if weight == "auto" and not learned else None
        if learned:
            self._make_weights(1.0 if weight == "auto" else weight)

    def _make_weights(self, start: float) -> None:
        def weight(name: str, shape: list[int], initializer: Any) -> tf.Variable:
            return self.add_weight(name, shape, initializer=initializer, experimental_autocast=False)

        self.kernel = weight("kernel", [_NUM_FEATURES, _HIDDEN], "glorot_uniform")
        self.bias = weight("bias", [_HIDDEN], "zeros")
        self.output_kernel = weight("output_kernel", [_HIDDEN, 3], "zeros")
        self.output_bias = weight("output_bias", [3], lambda shape, dtype=None: tf.constant([start, 0.0, 0.0], dtype))
        self.log_exponents = weight("log_exponents", [2], tf.keras.initializers.Constant(float(np.log(self.exponent))))

    @property
    def heuristic(self) -> dict[str, Any]:
        """The heuristic model's description, plain."""
        described: dict[str, Any] = json.loads(self._described)
        return described

    def adapt(self, sequences: Sequences, num_rows: int) -> None:
        """Count the training sequences; see ``AdaptsToSequences``."""
        self.counts.fit(sequences, num_rows, self.history_length)
        if not self.learned:
            return
        lengths = sequences.lengths()
        usable = (lengths > 0) & (lengths <= self.history_length + 1)
        oldest = sequences.items[np.minimum(sequences.offsets[:-1], len(sequences.items) - 1)]
        folds = np.where(usable, fold_of(oldest).numpy(), -1)
        others = [sequences.select((folds >= 0) & (folds != fold)) for fold in range(_FOLDS)]
        # Only training asks them: past Keras' attributes, which checkpoints and exports hold.
        self.__dict__["_others"] = tuple(self._counted(part, num_rows) for part in others)

    def _counted(self, sequences: Sequences, num_rows: int) -> HeuristicModel:
        counts = HEURISTICS.build(self.heuristic, "model.votes.heuristic")
        counts.fit(sequences, num_rows, self.history_length)
        return counts

    def take(self, tables: Mapping[str, np.ndarray], num_rows: int) -> None:
        """Hold stored counts instead of counting, see ``HeuristicModel.take_tables``, and the weight ``chosen`` if it was stored with them.

        Raises:
            ConfigError: The heuristic model cannot be moved without the sequences that it has counted.
        """
        if not self.counts.TABLES:
            raise ConfigError(
                f"model.votes: what {self.counts.name} has counted in the sequences that it was trained on cannot be moved without them. "
                "Train it again on the newer data"
            )
        self.counts.take_tables(tables, num_rows, self.history_length)
        if self.chosen is not None:
            self.chosen.assign(tables["chosen"])

    def of_other_items(self, rows: np.ndarray, candidate_rows: int) -> CountedVotes:
        """The same votes where the catalogue has changed; see ``NeighbourModel.tables_of_other_items``. New items get none."""
        assert isinstance(self.counts, NeighbourModel)  # noqa: S101 - ``take`` has refused others
        moved = CountedVotes.from_config(self.get_config())
        chosen = {} if self.chosen is None else {"chosen": self.chosen.numpy()}
        moved.take(self.counts.tables_of_other_items(rows, candidate_rows) | chosen, len(rows))
        return moved

    def call(self, history: tf.Tensor, training: bool | None = None) -> Votes:
        """Vote.

        Args:
            history: int32 [B, L] item indices, oldest to newest; 0 pads.
            training: Where votes are learned, whether to ask counts that have not seen the history's sequence.

        Raises:
            ConfigError: Votes are to be learned by a model that has not counted training sequences.
        """
        if self.learned:
            return self._learned(history, bool(training))
        chosen = self.chosen
        if chosen is None:
            return self._vote(history, float(self.weight))
        # A weight of 0, as before the choice, costs nothing.
        nobody = tf.zeros([tf.shape(history)[0], 0])
        items, votes = tf.cond(chosen > 0.0, lambda: self._vote(history, chosen)[:2], lambda: (tf.cast(nobody, history.dtype), nobody))
        return Votes(items, votes)

    def _vote(self, history: tf.Tensor, weight: float | tf.Tensor) -> Votes:
        items, shares, _ = _shares(*self.counts.top_k(history, self.candidates))
        return Votes(items, tf.where(shares > 0.0, weight * shares**self.exponent, 0.0))

    def _learned(self, history: tf.Tensor, training: bool) -> Votes:
        items, shares, best = _shares(*(self._unseen(history) if training else self.counts.top_k(history, self.candidates)))
        votes, own_votes = self._learned_votes(history, items, shares, best)
        if training:
            return Votes(items, votes, own_votes)
        return Votes(items, votes * self.answer_weight, own_votes + self.own_offset)

    def _unseen(self, history: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """As ``top_k``, of the counts without the histories' part."""
        others: tuple[HeuristicModel, ...] | None = self.__dict__.get("_others")
        if others is None:
            raise ConfigError("model.votes.learned: there are no training sequences to learn votes from")
        folds = fold_of(history[:, 0])
        rows = [tf.where(folds == fold)[:, 0] for fold in range(_FOLDS)]
        found = [counts.top_k(tf.gather(history, where), self.candidates) for counts, where in zip(others, rows, strict=True)]
        back = tf.argsort(tf.concat(rows, axis=0))
        items, scores = (tf.gather(tf.concat(parts, axis=0), back) for parts in zip(*found, strict=True))
        return items, scores

    def _learned_votes(self, history: tf.Tensor, items: tf.Tensor, shares: tf.Tensor, best: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Votes [B, C] and own votes [B, L], from shares [B, C], 0 at padding, and the best candidates' scores [B]."""
        turned, _, real = newest_first(history, self.history_length)
        length = tf.cast(num_real_items(real), tf.float32)
        distinct = tf.cast(num_real_items(real & ~occurs_before(turned)), tf.float32)
        voted = tf.cast(num_real_items(shares > 0.0), tf.float32)
        known = tf.stack(
            [tf.math.log1p(length), tf.math.divide_no_nan(distinct, length), tf.math.log1p(tf.maximum(best, 0.0)), tf.math.log1p(voted)],
            axis=1,
        )
        hidden = tf.tanh(tf.matmul(known, self.kernel) + self.bias)
        weight, offset, own_weight = tf.split(tf.matmul(hidden, self.output_kernel) + self.output_bias, 3, axis=1)  # [B, 1] each
        exponents = tf.exp(self.log_exponents)
        votes = tf.where(shares > 0.0, weight * _power(shares, exponents[0]) + offset, 0.0)
        beside = history[:, :, None] == items[:, None, :]  # [B, L, C]
        own_shares = tf.reduce_max(tf.where(beside & (history >= FIRST_INDEX)[:, :, None], shares[:, None, :], 0.0), axis=2)
        return votes, own_weight * _power(own_shares, exponents[1])


def _power(shares: tf.Tensor, exponent: tf.Tensor) -> tf.Tensor:
    """``shares ** exponent``, 0 at 0, without the gradient's infinity there."""
    above = shares > 0.0
    return tf.where(above, tf.where(above, shares, 1.0) ** exponent, 0.0)


def _shares(items: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Candidates [B, C] with scores above 0, best first, their shares [B, C] of the best one's score, 0 at padding, and that score [B]."""
    counted = scores > 0.0
    shares = tf.where(counted, tf.math.divide_no_nan(scores, scores[:, :1]), 0.0)
    return tf.where(counted, items, PADDING_INDEX), shares, scores[:, 0]

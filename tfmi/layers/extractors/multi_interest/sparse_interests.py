"""SINE's sparse interests: a few concepts out of a large pool, and one interest for each."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import tensorflow as tf

from tfmi.layers.base import EXTRACTORS, InterestExtractor, InterestOutput, masked_softmax, zero_padding
from tfmi.layers.common.arguments import require_above, require_at_least, require_choice
from tfmi.layers.common.positions import PositionOrder, add_positions
from tfmi.layers.common.slots import num_slots

# Of the layer normalisations. What they normalise may be small (gated prototypes, products of probabilities): a larger one would decide.
_EPSILON = 1e-12


@EXTRACTORS.register("sparse_interests")
class SparseInterests(InterestExtractor):
    r"""Activates the K concept prototypes nearest to a user and builds one interest vector for each.

    With the items X, the pool of prototypes C and layer normalisations LN1 to LN4 of their own gains and biases::

        z = sum over t of softmax_t(tanh(X W1) w2)_t X_t                    [B, d]     what the user is about
        s = z C^T;  the K prototypes of the largest s are activated         [B, P]
        C_u = C[activated] * sigmoid(s[activated])                          [B, K, d]  the gate carries the gradient of the choice
        P_k|t = softmax over k of LN1(X_t W3) . LN2(C_u,k)                  [B, K, L]  intention assignment
        P_t|k = softmax over t of tanh((X + P) W_k,1) w_k,2                 [B, K, L]  attention weighting
        interest k = LN3(sum over t of P_k|t P_t|k X_t)                     [B, K, d]

    What the user is after right now is predicted from the history rewritten as a sequence of intentions::

        Y_t = sum over k of P_k|t C_u,k                                     [B, L, d]
        current intention = LN4(sum over t of softmax_t(tanh(Y W5) w6)_t Y_t)     [B, d]

    The readout ``predicted_intention`` mixes the interests by it; other readouts leave W5, w6 and LN4 untrained, and W1 and w2 as well:
    LN2 takes the gate's scale away again, so that the choice of prototypes learns by way of the intentions.

    The sum of an interest is taken with weights rescaled to a total of 1, in log space: LN3 removes the scale anyway, and an
    interest to which hardly anything is assigned keeps its direction instead of vanishing in rounding. Ties in s go to the lowest
    prototype. All K interests are active. An empty history gives zeros.

    ``weights`` are ``P_k|t P_t|k``, which sum to 1 over neither axis. ``internals`` holds

    - ``"prototypes"`` [P, d] and ``"prototype_indices"`` int32 [B, K], the activated ones, the nearest first;
    - ``"assignment"`` [B, K, L], P_k|t: sums to 1 over the interests of each item; ``"attention"`` [B, K, L], P_t|k: sums to 1 over
      the items of each interest; both 0 at padding;
    - ``"current_intention"`` [B, d].

    Paper: Tan et al., "Sparse-Interest Network for Sequential Recommendation", WSDM 2021 (SINE), section 3. The authors' published code
    differs from the paper's equations in many places; this is the paper, and its results cannot be tied to either exactly.

    Example:
        >>> output = SparseInterests(num_interests=2, num_prototypes=9)(tf.ones([1, 5, 8]), tf.ones([1, 5], tf.bool))
        >>> output.interests.shape
        TensorShape([1, 2, 8])

    Args:
        num_interests: K, the number of activated prototypes, at most ``num_prototypes``.
        num_prototypes: P, the size of the pool.
        assignment: How P_k|t compares an item with a concept: "layernorm" as above, "cosine" by
            ``cos(X_t, C[activated]_k) / assign_temperature``, of the prototypes before the gate and without W3, as the authors' code.
        assign_temperature: Of the "cosine" assignment.
        small_initial_gains: Start the gains of LN1 and LN2 at ``d^-1/4``. With 1, the assignment's logits are of the order of d for
            similar vectors, so that its softmax starts near a hard choice, through which hardly any gradient passes.
        positions: What P counts from: "oldest", the oldest item of the window, as the paper; "newest", so that one position always
            means the same age; "none" leaves P out and makes the history a set.
        tie_w3: Let W5 be W3: the paper gives both the same symbol.
        residual_items: Add X to Y, as the authors' code.
        max_length: Longest history that will ever be given; None takes the length of the first input.

    Raises:
        ValueError: An argument out of its range, an option of what the assignment does not have, or a history longer than ``max_length``.
    """

    INTERNALS: ClassVar[tuple[str, ...]] = ("prototypes", "prototype_indices", "assignment", "attention", "current_intention")

    def __init__(
        self,
        num_interests: int = 4,
        *,
        num_prototypes: int = 500,
        assignment: Literal["layernorm", "cosine"] = "layernorm",
        assign_temperature: float = 0.07,
        small_initial_gains: bool = False,
        positions: PositionOrder = "oldest",
        tie_w3: bool = False,
        residual_items: bool = False,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least(1, num_interests=num_interests, max_length=max_length)
        if not num_prototypes >= num_interests:
            raise ValueError(f"num_prototypes: expected at least num_interests, {num_interests}, to choose from, got {num_prototypes}")
        require_choice(("layernorm", "cosine"), assignment=assignment)
        require_above(0, assign_temperature=assign_temperature)
        require_choice(("oldest", "newest", "none"), positions=positions)
        if assignment == "cosine" and tie_w3:
            raise ValueError("tie_w3: assignment 'cosine' has no W3 to share")
        if assignment == "cosine" and small_initial_gains:
            raise ValueError("small_initial_gains: assignment 'cosine' has no LN1 and LN2 to start")

    @property
    def has_item_kernel(self) -> bool:
        """Whether there are W3, LN1 and LN2."""
        return self.assignment == "layernorm"

    def build(self, input_shape: Any) -> None:
        """Create C [P, d]; W1, W3, W5 [d, d]; w2, w6 [d, 1]; the W_k,1 side by side [d, K d]; w_k,2 [K, d]; P [max_length, d]; LN1 to 4."""
        dimension = int(input_shape[-1])

        def weight(name: str, *shape: int, **arguments: Any) -> tf.Variable:
            initializer = tf.keras.initializers.RandomNormal(stddev=dimension**-0.5)  # an instance each: one repeats its values
            return self.add_weight(name, shape, initializer=initializer, **arguments)

        def norm(name: str, rank: int, gain: float = 1.0, center: bool = True) -> tf.keras.layers.LayerNormalization:
            gains = tf.keras.initializers.Constant(gain)
            layer = tf.keras.layers.LayerNormalization(epsilon=_EPSILON, center=center, gamma_initializer=gains, dtype="float32", name=name)
            layer.build([*[None] * (rank - 1), dimension])
            return layer

        # The choice of prototypes is made in float32 whatever the policy, and regularisers need all of their digits.
        self.prototypes = weight("prototypes", self.num_prototypes, dimension, experimental_autocast=False)
        self.activation_kernel = weight("activation_kernel", dimension, dimension)
        self.activation_vector = weight("activation_vector", dimension, 1)
        self.slot_kernels = weight("slot_kernels", dimension, self.num_interests * dimension)
        self.slot_vectors = weight("slot_vectors", self.num_interests, dimension)
        if self.positions != "none":
            self.position_embeddings = weight("position_embeddings", num_slots(input_shape, self.max_length), dimension)
        if self.has_item_kernel:
            gain = dimension**-0.25 if self.small_initial_gains else 1.0
            self.item_kernel = weight("item_kernel", dimension, dimension)
            self.item_norm = norm("item_norm", 3, gain)
            self.concept_norm = norm("concept_norm", 3, gain, center=False)  # a bias would cancel in the softmax over the concepts
        if not self.tie_w3:
            self.intention_kernel = weight("intention_kernel", dimension, dimension)
        self.intention_vector = weight("intention_vector", dimension, 1)
        self.interest_norm, self.intention_norm = norm("interest_norm", 3), norm("intention_norm", 2)
        super().build(input_shape)

    def call(self, history: tf.Tensor, mask: tf.Tensor, training: bool | None = None) -> InterestOutput:
        """Turn a history into the interests of its concepts.

        Args:
            history: [B, L, d] item vectors.
            mask: bool [B, L], True at real items.
            training: Changes nothing here.

        Returns:
            Interests [B, K, d]; 0 for an empty history.
        """
        history = zero_padding(history, mask)
        items = tf.cast(history, tf.float32)
        indices, prototypes, concepts = self._activate(history, mask)  # [B, K], [B, K, d], [B, K, d]
        log_assignment = self._log_assignment(history, prototypes, concepts)  # [B, K, L]
        attention_logits = self._attention_logits(history, mask)  # [B, K, L]

        shares = masked_softmax(log_assignment + attention_logits, mask[:, None, :])  # [B, K, L]
        interests = self.interest_norm(tf.matmul(shares, items))  # [B, K, d]
        interests = tf.where(tf.reduce_any(mask, axis=1)[:, None, None], interests, 0.0)

        assignment = tf.where(mask[:, None, :], tf.exp(log_assignment), 0.0)  # [B, K, L]
        attention = masked_softmax(attention_logits, mask[:, None, :])  # [B, K, L]
        internals = {
            "prototypes": tf.convert_to_tensor(self.prototypes),
            "prototype_indices": indices,
            "assignment": assignment,
            "attention": attention,
            "current_intention": self._current_intention(items, mask, assignment, concepts),
        }
        active = tf.ones([tf.shape(mask)[0], self.num_interests], tf.bool)
        return InterestOutput(tf.cast(interests, self.compute_dtype), active, assignment * attention, internals)

    def _activate(self, history: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The prototypes activated: their indices int32 [B, K], themselves [B, K, d], and gated [B, K, d]."""
        user = _attend(history, mask, self.activation_kernel, self.activation_vector)  # [B, d]
        scores = tf.matmul(user, self.prototypes, transpose_b=True)  # [B, P]
        best, indices = tf.math.top_k(scores, self.num_interests)  # [B, K]
        prototypes = tf.gather(self.prototypes, indices)  # [B, K, d]
        return indices, prototypes, prototypes * tf.sigmoid(best)[..., None]

    def _log_assignment(self, history: tf.Tensor, prototypes: tf.Tensor, concepts: tf.Tensor) -> tf.Tensor:
        """Logarithm of P_k|t, float32 [B, K, L]; of no meaning at padding."""
        if self.assignment == "cosine":
            keys, queries = (tf.math.l2_normalize(tf.cast(vectors, tf.float32), axis=-1) for vectors in (history, prototypes))
            queries /= self.assign_temperature
        else:
            keys, queries = self.item_norm(tf.tensordot(history, self.item_kernel, axes=1)), self.concept_norm(concepts)
        return tf.nn.log_softmax(tf.matmul(queries, keys, transpose_b=True), axis=1)

    def _attention_logits(self, history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Logits of P_t|k, float32 [B, K, L]."""
        if self.positions != "none":
            history = add_positions(history, mask, self.position_embeddings, self.positions)
        hidden = tf.tanh(tf.tensordot(history, self.slot_kernels, axes=1))  # [B, L, K d]
        hidden = tf.reshape(hidden, [-1, tf.shape(mask)[1], *self.slot_vectors.shape])  # [B, L, K, d]
        logits = tf.reduce_sum(hidden * self.slot_vectors, axis=-1)  # [B, L, K]
        return tf.cast(tf.linalg.matrix_transpose(logits), tf.float32)

    def _current_intention(self, items: tf.Tensor, mask: tf.Tensor, assignment: tf.Tensor, concepts: tf.Tensor) -> tf.Tensor:
        """What the user is after right now, float32 [B, d]."""
        intentions = tf.matmul(assignment, concepts, transpose_a=True)  # [B, L, d]; 0 at padding, as the assignment
        if self.residual_items:
            intentions += items
        kernel = self.item_kernel if self.tie_w3 else self.intention_kernel
        return self.intention_norm(_attend(intentions, mask, kernel, self.intention_vector))


def _attend(vectors: tf.Tensor, mask: tf.Tensor, kernel: tf.Variable, vector: tf.Variable) -> tf.Tensor:
    """float32 [B, d]: the mean of ``vectors`` [B, L, d] with weights ``softmax(tanh(vectors kernel) vector)`` over the True of ``mask``."""
    hidden = tf.tanh(tf.tensordot(tf.cast(vectors, kernel.dtype), kernel, axes=1))  # [B, L, d]
    weights = masked_softmax(tf.squeeze(tf.tensordot(hidden, vector, axes=1), axis=2), mask)  # [B, L]
    return tf.squeeze(tf.matmul(weights[:, None, :], tf.cast(vectors, tf.float32)), axis=1)

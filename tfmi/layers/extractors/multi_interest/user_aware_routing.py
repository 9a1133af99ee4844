"""UMI's user-aware interests: the profile weighs the history's items, and every interest gates the profile's fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from tfmi.layers.base import EXTRACTORS, InterestOutput, squash, zero_padding
from tfmi.layers.common.arguments import require_at_least, require_choice
from tfmi.layers.common.initializers import NearIdentity
from tfmi.layers.extractors.multi_interest.routing import Freeze, RandomStartRouting, route


@EXTRACTORS.register("user_aware_routing")
class UserAwareRouting(RandomStartRouting):
    r"""Routes the items that suit the user into K capsules, and joins each capsule with the fields of the profile that it selects.

    With ``e`` the history's items, ``p`` the profile, ``b`` the routing logits, which start as noise, and a matrix W[k] for every
    interest::

        g = sigmoid(w2 . relu(W1 [e; p] + b1) + b2)                        [B, L], item gate
        c = softmax of b over the interests, 0 at padding                  [B, K, L]
        v = squash(sum over l of c[:, l] g[l] W[k] e[l])                   [B, K, d]
        b = v . W[k] e      (all but the last iteration)
        f = sigmoid(W4 relu(W3 [p; v]))                                    [B, K, F], a gate for each field of the profile
        o = W6 relu(W5 [f * p; v])                                         [B, K, d], the interests

    The gate multiplies the couplings after their softmax: an item can be dropped from all interests. Gradients reach items, gate and
    W through the last sum only. All K interests are active, and the profile is part of them, so the user tower need not join it again
    (``user_tower.join_profile: false``).

    A field is one feature of the profile. Without a profile the item gate looks at the item alone and ``o = W6 relu(W5 v)``. An
    empty history gives ``v = 0`` and interests that come from the profile alone, 0 if nothing is known of the user.

    ``internals`` holds ``"routing"`` (c) and ``"logits"`` (those behind it) [B, K, L], ``"item_gate"`` (g, 0 at padding) [B, L],
    ``"capsules"`` (v) [B, K, d] and, with a profile, ``"field_gates"`` (f) [B, K, F], all float32. ``weights`` are ``c * g``.

    Paper: Chai et al., "User-Aware Multi-Interest Learning for Candidate Matching in Recommenders", SIGIR 2022 (UMI). The equations
    are those of the authors' published code; its initial logits are cut at two standard deviations, and drawn again at inference, too.

    Example:
        >>> extractor = UserAwareRouting(num_interests=2, profile_fields=[3, 1])
        >>> output = extractor(tf.ones([1, 5, 8]), tf.ones([1, 5], tf.bool), profile=tf.ones([1, 4]))
        >>> output.interests.shape
        TensorShape([1, 2, 8])

    Args:
        num_interests: K.
        iterations: Routing iterations.
        logit_update: "replace" forgets the logits before each update, as the published code; "accumulate" adds to them, as MIND.
        logit_deviation: Standard deviation of the initial logits.
        initializer_deviation: Standard deviation of the initial W; None takes 1 / sqrt(d).
        initial_identity: Added to the diagonals of the initial W. With 1 the first capsules are sums of the items themselves.
        gate_dimension: Width of the hidden layer of both gates.
        hidden_dimension: Rows of W5; None takes d / 2.
        residual: Add v to o, so that the interests start where the items are; the published code does not.
        routing_init: Noise in training: "random" draws it again for every batch, "fixed" uses the noise of inference.
        profile_fields: Width of each field of the profile, in their order. The model gives those of its profile encoder. Empty: the
            profile is not used.
        max_length: Longest history that will ever be given; None takes the length of the first input.
        seed: Seed of the noise.

    Raises:
        ValueError: An argument out of its range, a history longer than ``max_length``, or a profile that is not as wide as its fields.
    """

    def __init__(
        self,
        num_interests: int = 3,
        *,
        iterations: int = 3,
        logit_update: Literal["replace", "accumulate"] = "replace",
        logit_deviation: float = 1.0,
        initializer_deviation: float | None = None,
        initial_identity: float = 0.0,
        gate_dimension: int = 8,
        hidden_dimension: int | None = None,
        residual: bool = False,
        routing_init: Literal["random", "fixed"] = "random",
        profile_fields: Sequence[int] = (),
        max_length: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_interests, logit_deviation=logit_deviation, routing_init=routing_init, max_length=max_length, seed=seed, **kwargs
        )
        require_at_least(1, iterations=iterations, gate_dimension=gate_dimension, hidden_dimension=hidden_dimension)
        require_at_least(0, initializer_deviation=initializer_deviation)
        require_choice(("replace", "accumulate"), logit_update=logit_update)
        for position, width in enumerate(profile_fields):
            require_at_least(1, **{f"profile_fields[{position}]": width})
        self.profile_fields = tuple(profile_fields)

    def build(self, input_shape: Any) -> None:
        """Create the item gate, the matrices W [K, d, d], the layers of the field gates and of the output, and the routing's noise."""
        dimension = int(input_shape[-1])
        profile_width = sum(self.profile_fields)
        self.gate_item_kernel = self._matrix("gate_item_kernel", dimension, self.gate_dimension)  # W1, its rows of the item
        self.gate_bias = self.add_weight("gate_bias", [self.gate_dimension], initializer="zeros", experimental_autocast=False)
        self.gate_output_kernel = self._matrix("gate_output_kernel", self.gate_dimension, 1)
        self.gate_output_bias = self.add_weight("gate_output_bias", [1], initializer="zeros", experimental_autocast=False)
        self.transformations = self.add_weight(
            "transformations",
            [self.num_interests, dimension, dimension],
            initializer=NearIdentity(self.initial_identity, self.initializer_deviation or dimension**-0.5, input_axis=1, output_axis=2),
            experimental_autocast=False,
        )
        if self.profile_fields:
            self.gate_profile_kernel = self._matrix("gate_profile_kernel", profile_width, self.gate_dimension)  # W1, the others
            self.field_gate_kernel = self._matrix("field_gate_kernel", profile_width + dimension, self.gate_dimension)
            self.field_gate_output_kernel = self._matrix("field_gate_output_kernel", self.gate_dimension, len(self.profile_fields))
        width = self.hidden_dimension or max(1, dimension // 2)
        self.hidden_kernel = self._matrix("hidden_kernel", profile_width + dimension, width)
        self.output_kernel = self._matrix("output_kernel", width, dimension)
        super().build(input_shape)

    def call(
        self,
        history: tf.Tensor,
        mask: tf.Tensor,
        training: bool | None = None,
        profile: tf.Tensor | None = None,
        initial_logits: tf.Tensor | None = None,
    ) -> InterestOutput:
        """Route a history.

        Args:
            history: [B, L, d] item vectors.
            mask: bool [B, L], True at real items.
            training: Whether to draw noise.
            profile: [B, p], the profile's fields side by side. None where nothing is known of the users, which 0 means as well.
            initial_logits: [B, K, L] to start from instead of noise; no gradient reaches them.

        Returns:
            Interests [B, K, d].
        """
        items = tf.cast(zero_padding(history, mask), tf.float32)  # [B, L, d]
        profile = self._profile(items, profile)
        item_gate = self._item_gate(items, mask, profile)  # [B, L]

        # W[k] is applied to the K sums instead of the L items, which is the same by linearity: no [B, K, L, d] tensor.
        def aggregate(weights: tf.Tensor, freeze: Freeze) -> tf.Tensor:
            pooled = tf.matmul(weights * freeze(item_gate)[:, None, :], freeze(items))  # [B, K, d]
            return tf.einsum("bkd,kde->bke", pooled, freeze(self.transformations))

        def agreement(weights: tf.Tensor, freeze: Freeze) -> tf.Tensor:
            capsules = squash(aggregate(weights, freeze))
            directions = tf.einsum("bke,kde->bkd", capsules, freeze(self.transformations))
            return tf.matmul(directions, freeze(items), transpose_b=True)  # [B, K, L]

        routed = route(
            self.starting_logits(history, training, initial_logits),
            mask[:, None, :],
            aggregate,
            agreement,
            iterations=self.iterations,
            logit_update=self.logit_update,
        )
        internals = {"routing": routed.weights, "logits": routed.logits, "item_gate": item_gate, "capsules": routed.capsules}
        joined = routed.capsules
        if profile is not None:
            internals["field_gates"] = self._field_gates(routed.capsules, profile)
            refined = tf.matmul(internals["field_gates"], self._field_columns()) * profile[:, None, :]  # [B, K, p]
            joined = tf.concat([refined, routed.capsules], axis=-1)
        interests = tf.tensordot(tf.nn.relu(tf.tensordot(joined, self.hidden_kernel, axes=1)), self.output_kernel, axes=1)
        if self.residual:
            interests += routed.capsules
        active = tf.ones([tf.shape(mask)[0], self.num_interests], tf.bool)
        weights = routed.weights * item_gate[:, None, :]
        return InterestOutput(tf.cast(interests, self.compute_dtype), active, weights, internals)

    def _matrix(self, name: str, rows: int, columns: int) -> tf.Variable:
        # All of this layer runs in float32 whatever the policy, hence no autocast.
        return self.add_weight(name, [rows, columns], initializer="glorot_uniform", experimental_autocast=False)

    def _profile(self, items: tf.Tensor, profile: tf.Tensor | None) -> tf.Tensor | None:
        """The profile, float32 [B, p], or None if it is not used."""
        if not self.profile_fields:
            return None
        width = sum(self.profile_fields)
        if profile is None:
            return tf.zeros([tf.shape(items)[0], width])
        if profile.shape[-1] != width:
            raise ValueError(f"profile_fields: they are {width} wide together, but the profile has {profile.shape[-1]} columns")
        return tf.cast(profile, tf.float32)

    def _item_gate(self, items: tf.Tensor, mask: tf.Tensor, profile: tf.Tensor | None) -> tf.Tensor:
        """How much each item counts for this user: [B, L], 0 at padding."""
        hidden = tf.tensordot(items, self.gate_item_kernel, axes=1) + self.gate_bias  # [B, L, gate]
        if profile is not None:
            hidden += tf.matmul(profile, self.gate_profile_kernel)[:, None, :]  # rather than L copies of the profile
        logits = tf.tensordot(tf.nn.relu(hidden), self.gate_output_kernel, axes=1) + self.gate_output_bias  # [B, L, 1]
        return tf.where(mask, tf.sigmoid(tf.squeeze(logits, axis=2)), 0.0)

    def _field_gates(self, capsules: tf.Tensor, profile: tf.Tensor) -> tf.Tensor:
        """How much of each field each interest takes: [B, K, F]."""
        tiled = tf.repeat(profile[:, None, :], self.num_interests, axis=1)
        hidden = tf.nn.relu(tf.tensordot(tf.concat([tiled, capsules], axis=-1), self.field_gate_kernel, axes=1))
        return tf.sigmoid(tf.tensordot(hidden, self.field_gate_output_kernel, axes=1))

    def _field_columns(self) -> np.ndarray:
        """float32 [F, p]: 1 where a column of the profile belongs to a field."""
        return np.repeat(np.eye(len(self.profile_fields), dtype=np.float32), self.profile_fields, axis=1)

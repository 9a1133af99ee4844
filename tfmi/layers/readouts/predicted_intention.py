"""SINE's aggregation: one vector for a user, mixed without looking at the target."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import tensorflow as tf

from tfmi.layers.base import READOUTS, InterestOutput, Readout, masked_softmax
from tfmi.layers.common.arguments import require_above, require_choice


@READOUTS.register("predicted_intention")
class PredictedIntention(Readout):
    r"""Mixes the interests by how near each is to what the user is predicted to be after right now::

        e = softmax over k of (current intention . interest k / temperature)       [B, K]
        v = sum over k of e_k v_k                                                  [B, d]

    ``e`` comes from the extractor's interests, which live in the same space as its ``internals["current_intention"]``. What is mixed are
    the scored vectors v_k, after the user tower and normalisation; a model that normalises brings v to unit length again. Where the
    interests have one length, as after a layer normalisation, and no layers follow, v is the paper's vector, normalised.

    The target plays no part: training and serving compute the same vector, and one search serves a user.

    Paper: Tan et al., "Sparse-Interest Network for Sequential Recommendation", WSDM 2021 (SINE), interest aggregation.

    Example:
        >>> weights, intention = tf.zeros([1, 2, 1]), tf.constant([[0.3, 0.1]])
        >>> output = InterestOutput(tf.eye(2)[None], tf.constant([[True, True]]), weights, {"current_intention": intention})
        >>> query = PredictedIntention()(output.interests, output.active, tf.zeros([1, 2]), output=output)
        >>> print(query.numpy().round(3))
        [[0.881 0.119]]

    Args:
        temperature: Above 0. Towards 0 the best interest is chosen, towards infinity all count alike. Layer-normalised vectors of width d
            have inner products of up to d, so that the paper's 0.1 is almost a choice.
        served: What is searched with at serving: "aggregated", the one vector that was trained, or "interests", all K, merged by their
            best score, which is not what training scored.

    Raises:
        ValueError: An argument out of its range.
    """

    NEEDED_INTERNALS: ClassVar[tuple[str, ...]] = ("current_intention",)
    MIXES_INTERESTS: ClassVar[bool] = True

    def __init__(self, temperature: float = 0.1, *, served: Literal["aggregated", "interests"] = "aggregated", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_above(0, temperature=temperature)
        require_choice(("aggregated", "interests"), served=served)

    def call(self, interests: tf.Tensor, active: tf.Tensor, target: tf.Tensor, output: InterestOutput) -> tf.Tensor:
        """Mix the interests.

        Args:
            interests: [B, K, d], the scored vectors.
            active: bool [B, K].
            target: [B, d]; changes nothing here.
            output: The extractor's output.

        Returns:
            Queries [B, d].
        """
        return self._mix(interests, active, output)

    def serve(self, interests: tf.Tensor, active: tf.Tensor, output: InterestOutput) -> tuple[tf.Tensor, tf.Tensor]:
        """The one vector as [B, 1, d], or the interests as they are; and which of them are active."""
        if self.served == "interests":
            return interests, active
        return self._mix(interests, active, output)[:, None, :], active[:, :1]

    def served_weights(self, output: InterestOutput) -> tf.Tensor:
        """See ``Readout.served_weights``; of the one vector, the interests' weights mixed as they are."""
        if self.served == "interests":
            return output.weights
        return tf.matmul(self._shares(output.active, output), tf.cast(output.weights, tf.float32))  # [B, 1, L]

    @property
    def serves_interests(self) -> bool:
        """See ``Readout.serves_interests``."""
        return self.served == "interests"

    def _mix(self, interests: tf.Tensor, active: tf.Tensor, output: InterestOutput) -> tf.Tensor:
        shares = self._shares(active, output)
        return tf.cast(tf.squeeze(tf.matmul(shares, tf.cast(interests, tf.float32)), axis=1), interests.dtype)

    def _shares(self, active: tf.Tensor, output: InterestOutput) -> tf.Tensor:
        """How much of each interest is in the one vector, float32 [B, 1, K]."""
        intention = tf.cast(output.internals["current_intention"], tf.float32)[..., None]  # [B, d, 1]
        logits = tf.squeeze(tf.matmul(tf.cast(output.interests, tf.float32), intention), axis=2) / self.temperature  # [B, K]
        return masked_softmax(logits, active)[:, None, :]

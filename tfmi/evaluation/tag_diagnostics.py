"""How a user-tag model uses its experts."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX
from tfmi.layers.user_encoders.virtual_kernel_encoder import VirtualKernelEncoder
from tfmi.models.user_tags.user_tag_model import UserTagModel


def tag_gates(model: UserTagModel, task: int) -> np.ndarray:
    """float32 [V - 2, S]: how a task's experts are mixed for every real tag, in the order of their indices."""
    tags = tf.range(FIRST_INDEX, model.num_tag_rows)
    vectors = tf.cast(model.tag_tower(tags, task=task, training=False), tf.float32)
    return model.user_encoder.gate(task, vectors).numpy()


def gate_entropy(model: UserTagModel, task: int) -> float:
    """Mean entropy of a task's gate over all tags, by the log of its number of experts: 1 where all tags mix all experts alike, 0 where
    each has one of its own; NaN for a single expert. A gate that stays at 1 has learned nothing: its kernels may have started too much
    alike.
    """
    gates = tag_gates(model, task)
    if gates.shape[1] == 1:
        return float("nan")
    logs = np.log(gates, out=np.zeros_like(gates), where=gates > 0)
    return float(-(gates * logs).sum(axis=1).mean() / np.log(gates.shape[1]))


def expert_shares(model: UserTagModel, task: int, tag_counts: np.ndarray | None = None) -> dict[int, float]:
    """Mean weight of each of a task's experts over tags, by expert; they sum to 1.

    Args:
        model: A trained model.
        task: Which task.
        tag_counts: [V], how much each tag row counts, such as its frequency; None: all alike. Rows 0 and 1 never count.
    """
    gates = tag_gates(model, task)
    weights = np.ones(len(gates)) if tag_counts is None else np.asarray(tag_counts, np.float64)[FIRST_INDEX:]
    shares = weights @ gates / weights.sum()
    return {expert: float(share) for expert, share in zip(model.user_encoder.experts_of(task), shares, strict=True)}


def kernel_cosines(encoder: VirtualKernelEncoder) -> np.ndarray:
    """float32 [K, K]: the cosine of every pair of virtual kernels. Kernels that have collapsed are near 1."""
    kernels = encoder.virtual_kernels.kernels.numpy()
    unit = kernels / np.maximum(np.linalg.norm(kernels, axis=1, keepdims=True), 1e-12)
    return unit @ unit.T

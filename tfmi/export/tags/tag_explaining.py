"""Why a user gets a tag, in the graph: what the score would be without each field and each value, what the model looked at, and what
each of its experts says."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX, Feature, MultiValuedFeature
from tfmi.export.profile_inputs import input_names
from tfmi.export.saving import Tensors
from tfmi.layers.common.fields import WEIGHTS_SUFFIX
from tfmi.layers.user_encoders.user_encoder import ExplainsFields, FieldExplanation
from tfmi.models.user_tags.user_tag_model import UserTagModel

INPUT_PREFIX = "profile_"
# Users without something that are scored together.
USERS_AT_ONCE = 1024


class TagExplainer:
    """Explains scores of tags by users.

    Per task, with E the model's experts and M the columns of a field's request input:

    - ``<task>_scores`` [B], the logit, and ``<task>_biases`` [B]; ``<task>_experts`` [B, E], what each expert adds: their sum and the bias
      are the logit; ``<task>_gates`` [B, E], how much the tag listens to each;
    - ``<task>_effect_<field>`` [B], and ``<task>_value_effects_<field>`` [B, M] where a field has several values: the logit minus what it
      would be without the field or the value. Effects of fields that the model crosses do not add up to anything;
    - ``<task>_attention_<field>`` [B] and ``<task>_value_attention_<field>`` [B, M], for encoders that attend to fields: the share of
      what was looked at, which sums to 1 over the fields, and over all of their values. Experts look as much as the tag listens to them.

    A number that is left out is average. Unknown tags have the score -inf and 0 elsewhere.

    Args:
        model: A trained model.
        features: The user's fields by name.
        keys: What each task is called in the outputs.
        user_queries: That of the model.
    """

    def __init__(
        self, model: UserTagModel, features: Mapping[str, Feature], keys: tuple[str, ...], user_queries: Callable[..., tf.Tensor]
    ) -> None:
        self._model, self._keys, self._user_queries = model, keys, user_queries
        self._columns = {name: key.removeprefix(INPUT_PREFIX) for name, key in input_names(features).items()}
        self._widths = {
            name: int(features[name].values.shape[1]) if isinstance(features[name], MultiValuedFeature) else None for name in self._columns
        }
        # Each row of these leaves something out: first every field, then every value of each field that has several.
        sizes = {name: width or 1 for name, width in self._widths.items()}
        multi = [name for name, width in self._widths.items() if width is not None]
        rows = len(sizes) + sum(sizes[name] for name in multi)
        self._kept = {name: np.ones([rows, size], bool) for name, size in sizes.items()}
        for row, name in enumerate(sizes):
            self._kept[name][row] = False
        self._first_value: dict[str, int] = {}
        start = len(sizes)
        for name in multi:
            self._first_value[name] = start
            self._kept[name][start : start + sizes[name]] = ~np.eye(sizes[name], dtype=bool)
            start += sizes[name]
        self._num_rows = rows

    def explain(self, fields: Mapping[str, tf.Tensor], tags: tf.Tensor) -> Tensors:
        """The outputs for encoded fields of B users and a tag int32 [B] each."""
        model = self._model
        queries = self._user_queries(fields)
        known = tags >= FIRST_INDEX
        scores = self._scores(queries, tags)  # [B, A]
        effects = tf.where(known[None, :, None], self._effects(fields, tags, scores), 0.0)
        looked = model.user_encoder.explain(model.field_embedding(fields)) if isinstance(model.user_encoder, ExplainsFields) else None
        outputs: Tensors = {}
        for task, key in enumerate(self._keys):
            experts = model.expert_shares(queries, tags, task)
            bias = model.bias(task)
            outputs[f"{key}_scores"] = scores[:, task] + bias
            outputs[f"{key}_biases"] = tf.fill([tf.shape(tags)[0]], bias)
            outputs[f"{key}_experts"], outputs[f"{key}_gates"] = experts.shares, experts.gates
            outputs |= self._name_effects(effects[:, :, task], key)
            if looked is not None:
                outputs |= self._name_attention(looked, experts.gates, known, key)
        return outputs

    def _scores(self, queries: tf.Tensor, tags: tf.Tensor) -> tf.Tensor:
        """float32 [B, A] without biases."""
        return tf.concat([self._model.score(queries, tags[:, None], task) for task in range(len(self._keys))], axis=1)

    def _effects(self, fields: Mapping[str, tf.Tensor], tags: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        """float32 [rows, B, A]: scores [B, A] minus what they would be without what each row leaves out.

        As many rows as fit are scored together, as if they were users. What nobody has is not left out.
        """
        users, tasks = tf.shape(tags)[0], len(self._keys)
        rows = tf.cast(tf.where(self._someone_has(fields))[:, 0], tf.int32)  # at least the fields
        at_once = tf.minimum(tf.maximum(USERS_AT_ONCE // tf.maximum(users, 1), 1), tf.size(rows))
        starts = tf.range(0, tf.size(rows), at_once)

        def score(start: tf.Tensor) -> tf.Tensor:
            # The last block repeats a row until it is full.
            block = tf.gather(rows, tf.minimum(start + tf.range(at_once), tf.size(rows) - 1))
            left = self._user_queries(self._without(fields, block, users))
            return tf.reshape(self._scores(left, tf.tile(tags, [at_once])), [at_once, users, tasks])

        without = tf.map_fn(score, starts, fn_output_signature=tf.TensorSpec([None, None, tasks], tf.float32), parallel_iterations=1)
        without = tf.reshape(without, [tf.size(starts) * at_once, users, tasks])[: tf.size(rows)]
        return tf.scatter_nd(rows[:, None], scores[None] - without, [self._num_rows, users, tasks])

    def _someone_has(self, fields: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """bool [rows]: whether anybody may have what a row leaves out: every field, and the values that are there."""
        present = [tf.ones([len(self._widths)], tf.bool)]
        present += [tf.reduce_any(fields[name] != PADDING_INDEX, axis=0) for name, width in self._widths.items() if width is not None]
        return tf.concat(present, axis=0)

    def _without(self, fields: Mapping[str, tf.Tensor], rows: tf.Tensor, users: tf.Tensor) -> dict[str, tf.Tensor]:
        """The fields of all users, [R * B, ...], without what each of R rows leaves out: index 0, weight 0, and the number 0, which is the
        average."""
        left: dict[str, tf.Tensor] = {}
        for name, width in self._widths.items():
            kept = tf.gather(tf.constant(self._kept[name]), rows)[:, None]  # [R, 1, M]
            for key in (name,) if width is None else (name, f"{name}{WEIGHTS_SUFFIX}"):
                values = fields[key][None]
                values = tf.where(kept if width is not None else kept[:, :, 0], values, tf.zeros([], values.dtype))
                flat = [tf.size(rows) * users]
                left[key] = tf.reshape(values, flat if width is None else [*flat, width])
        return left

    def _name_effects(self, effects: tf.Tensor, key: str) -> Tensors:
        """Outputs of effects [rows, B]."""
        outputs: Tensors = {}
        for row, (name, width) in enumerate(self._widths.items()):
            outputs[f"{key}_effect_{self._columns[name]}"] = effects[row]
            if width is not None:
                start = self._first_value[name]
                outputs[f"{key}_value_effects_{self._columns[name]}"] = tf.transpose(effects[start : start + width])
        return outputs

    def _name_attention(self, looked: FieldExplanation, gates: tf.Tensor, known: tf.Tensor, key: str) -> Tensors:
        if looked.by_expert:
            shares = gates
        else:
            queries = looked.field_weights.shape[1]
            shares = tf.cast(known, tf.float32)[:, None] * tf.fill([1, queries], 1.0 / queries)
        weights = shares[:, :, None] * looked.field_weights  # [B, Q, F]
        outputs: Tensors = {}
        for field, name in enumerate(looked.names):
            outputs[f"{key}_attention_{self._columns[name]}"] = tf.reduce_sum(weights[:, :, field], axis=1)
            if self._widths[name] is not None:
                of_values = tf.einsum("bq,bqm->bm", weights[:, :, field], looked.value_weights[field])
                outputs[f"{key}_value_attention_{self._columns[name]}"] = of_values
        return outputs

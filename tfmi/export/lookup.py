"""Strings in, strings out: vocabularies inside the graph."""

from __future__ import annotations

import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX, UNKNOWN_INDEX, Vocabulary


class VocabularyTable(tf.Module):
    """From strings to the indices of a ``Vocabulary``: 0 for the empty string, 1 for an unknown one.

    Args:
        vocabulary: The strings in index order.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        keys = tf.constant(["", *vocabulary.ids], dtype=tf.string)
        values = tf.concat([[PADDING_INDEX], tf.range(FIRST_INDEX, vocabulary.num_rows)], axis=0)
        # Keys as a tensor rather than as a text file: an id may hold a line break.
        self._table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), default_value=UNKNOWN_INDEX)

    def indices(self, strings: tf.Tensor) -> tf.Tensor:
        """int32 indices of a string tensor or ragged tensor of any shape."""
        found = self._table.lookup(strings)
        if not isinstance(strings, tf.Tensor) or strings.shape.rank is None:
            return found
        # A loaded table forgets how many dimensions its answers have, and TensorFlow then complains when it estimates costs. Of the sizes
        # a signature may promise more than a request keeps.
        return tf.ensure_shape(found, [None] * strings.shape.rank)


class ItemVocabulary(VocabularyTable):
    """A ``VocabularyTable`` that also answers strings."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__(vocabulary)
        self._ids = tf.Variable(tf.constant([""] * FIRST_INDEX + vocabulary.ids, dtype=tf.string), trainable=False, name="item_ids")

    def identifiers(self, indices: tf.Tensor) -> tf.Tensor:
        """The strings at int32 ``indices`` of any shape; "" at padding and unknown."""
        return tf.gather(self._ids, indices)

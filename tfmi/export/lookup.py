"""Strings in, strings out: vocabularies inside the graph."""

from __future__ import annotations

import tensorflow as tf

from tfmi.data.dataset import FIRST_INDEX, PADDING_INDEX, UNKNOWN_INDEX, Vocabulary

# Of the indices below the first item's, which have no string, the empty string takes one place.
_BEFORE_ITEMS = FIRST_INDEX - 1


class VocabularyTable(tf.Module):
    """From strings to the indices of a ``Vocabulary``: 0 for the empty string, 1 for an unknown one.

    The strings are a variable, from which a table is filled once it is restored. A constant would be in the graph itself, which may have no
    more than 2 GB, and of which a server makes several copies while it loads.

    Args:
        vocabulary: The strings in index order.
        name: Of the variable.
    """

    def __init__(self, vocabulary: Vocabulary, name: str = "vocabulary") -> None:
        super().__init__()
        # Strings rather than a text file: an id may hold a line break.
        self._strings = tf.Variable(tf.constant(["", *vocabulary.ids], dtype=tf.string), trainable=False, name=name)
        self._table = tf.lookup.StaticHashTable(_PlacesOfStrings(self._strings), default_value=UNKNOWN_INDEX)

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
        super().__init__(vocabulary, name="item_ids")

    def identifiers(self, indices: tf.Tensor) -> tf.Tensor:
        """The strings at int32 ``indices`` of any shape; "" at padding and unknown."""
        return tf.gather(self._strings, tf.maximum(indices - _BEFORE_ITEMS, 0))


class _PlacesOfStrings(tf.lookup.KeyValueTensorInitializer):
    """Fills a table with the indices of the strings of a variable, the empty one first."""

    def __init__(self, strings: tf.Variable) -> None:
        super().__init__(tf.constant([], tf.string), tf.constant([], tf.int32))  # says the types
        self._strings = strings

    def initialize(self, table: tf.lookup.StaticHashTable) -> tf.Operation:
        """See ``TableInitializerBase``; called by a new table, and by a version that has been loaded."""
        strings = self._strings.read_value()
        indices = tf.concat([[PADDING_INDEX], tf.range(FIRST_INDEX, tf.size(strings) + _BEFORE_ITEMS)], axis=0)
        return tf.raw_ops.LookupTableImportV2(table_handle=table.resource_handle, keys=strings, values=indices)

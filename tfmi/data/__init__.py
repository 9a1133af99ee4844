"""From files to examples: reading and checking a log, the catalogue, splits, named datasets, ``tf.data`` and TFRecord."""

"""From files to examples: reading and checking a log, the catalogue, splits, public datasets, ``tf.data`` and TFRecord."""

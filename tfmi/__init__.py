"""tfmi, TensorFlow Multi-Interest: from an interaction log to a served retriever that knows a user as several interests.

Importing this package selects Keras 2 (the ``tf-keras`` package) for ``tf.keras``, which TensorFlow Recommenders needs. It has to
happen before ``tf.keras`` is first used, so import ``tfmi`` first.
"""

from __future__ import annotations

import os
import sys

from tfmi.core.lazy import lazy_exports

__version__ = "0.2.0"


def _select_keras_2() -> None:
    """Make ``tf.keras`` mean Keras 2, or raise ``ImportError`` if Keras 3 has already been chosen in this process."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return
    if not tensorflow.keras.Model.__module__.startswith("tf_keras"):
        raise ImportError(
            "tfmi needs Keras 2 (tf-keras), but this process has already loaded Keras 3 as tf.keras. "
            "Import tfmi before TensorFlow, or set TF_USE_LEGACY_KERAS=1 in the environment."
        )


_select_keras_2()

# The public names are in the stub beside this file; they are resolved on first use, so that `import tfmi` alone does not load TensorFlow.
__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)

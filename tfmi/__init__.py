"""tfmi, TensorFlow Multi-Interest: from an interaction log to a served retriever that knows a user as several interests.

Importing this package selects Keras 2 (the ``tf-keras`` package) for ``tf.keras``, which TensorFlow Recommenders needs. It has to
happen before ``tf.keras`` is first used, so import ``tfmi`` first.
"""

from __future__ import annotations

import importlib
import os
import sys

__version__ = "0.1.0"


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

# Resolved on first use, so that `import tfmi` alone does not load TensorFlow.
_PUBLIC_NAMES = {
    "RunConfig": "tfmi.config.schema",
    "load_config": "tfmi.models.systems",
    "TfmiError": "tfmi.core.errors",
    "load_dataset": "tfmi.data.loading",
    "InterestRetrieval": "tfmi.models.retrieval.interest_retrieval.interest_retrieval",
    "build_model": "tfmi.models.retrieval.interest_retrieval.build_retriever",
    "SYSTEMS": "tfmi.models.systems",
    "export_savedmodel": "tfmi.export",
    "rerank": "tfmi.index.reranking",
}


def __getattr__(name: str) -> object:
    if name in _PUBLIC_NAMES:
        return getattr(importlib.import_module(_PUBLIC_NAMES[name]), name)
    raise AttributeError(f"module 'tfmi' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC_NAMES})

"""Importing tfmi selects Keras 2, without loading TensorFlow."""

from __future__ import annotations

import subprocess
import sys

import pytest


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_import_does_not_load_tensorflow() -> None:
    done = _run("import sys, tfmi; assert 'tensorflow' not in sys.modules; print(tfmi.__version__)")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_tfmi_first_gives_keras_2() -> None:
    done = _run("import tfmi, tensorflow as tf; print(tf.keras.Model.__module__)")
    assert done.stdout.strip().startswith("tf_keras"), done.stderr


@pytest.mark.slow
def test_keras_3_first_is_one_clear_error() -> None:
    done = _run("import os; os.environ.pop('TF_USE_LEGACY_KERAS', None)\nimport tensorflow as tf; tf.keras.Model; import tfmi")
    assert done.returncode != 0
    assert "Import tfmi before TensorFlow" in done.stderr.splitlines()[-1]


def test_public_names_are_listed_without_loading_tensorflow() -> None:
    done = _run("import sys, tfmi; print(*dir(tfmi)); assert 'tensorflow' not in sys.modules")
    assert done.returncode == 0, done.stderr
    assert {"RunConfig", "load_config", "export_savedmodel", "__version__"} <= set(done.stdout.split())


def test_unknown_names_are_attribute_errors() -> None:
    done = _run("import tfmi; tfmi.nothing")
    assert "has no attribute 'nothing'" in done.stderr

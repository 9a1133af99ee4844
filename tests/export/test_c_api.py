"""The exported ScaNN model in a process that never imports TensorFlow's Python, as in TensorFlow Serving."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.export import c_api
from tests.export.fake_recommenders import Exported
from tfmi.index.scann import scann_op_library

PROGRAM = Path(c_api.__file__)
HISTORIES = [["item-3", "", "", "", ""], ["item-7", "item-9", "who?", "item-7", ""], ["", "", "", "", ""]]

pytestmark = pytest.mark.slow


def ask(folder: Path, signature: str, inputs: dict[str, Any], *, with_ops: bool = True) -> subprocess.CompletedProcess[str]:
    ops = ["--op-library", str(scann_op_library())] if with_ops else []
    command = [sys.executable, "-I", str(PROGRAM), str(folder), signature, *ops]
    return subprocess.run(command, input=json.dumps(inputs), capture_output=True, text=True, timeout=300, check=False)


def test_answers_are_those_of_python(scann_export: Exported) -> None:
    process = ask(scann_export.folder, "serving_default", {"history": HISTORIES})
    assert process.returncode == 0, process.stderr
    result = json.loads(process.stdout)
    assert result["imported"] == []
    assert result["signatures"] == scann_export.model.signature_names
    expected = scann_export.model.predict("serving_default", {"history": np.array(HISTORIES, dtype=object)})
    assert result["answer"]["item_ids"] == [[item.decode() for item in row] for row in expected["item_ids"]]
    assert result["answer"]["interests"] == expected["interests"].tolist()
    np.testing.assert_allclose(result["answer"]["scores"], expected["scores"], rtol=1e-5)


@pytest.mark.parametrize("kind", ["partitioned", "exact"])
def test_a_stock_server_answers_without_any_op_library(request: pytest.FixtureRequest, kind: str) -> None:
    export: Exported = request.getfixturevalue(f"{kind}_export")
    process = ask(export.folder, "serving_default", {"history": HISTORIES}, with_ops=False)
    assert process.returncode == 0, process.stderr
    result = json.loads(process.stdout)
    assert "scann" not in result["imported"]
    assert result["unregistered"] == []  # in a registry that holds TensorFlow's own operations only
    assert {"TopKV2", "MatMul", "LookupTableFindV2"} <= set(result["operations"])
    expected = export.model.predict("serving_default", {"history": np.array(HISTORIES, dtype=object)})
    assert result["answer"]["item_ids"] == [[item.decode() for item in row] for row in expected["item_ids"]]


def test_the_graph_itself_refuses_histories_of_another_width(scann_export: Exported) -> None:
    """The C API does not enforce a signature's shapes; neither does TensorFlow Serving."""
    process = ask(scann_export.folder, "serving_default", {"history": [["item-3", "item-4"]]})
    assert process.returncode == 0, process.stderr
    assert "exactly 5 columns" in json.loads(process.stdout)["answer"]["error"]


def test_without_the_op_library_the_model_cannot_answer(scann_export: Exported) -> None:
    process = ask(scann_export.folder, "serving_default", {"history": HISTORIES}, with_ops=False)
    assert process.returncode != 0 or "error" in json.loads(process.stdout)["answer"]
    assert "Scann" in process.stderr + process.stdout

"""A SavedModel through TensorFlow's C API, with ctypes: what TensorFlow Serving does, in a process without TensorFlow's Python.

Run as a program it answers one request of string tensors::

    python c_api.py MODEL_FOLDER SIGNATURE < inputs.json > outputs.json

``inputs.json`` maps input names to lists of strings, or of lists of strings. The outputs map output names to nested lists.
``--op-library FILE`` loads custom ops first.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import struct
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FLOAT, INT32, STRING = 1, 3, 7  # TF_DataType
STRUCT_FORMATS = {FLOAT: "f", INT32: "i"}
TSTRING_BYTES = 24


class Output(ctypes.Structure):
    """``TF_Output``: an operation and the number of one of its outputs."""

    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class Buffer(ctypes.Structure):
    """``TF_Buffer``."""

    _fields_ = (("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("deallocator", ctypes.c_void_p))


def load_tensorflow() -> ctypes.CDLL:
    """TensorFlow's C API, found in the installed package without importing it."""
    package = importlib.util.find_spec("tensorflow")
    if package is None or package.submodule_search_locations is None:
        raise FileNotFoundError("TensorFlow is not installed")
    folder = Path(package.submodule_search_locations[0])
    ctypes.CDLL(str(folder / "libtensorflow_framework.so.2"), mode=ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(folder / "libtensorflow_cc.so.2"), mode=ctypes.RTLD_GLOBAL)
    pointers = (
        "TF_NewStatus TF_NewGraph TF_NewSessionOptions TF_NewBuffer TF_LoadLibrary TF_LoadSessionFromSavedModel TF_AllocateTensor "
        "TF_TensorData TF_GraphOperationByName TF_StringGetDataPointer"
    )
    for name in ("TF_GetAllOpList", *pointers.split()):
        getattr(library, name).restype = ctypes.c_void_p
    library.TF_Message.restype = ctypes.c_char_p
    library.TF_Dim.restype = ctypes.c_int64
    library.TF_StringGetSize.restype = ctypes.c_size_t
    return library


class CSession:
    """A SavedModel in a session of the C API.

    Args:
        folder: The SavedModel.
        op_libraries: Shared libraries with custom ops.
    """

    def __init__(self, folder: str, op_libraries: Sequence[str] = ()) -> None:
        self._c = load_tensorflow()
        self._status = ctypes.c_void_p(self._c.TF_NewStatus())
        for library in op_libraries:
            self._c.TF_LoadLibrary(library.encode(), self._status)
            self._check()
        self._graph = ctypes.c_void_p(self._c.TF_NewGraph())
        options = ctypes.c_void_p(self._c.TF_NewSessionOptions())
        meta_graph = ctypes.cast(ctypes.c_void_p(self._c.TF_NewBuffer()), ctypes.POINTER(Buffer))
        tags = (ctypes.c_char_p * 1)(b"serve")
        self._session = ctypes.c_void_p(
            self._c.TF_LoadSessionFromSavedModel(options, None, folder.encode(), tags, 1, self._graph, meta_graph, self._status)
        )
        self._check()
        definition = ctypes.string_at(meta_graph.contents.data, meta_graph.contents.length)
        self.signatures = read_signatures(definition)
        known = ctypes.cast(ctypes.c_void_p(self._c.TF_GetAllOpList()), ctypes.POINTER(Buffer))
        registered = read_op_list(ctypes.string_at(known.contents.data, known.contents.length))
        self.operations = read_operations(definition)
        self.unregistered = self.operations - registered

    def run(self, signature: str, inputs: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Answer string tensors [rows] or [rows, columns] with nested lists; raises ``RuntimeError`` with TensorFlow's message."""
        input_names, output_names = self.signatures[signature]
        feeds = [self._output(input_names[name]) for name in inputs]
        tensors = [self._string_tensor(rows) for rows in inputs.values()]
        fetches = [self._output(tensor) for tensor in output_names.values()]
        results = (ctypes.c_void_p * len(fetches))()
        self._c.TF_SessionRun(
            self._session,
            None,
            (Output * len(feeds))(*feeds),
            (ctypes.c_void_p * len(tensors))(*tensors),
            len(feeds),
            (Output * len(fetches))(*fetches),
            results,
            len(fetches),
            None,
            0,
            None,
            self._status,
        )
        self._check()
        return {name: self._values(ctypes.c_void_p(result)) for name, result in zip(output_names, results, strict=True)}

    def _check(self) -> None:
        if self._c.TF_GetCode(self._status) != 0:
            raise RuntimeError(self._c.TF_Message(self._status).decode())

    def _output(self, tensor_name: str) -> Output:
        name, _, index = tensor_name.partition(":")
        operation = self._c.TF_GraphOperationByName(self._graph, name.encode())
        if not operation:
            raise KeyError(tensor_name)
        return Output(operation, int(index or 0))

    def _string_tensor(self, rows: Sequence[Any]) -> int:
        flat = isinstance(rows[0], str)
        shape = (ctypes.c_int64 * 2)(len(rows), 1 if flat else len(rows[0]))
        values = [value.encode() for row in rows for value in ([row] if flat else row)]
        tensor = self._c.TF_AllocateTensor(STRING, shape, 1 if flat else 2, ctypes.c_size_t(TSTRING_BYTES * len(values)))
        first = self._c.TF_TensorData(ctypes.c_void_p(tensor))
        for position, value in enumerate(values):
            cell = ctypes.c_void_p(first + TSTRING_BYTES * position)
            self._c.TF_StringInit(cell)
            self._c.TF_StringCopy(cell, value, ctypes.c_size_t(len(value)))
        return int(tensor)

    def _values(self, tensor: ctypes.c_void_p) -> Any:
        shape = [self._c.TF_Dim(tensor, axis) for axis in range(self._c.TF_NumDims(tensor))]
        count = 1
        for size in shape:
            count *= size
        first = self._c.TF_TensorData(tensor)
        kind = self._c.TF_TensorType(tensor)
        flat: list[Any]
        if kind == STRING:
            flat = [self._string(first + TSTRING_BYTES * position) for position in range(count)]
        else:
            flat = list(struct.unpack(f"={count}{STRUCT_FORMATS[kind]}", ctypes.string_at(first, 4 * count)))
        for size in reversed(shape[1:]):
            flat = [flat[start : start + size] for start in range(0, len(flat), size)]
        return flat

    def _string(self, address: int) -> str:
        cell = ctypes.c_void_p(address)
        return ctypes.string_at(self._c.TF_StringGetDataPointer(cell), self._c.TF_StringGetSize(cell)).decode()


# The signatures stand in a MetaGraphDef. This reads the few protocol-buffer fields on the way to them, so that no generated code, and
# with it no Python of TensorFlow, is needed.


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _messages(data: bytes, wanted: int) -> list[bytes]:
    """The length-delimited values of field number ``wanted``."""
    found, at = [], 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            _, at = _varint(data, at)
        elif wire == 2:
            length, at = _varint(data, at)
            if number == wanted:
                found.append(data[at : at + length])
            at += length
        else:
            at += {1: 8, 5: 4}[wire]
    return found


def read_signatures(meta_graph: bytes) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """Tensor names of the inputs and outputs of every signature in a serialised ``MetaGraphDef``."""

    def entries(data: bytes, field: int) -> dict[str, bytes]:  # a map field: messages of key = 1, value = 2
        return {_messages(entry, 1)[0].decode(): (_messages(entry, 2) or [b""])[0] for entry in _messages(data, field)}

    def tensor_names(signature: bytes, field: int) -> dict[str, str]:  # TensorInfo.name = 1
        return {name: _messages(info, 1)[0].decode() for name, info in entries(signature, field).items()}

    signatures = entries(meta_graph, 5)  # MetaGraphDef.signature_def = 5; SignatureDef.inputs = 1, outputs = 2
    return {name: (tensor_names(data, 1), tensor_names(data, 2)) for name, data in signatures.items() if not name.startswith("__")}


def read_op_list(op_list: bytes) -> set[str]:
    """Names of the operations in a serialised ``OpList``."""
    return {_messages(operation, 1)[0].decode() for operation in _messages(op_list, 1)}  # OpList.op = 1; OpDef.name = 1


def read_operations(meta_graph: bytes) -> set[str]:
    """The operations of a serialised ``MetaGraphDef``, in its graph and in all functions."""
    (graph,) = _messages(meta_graph, 2)  # MetaGraphDef.graph_def = 2
    nodes = _messages(graph, 1)  # GraphDef.node = 1, library = 2; FunctionDefLibrary.function = 1; FunctionDef.node_def = 3
    for library in _messages(graph, 2):
        nodes += [node for function in _messages(library, 1) for node in _messages(function, 3)]
    return {_messages(node, 2)[0].decode() for node in nodes}  # NodeDef.op = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("signature")
    parser.add_argument("--op-library", action="append", default=[])
    arguments = parser.parse_args()
    session = CSession(arguments.folder, arguments.op_library)
    try:
        answer = session.run(arguments.signature, json.load(sys.stdin))
    except RuntimeError as error:
        answer = {"error": str(error)}
    imported = sorted(name for name in sys.modules if name.partition(".")[0] in ("tensorflow", "scann", "tfmi", "numpy"))
    sets = {"signatures": session.signatures, "operations": session.operations, "unregistered": session.unregistered}
    json.dump({"answer": answer, "imported": imported, **{name: sorted(values) for name, values in sets.items()}}, sys.stdout)


if __name__ == "__main__":
    main()

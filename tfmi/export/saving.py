"""Functions of tensors as the signatures of a SavedModel."""

from __future__ import annotations

import abc
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from tfmi.core.errors import ExportError, nearest
from tfmi.core.versions import versions

Tensors = dict[str, tf.Tensor]
Request = dict[str, np.ndarray]  # the inputs of a signature, a row per user
# A function of positional tensors, and what these are.
PartFunction = tuple[Callable[..., Any], Sequence[tf.TensorSpec]]
# A function of keyword tensors, and what these are.
SignatureFunction = tuple[Callable[..., Tensors], dict[str, tf.TensorSpec]]


# Bytes of variables that are freed at once. For fewer, looking through all objects of the process would take longer than it is worth.
WORTH_COLLECTING = 2**24


class WarmupRequest(NamedTuple):
    """One call of a signature: ``inputs`` are NumPy arrays by name, strings as ``object`` arrays."""

    signature: str
    inputs: dict[str, np.ndarray]


class Answering(Protocol):
    """What answers requests: an ``ExportedModel``, or a model in memory by the signatures that its export would have.

    Attributes:
        metadata: What requests and answers look like; see ``tfmi.export.load_metadata``.
    """

    metadata: dict[str, Any]

    @property
    def signature_names(self) -> list[str]:
        """The names of the signatures."""

    def predict(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Call a signature; strings come back as ``bytes`` objects."""


class Signatures:
    """Signatures, and how they are saved and described.

    Args:
        functions: By name, a function and its keyword tensors.
        resources: Lookup tables, and modules with ops of their own, that the functions use.
        op_namespaces: Of custom ops.
        parts: Functions, each with the specifications of its positional tensors, that a SavedModel keeps beside its signatures under these
            names, for programs that make another model of it. No server runs them.

    Attributes:
        signatures: Concrete functions by name, traced when first asked for; each takes keyword tensors and returns a dict of tensors.
        input_specs: The keyword tensors by signature name.
    """

    def __init__(
        self,
        functions: Mapping[str, SignatureFunction],
        *,
        resources: Sequence[Any],
        op_namespaces: Iterable[str] = (),
        parts: Mapping[str, PartFunction] | None = None,
    ) -> None:
        self._resources, self._op_namespaces = list(resources), sorted(set(op_namespaces))
        self.input_specs = {name: inputs for name, (_, inputs) in functions.items()}
        self.signatures: Mapping[str, Any] = _TracedWhenAsked(functions)
        self._parts = dict(parts or {})

    def save(self, folder: Path) -> None:
        """Write the SavedModel. Only what the signatures read is saved: no optimiser, no training functions."""
        root = tf.Module()
        root.resources = self._resources
        root.variables_read = _distinct_variables(self.signatures.values())
        root.parts = tf.Module()
        for name, (function, specs) in self._parts.items():
            # A function that is not traced yet would be traced twice: TensorFlow does not take what was traced before saving for its own.
            setattr(root.parts, name, tf.function(function, autograph=False).get_concrete_function(*specs))
        options = tf.saved_model.SaveOptions(namespace_whitelist=self._op_namespaces)
        tf.saved_model.save(root, str(folder), signatures=dict(self.signatures), options=options)

    def answer(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What the functions in memory answer to arrays: arrays."""
        tensors = {name: tf.constant(values) for name, values in inputs.items()}
        return {name: value.numpy() for name, value in self.signatures[signature](**tensors).items()}

    def free(self) -> None:
        """Let go of functions, tables, and the index where nobody else holds it. Nothing can be asked of this object any more."""
        held = sum(variable.dtype.size * (variable.shape.num_elements() or 0) for variable in _distinct_variables(self.signatures.values()))
        self.__dict__.clear()
        if held >= WORTH_COLLECTING:
            gc.collect()  # what was traced refers to itself

    def describe(self, *, outputs: bool = True) -> dict[str, Any]:
        """What the metadata says of them, and by which software they were made. Subclasses add what is theirs.

        Args:
            outputs: With types and shapes of the outputs, too, for which every signature is traced.
        """
        return {"signatures": {name: self._describe_signature(name, outputs) for name in sorted(self.signatures)}, "versions": versions()}

    def _describe_signature(self, name: str, outputs: bool) -> dict[str, Any]:
        """Types and shapes of a signature's inputs and outputs."""
        inputs = {"inputs": _describe(self.input_specs[name])}
        return {**inputs, "outputs": _describe(self.signatures[name].structured_outputs)} if outputs else inputs


class _TracedWhenAsked(Mapping[str, Any]):
    """Concrete functions: tracing takes seconds, and who asks a model in memory one thing does not wait for the other signatures."""

    def __init__(self, functions: Mapping[str, SignatureFunction]) -> None:
        self._functions = dict(functions)
        self._traced: dict[Callable[..., Tensors], Any] = {}

    def __getitem__(self, name: str) -> Any:
        function, inputs = self._functions[name]
        if function not in self._traced:  # one that has two names is traced once
            self._traced[function] = tf.function(function, autograph=False).get_concrete_function(**inputs)
        return self._traced[function]

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)


class ReleasedSignatures(Signatures, abc.ABC):
    """Signatures of a published version, which answers requests before it appears."""

    @abc.abstractmethod
    def requests(self, batch_sizes: Sequence[int]) -> list[WarmupRequest]:
        """Believable requests to every signature, the same ones every time; raises ``ExportError`` if there would be too many."""


class InMemory:
    """Signatures that were never saved.

    Args:
        signatures: The signatures, whose description, but for the outputs, is the ``metadata``. What is asked is traced when it is asked.
    """

    def __init__(self, signatures: Signatures) -> None:
        self._signatures = signatures
        self.metadata = signatures.describe(outputs=False)

    @property
    def signature_names(self) -> list[str]:
        """See ``Answering``."""
        return sorted(self._signatures.signatures)

    def predict(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """See ``Answering``."""
        if signature not in self._signatures.signatures:
            raise ExportError(f"no signature {signature!r}{nearest(signature, self.signature_names)}; there are {self.signature_names}")
        specs = self._signatures.input_specs[signature]
        tensors = {name: tf.convert_to_tensor(value, specs[name].dtype) for name, value in inputs.items()}
        return {name: value.numpy() for name, value in self._signatures.signatures[signature](**tensors).items()}


def _describe(specs: Mapping[str, tf.TensorSpec]) -> dict[str, Any]:
    return {name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()} for name, spec in specs.items()}


def _distinct_variables(functions: Iterable[Any]) -> list[tf.Variable]:
    """Every variable that concrete functions read, once."""
    found = {id(variable): variable for function in functions for variable in function.graph.variables}
    return list(found.values())

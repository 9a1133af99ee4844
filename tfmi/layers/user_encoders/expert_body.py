"""Expert bodies: from a user's fields to one vector, the part of a user encoder that is repeated per expert."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tfmi.core.errors import ConfigError
from tfmi.core.registry import Registry
from tfmi.layers.base import ConfiguredLayer


class ExpertBody(ConfiguredLayer):
    """Base of the networks that make an expert's vector of fields.

    Subclasses implement ``call(fields, training=None)`` with ``fields`` [B, F, w], 0 where a field is missing, returning [B, d].

    Args:
        dimension: d, the width of the vector; given by the encoder.
        seed: Seed of the dropout.
    """

    # Whether the body looks at products of fields, so that it needs several of them.
    NEEDS_FIELDS: ClassVar[bool] = False

    def __init__(self, dimension: int, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)


EXPERT_BODIES: Registry[ExpertBody] = Registry("expert body", "tfmi.layers")


def build_body(spec: Mapping[str, Any] | None, dimension: int, seed: int) -> ExpertBody:
    """The body that ``spec`` (``{"name": ..., parameter: value, ...}``) describes, for an encoder's constructor argument ``body``.

    Args:
        spec: A name of ``EXPERT_BODIES`` and parameters; None takes "mlp".
        dimension: Width of its vector.
        seed: Seed, unless ``spec`` sets it.

    Raises:
        ValueError: ``spec`` describes no body; the message says what is wrong with which part.
    """
    spec = {"name": "mlp"} if spec is None else _plain(spec)
    if "dimension" in spec:
        raise ValueError("body.dimension: follows from the encoder's, and cannot be given")
    try:
        return EXPERT_BODIES.build({"seed": seed, **spec, "dimension": dimension}, "body")
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _plain(value: Any) -> Any:
    """``value`` with plain dicts and lists: those that Keras makes of a layer's attributes look empty to who reads them from C."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value

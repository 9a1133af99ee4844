"""Descriptions by earlier versions in the form of this one, so that stored configurations are still read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Extractors that repeated the arguments of the encoder under them: what they are now, and which arguments are the encoder's.
_TRANSFORMER = (
    *("num_blocks", "num_heads", "inner_dimension", "activation", "norm", "positions", "gate", "dropout", "attention_dropout"),
    *("initializer_deviation", "max_length"),
)
_OF_ENCODER: dict[str, tuple[str, tuple[str, ...]]] = {
    "transformer": ("transformer", _TRANSFORMER),
    "recurrent": ("gru", ("hidden_dimension", "use_bias")),
    "convolutional": ("dilated_convolution", ("dilations", "width")),
    "interest_trend": ("interest_tracking", ("positions", "residual", "dropout", "initializer_deviation", "max_length")),
}
_NOW: dict[str, dict[str, Any]] = {
    "transformer": {"name": "newest_state"},
    "recurrent": {"name": "newest_state", "project": True},
    "convolutional": {"name": "newest_state", "project": True},
}


def in_current_form(described: Mapping[str, Any]) -> dict[str, Any]:
    """A description of a run, or a part of one, with ``model.extractor`` as this version writes it; what is wrong in it stays as it is."""
    model = described.get("model")
    extractor = model.get("extractor") if isinstance(model, Mapping) else None
    if not isinstance(model, Mapping) or not isinstance(extractor, Mapping) or extractor.get("name") not in _OF_ENCODER:
        return dict(described)
    return {**described, "model": {**model, "extractor": _over_an_encoder(extractor)}}


def _over_an_encoder(extractor: Mapping[str, Any]) -> dict[str, Any]:
    name = str(extractor["name"])
    encoder, taken = _OF_ENCODER[name]
    passed_on = {key: value for key, value in extractor.items() if key in taken}
    if name not in _NOW and not passed_on:
        return dict(extractor)
    own = {key: value for key, value in extractor.items() if key != "name" and key not in taken}
    if name == "recurrent":
        own |= {"output_dropout": own.pop("dropout")} if "dropout" in own else {}
        own |= {"use_bias": passed_on["use_bias"]} if "use_bias" in passed_on else {}
    given = own.pop("encoder", None)
    known = given if isinstance(given, Mapping) else {}
    return {**_NOW.get(name, {"name": name}), **own, "encoder": {"name": encoder, **passed_on, **known}}

"""Settings of a model as keywords: short names for what is set often, dotted keys for everything else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tfmi.config import RunConfig, merge
from tfmi.core.errors import ConfigError, nearest

# Of every kind of model.
COMMON_SHORTCUTS = {
    "seed": "seed",
    "batch_size": "training.batch_size",
    "epochs": "training.max_epochs",
    "steps": "training.max_steps",
    "monitor": "training.monitor",
    "patience": "training.patience",
    "learning_rate": "optimizer.learning_rate",
    "cutoffs": "evaluation.cutoffs",
    "plugins": "plugins",
}


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """A nested mapping of one by dotted keys.

    Example:
        >>> nested({"model.dimension": 64, "model.extractor.num_interests": 4, "seed": 1})
        {'model': {'dimension': 64, 'extractor': {'num_interests': 4}}, 'seed': 1}
    """
    result: dict[str, Any] = {}
    for key, value in dotted.items():
        one: Any = value
        for part in reversed(key.split(".")):
            one = {part: one}
        result = merge(result, one)
    return result


def keyword_settings(settings: Mapping[str, Any], shortcuts: Mapping[str, str]) -> dict[str, Any]:
    """The nested settings that keywords stand for.

    Args:
        settings: By short name, by dotted key, or a whole section as a mapping.
        shortcuts: The dotted key of each short name.

    Raises:
        ConfigError: A keyword is none of them.
    """
    dotted: dict[str, Any] = {}
    for name, value in settings.items():
        section = name.partition(".")[0]
        if name in shortcuts:
            dotted[shortcuts[name]] = value
        elif section in RunConfig.model_fields and ("." in name or isinstance(value, Mapping)):
            dotted[name] = value
        else:
            raise ConfigError(
                f"{name}: no such setting{nearest(name, shortcuts)}; the short ones are {', '.join(sorted(shortcuts))}, and every other is "
                "given by its key in the configuration: **{'model.temperature': 0.1}"
            )
    return nested(dotted)


def with_dotted(settings: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    """The settings; raises ``ConfigError`` if one of them is not of ``section``."""
    odd = next((key for key in settings if key.partition(".")[0] != section), None)
    if odd is not None:
        raise ConfigError(f"{odd}: expected an argument of this method, or a key of the section {section}: **{{'{section}.split.seed': 1}}")
    return settings


def given_keys(values: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    """The dotted keys of a nested mapping."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from given_keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"

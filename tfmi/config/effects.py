"""Which settings have an effect in a run, as far as that follows from other settings and not from the kind of model.

A setting that nothing reads is refused instead of being ignored: whoever sets it expects a difference. Rules give reasons by dotted key;
the key of a section stands for everything below it. What each kind of model reads is said by the kinds themselves
(``tfmi.models.kind_settings``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from tfmi.config.schema import (
    INDEX_PARAMETERS,
    DataConfig,
    DatasetName,
    IndexConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    Section,
    SplitConfig,
)

# From dotted key to the reason why it has no effect.
Reasons = dict[str, str]
SplitMethod = Literal["by_user", "leave_one_out", "by_time", "session_prefixes", "given"]

# What ``data.split.method: auto`` is for models that retrieve.
CUSTOMARY_SPLITS: dict[DatasetName, SplitMethod] = {
    "embedded": "by_user",
    "log": "by_user",
    "prepared": "given",
    "movielens": "leave_one_out",
    "lastfm": "leave_one_out",
    "sequences": "by_user",
    "comirec": "given",
    "sessions": "given",
}
_FILTERS = frozenset({"min_user_events", "min_item_events", "iterate_core", "max_user_events", "cold_items"})
_SHARES = frozenset({"valid_share", "test_share"})
_READ_BY_METHOD: dict[SplitMethod, frozenset[str]] = {
    "by_user": _FILTERS | _SHARES | {"seed", "history_share"},
    "leave_one_out": _FILTERS,
    "by_time": _FILTERS | _SHARES,
    "session_prefixes": _FILTERS | _SHARES,
    "given": frozenset(),
}
# Data that comes split still has to be cut somewhere.
_READ_OF_GIVEN: dict[str, frozenset[str]] = {
    "comirec": frozenset({"history_share"}),
    "sessions": frozenset({"valid_share"}),
    "log": frozenset({"history_share", "valid_share", "seed", "cold_items"}),
}
_COMES_SPLIT = {"prepared": "a prepared log comes filtered and split; give it to training/spark/prepare.py"}
# Datasets that download something or write shards or lists of rejected rows.
_CACHING = frozenset({"log", "movielens"})


def unread_by_dataset(data: DataConfig) -> Reasons:
    """What the dataset does not read of the section ``data``, whatever is made of it."""
    name = data.dataset
    reasons: Reasons = {}
    if name != "embedded":
        reasons["data.embedded"] = f"the data is {name!r}; this is for the generator, data.dataset: embedded"
    if name != "log":
        reasons["data.log"] = f"the data is {name!r}; this is for your own files, data.dataset: log"
    if name not in _CACHING:
        reasons["data.cache"] = f"nothing of {name!r} is downloaded or written to a cache"
    if name == "prepared":
        reasons["data.log"] = "a prepared log has been read already; give it to training/spark/prepare.py"
    log = data.log
    if not log.streaming:
        reasons["data.log.shards"] = "only a streamed log is written to shards; set data.log.streaming: true"
    if log.columns.time is None:
        reasons["data.log.time_unit"] = "data.log.columns.time is null, so no times are read"
    return reasons


def unread_of_split(split: SplitConfig, method: SplitMethod, dataset: str) -> Reasons:
    """What a method of splitting does not read of ``data.split``."""
    read = _READ_OF_GIVEN.get(dataset, frozenset()) if method == "given" else _READ_BY_METHOD[method]
    what = _COMES_SPLIT.get(dataset, f"{dataset!r} comes split") if method == "given" else f"a split {method} does not read it"
    return {f"data.split.{key}": what for key in type(split).model_fields if key != "method" and key not in read}


def split_method(data: DataConfig) -> SplitMethod:
    """The method that ``data.split.method`` is for models that retrieve."""
    if data.split.method != "auto":
        return data.split.method
    says_itself = data.dataset == "log" and (data.log.columns.part is not None or data.log.test_path is not None)
    return "given" if says_itself else CUSTOMARY_SPLITS[data.dataset]


def unread_of_towers(model: ModelConfig) -> Reasons:
    """What the two towers of a retriever do not read of their sections."""
    item, user = model.item_tower, model.user_tower
    reasons: Reasons = {}
    if not item.hidden:
        reasons["model.item_tower.dropout"] = "it follows hidden layers, and model.item_tower.hidden is empty"
    if item.features == [] and item.combine == "sum":
        reasons["model.item_tower.combine"] = "with the id alone a sum is what a mean is"
    no_profile = "model.user_tower.profile_features is empty, so no profile is read"
    if user.profile_features == []:
        reasons |= {"model.user_tower.join_profile": no_profile, "model.user_tower.profile_dimension": no_profile}
    if user.hidden:
        reasons["model.user_tower.project"] = "model.user_tower.hidden has layers, which end in a projection anyway"
    else:
        reasons["model.user_tower.dropout"] = "it follows hidden layers, and model.user_tower.hidden is empty"
        if not user.project and (user.profile_features == [] or not user.join_profile):
            reasons["model.user_tower.final_activation"] = "the user tower has no layer; give it hidden layers, or project: true"
    return reasons


def unread_of_optimizer(optimizer: OptimizerConfig) -> Reasons:
    """What the schedule does not read of ``optimizer``."""
    if optimizer.schedule != "constant":
        return {}
    why = "the learning rate is constant; set optimizer.schedule: cosine or exponential"
    return {"optimizer.decay_steps": why, "optimizer.decay_rate": why}


def unread_of_index(index: IndexConfig) -> Reasons:
    """What the kind of index does not read of ``index``."""
    reasons: Reasons = {}
    if index.kind != "auto":
        read = INDEX_PARAMETERS[index.kind]
        why = f"an index of kind {index.kind!r} reads {', '.join(read)} only" if read else "an exact index has no parameters"
        reasons = {f"index.{key}": why for keys in INDEX_PARAMETERS.values() for key in keys if key not in read}
    if index.integration == "competitive":
        reasons["index.quota_exponent"] = "quota_exponent does nothing without integration: allotted"
    return reasons


def reason_for(key: str, reasons: Mapping[str, str]) -> str | None:
    """The reason why ``key`` has no effect, its own or that of a section around it; None if it has."""
    parts = key.split(".")
    return next((reasons[above] for n in range(1, len(parts) + 1) if (above := ".".join(parts[:n])) in reasons), None)


def given_settings(values: Mapping[str, Any], section: type[Section] = RunConfig, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting that a valid nested mapping gives, with its dotted key. A component is one setting, parameters and all."""
    for key, value in values.items():
        below = section.model_fields[key].annotation
        if isinstance(value, Mapping) and isinstance(below, type) and issubclass(below, Section):
            yield from given_settings(value, below, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def without(values: Mapping[str, Any], keys: Mapping[str, str], prefix: str = "") -> dict[str, Any]:
    """A copy of a nested mapping without what stands at ``keys``."""
    kept = {}
    for key, value in values.items():
        if f"{prefix}{key}" not in keys:
            kept[key] = without(value, keys, f"{prefix}{key}.") if isinstance(value, Mapping) else value
    return kept


def value_at(values: Mapping[str, Any], key: str) -> Any:
    """What stands at a dotted key of a nested mapping, None if nothing does."""
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def is_complete(values: Mapping[str, Any]) -> bool:
    """Whether a configuration names every section, as stored ones did that held all defaults, whatever a run read."""
    return RunConfig.model_fields.keys() <= values.keys()

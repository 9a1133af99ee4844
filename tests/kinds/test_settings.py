"""Every setting of the schema, set on every kind of model, is either refused with a reason or changes something.

What it changes is looked for where it can be seen without training: in the arrays of the data, in the first training batch, in the objects
of the model, in the optimizer. What is used later (by the loop, the evaluation, the index, the export) has to be read by the module that
does that for the kind.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfmi.config import RunConfig, merge, parse_settings
from tfmi.config.effects import value_at
from tfmi.config.schema import Section
from tfmi.core.errors import ConfigError, TfmiError
from tfmi.kinds.base import ModelKind, TrainedKind, kind_of
from tfmi.models.systems import load_config
from tfmi.training.optimizers import build_optimizer

SMALL = (
    "data.embedded.users=40",
    "data.embedded.items=30",
    "data.embedded.mean_events=12",
    "data.split.min_user_events=2",
    "data.split.min_item_events=2",
    "data.history_length=4",
    "data.tagging.min_tag_count=2",
    "data.tagging.negatives=1",
    "model.dimension=4",
    "model.ranker.dimension=4",
    "model.ranker.hidden=[4]",
    "model.ranker.coarse_hidden=[4]",
    "training.batch_size=8",
)
# A system of each kind and dataset; ``{files}`` is a folder.
CASES = {
    "interests": ("mind", ()),
    "interests of sequences": ("mind", ("data.dataset=sequences", "data.path={files}/sequences.txt")),
    "interests of a log": ("mind", ("data.dataset=log", "data.path={files}/log.csv")),
    "heuristic": ("item_knn", ()),
    "ranking": ("mgipf", ()),
    "ranking of a log": ("din", ("data.dataset=log", "data.path={files}/log.csv", "data.impressions.sampled_negatives=1")),
    "user_tags": ("mvke", ()),
}
# What has to be set beside a setting for it to be seen in data this small; it does the same to what it is compared with.
BESIDE = {
    "data.split.iterate_core": ("data.split.min_user_events=11", "data.split.min_item_events=10"),
    "data.examples": ("data.min_history=1",),
    "data.tagging.tag_columns": (),
}
# Values that differ from the default where the next number or the other choice would not do.
VALUES: dict[str, Any] = {
    "system": None,  # a name is no setting of a run
    "data.dataset": None,  # each dataset is a case
    "model.kind": None,
    "data.path": "elsewhere",
    "data.cache": "elsewhere",
    "data.split.method": "leave_one_out",
    "data.split.valid_share": 0.3,
    "data.split.test_share": 0.3,
    "data.split.history_share": 0.5,
    "data.split.min_user_events": 11,
    "data.split.min_item_events": 12,
    "data.min_history": 2,
    "data.impressions.sampled_negatives": 2,
    "data.impressions.positive_events": ["bought"],
    "data.impressions.positive_weight": 2.0,
    "data.log.event_types": ["bought"],
    "data.log.columns.event": "kind",
    "data.log.columns.weight": "weight",
    "data.log.delimiter": ";",
    "data.embedded.users": 50,
    "data.embedded.items": 40,
    "data.embedded.mean_events": 20.0,
    "data.embedded.max_interests": 1,
    "data.tagging.tasks": {"clicked": 0.0},
    "data.tagging.tag_columns": ["category"],
    "data.tagging.max_item_tags": 1,
    "data.tagging.max_values": 1,
    "data.tagging.min_tag_count": 9,
    "data.tagging.min_value_count": 30,
    "model.extractor": {"name": "self_attentive"},
    "model.readout": {"name": "max_sim"},
    "model.objective": {"name": "full_softmax"},
    "model.weighting": {"name": "adaptive_weight"},
    "model.repetition": {"name": "learned_gate"},
    "model.regularizers": {"distinct": {"name": "interest_cosine"}},
    "model.heuristic": {"name": "popularity"},
    "model.item_tower.features": [],
    "model.item_tower.hidden": [3],
    "model.item_tower.initializer_deviation": 0.7,
    "model.item_tower.propagation": {"name": "hypergraph"},
    "model.user_tower.profile_features": [],
    "model.user_tower.hidden": [3],
    "model.ranker.backbone": {"name": "dcn"},
    "model.ranker.features": [],
    "model.ranker.profile_features": [],
    "model.ranker.hidden": [3],
    "model.ranker.coarse_features": ["brand"],
    "model.ranker.coarse_hidden": [3],
    "model.ranker.retriever.system": "mind",
    "model.ranker.retriever.settings": {"model": {"dimension": 8}},
    "model.ranker.retriever.run": "somewhere",
    "model.user_tags.encoder": {"name": "two_tower"},
    "model.user_tags.task_loss": {"name": "entire_space"},
    "model.user_tags.fields": ["tags"],
    "model.user_tags.field_dimension": 3,
    "model.user_tags.tag_hidden": [3],
    "model.user_tags.tag_dimension": 3,
    "optimizer.decay_steps": 7,
    "training.monitor": "ndcg@10",
    "index.target_recall": 0.5,
    "index.quota_exponent": 2.0,
    "evaluation.cutoffs": [10, 50],
    "export.name": "other",
    "export.retrieval_weight": 0.5,
    "export.warmup_batch_sizes": [2],
}
# Which modules use what is not seen before training, by kind of model.
SHARED_CONSUMERS = {
    # Of items that occur in held-out parts alone, which data this small need not have.
    "data.split.cold_items": ("tfmi.data.splitting.filtering",),
    "training.": ("tfmi.training.trainer", "tfmi.training.fitting", "tfmi.kinds.{kind}"),
    "index.": ("tfmi.index.scann", "tfmi.config.schema", "tfmi.export.{export}"),
    "data.log.": ("tfmi.data.reading.log", "tfmi.data.reading.events", "tfmi.data.reading.side_tables", "tfmi.data.streaming.streamed_log"),
    "data.": ("tfmi.data.loading", "tfmi.data.impressions.impression_loading", "tfmi.data.tags.tag_loading"),
    "model.ranker.retriever.": ("tfmi.kinds.two_stage",),
    "evaluation.report_users": ("tfmi.reports.gathering.gather",),
    "evaluation.": ("tfmi.evaluation.full_catalogue", "tfmi.evaluation.two_stage_evaluation", "tfmi.kinds.{kind}"),
    "export.": ("tfmi.kinds.runner", "tfmi.kinds.two_stage", "tfmi.export.{export}"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with types and weights, its catalogue and users, sequences and sessions."""
    folder = tmp_path_factory.mktemp("settings")
    draw = np.random.default_rng(3)
    rows = [
        f"u{u},i{draw.integers(12)},{100 * t + u},{'bought' if draw.random() < 0.3 else 'seen'},{draw.integers(1, 4)}"
        for u in range(20)
        for t in range(9)
    ]
    (folder / "log.csv").write_text("\n".join(["user,item,time,kind,weight", *rows]) + "\n")
    items = [f"i{n},Title {n},{'ab'[n % 2]},x|y{n % 3}" for n in range(12)]
    (folder / "catalogue.csv").write_text("\n".join(["item,title,category,tags", *items]) + "\n")
    (folder / "sequences.txt").write_text("".join(f"u{u} {' '.join(str(draw.integers(12)) for _ in range(9))}\n" for u in range(20)))
    (folder / "train_sessions.txt").write_text("".join(f"{n % 7} {n % 5} {n % 3} {n % 4}\n" for n in range(40)))
    (folder / "test_examples.txt").write_text("0 1 2\t1\n3 4\t0\n5\t1\n")
    return folder


def schema_keys(section: type[Section] = RunConfig, prefix: str = "") -> Iterator[str]:
    """Every setting of the schema."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from schema_keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def another_value(key: str, current: Any) -> Any:  # noqa: PLR0911 - a value for each type
    """A value of the setting's type that is not the current one."""
    section: Any = RunConfig
    *above, name = key.split(".")
    for part in above:
        section = section.model_fields[part].annotation
    annotation = section.model_fields[name].annotation
    options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) else (annotation,)
    if typing.get_origin(annotation) is typing.Literal:
        return next(option for option in options if option != current)
    if current is None:
        wanted = next(option for option in options if option is not type(None))
        return 3 if wanted is int else 0.5 if wanted is float else f"other_{name}"
    if isinstance(current, bool):
        return not current
    if isinstance(current, int):
        return current + 1
    if isinstance(current, float):
        return current / 2 if current else 0.25
    if isinstance(current, list):
        return [*current, f"other_{name}"]
    return f"other_{current}"


def digest(value: Any) -> str:
    """A digest of nested data: dataclasses, mappings, sequences, arrays and plain values."""
    whole = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, np.ndarray | tf.Tensor | tf.Variable):
            whole.update(
                np.ascontiguousarray(np.asarray(part).astype("U") if np.asarray(part).dtype == object else np.asarray(part)).tobytes()
            )
        elif dataclasses.is_dataclass(part) and not isinstance(part, type):
            add({field.name: getattr(part, field.name) for field in dataclasses.fields(part)})
        elif isinstance(part, Mapping):
            for key in sorted(part, key=str):
                whole.update(str(key).encode())
                add(part[key])
        elif isinstance(part, list | tuple):
            for each in part:
                add(each)
        elif hasattr(part, "ids"):
            add(list(part.ids))
        else:
            whole.update(repr(part).encode())

    add(value)
    return whole.hexdigest()


def snapshot(part: Any, seen: dict[int, int]) -> Any:  # noqa: PLR0911 - a description for each type
    """What a model is made of, as plain values: classes, attributes, initial weights. Names that Keras counts up are left out."""
    if isinstance(part, tf.Variable | tf.Tensor | np.ndarray):
        return digest(part)
    if isinstance(part, Mapping):
        return {str(key): snapshot(value, seen) for key, value in part.items()}
    if isinstance(part, list | tuple | set):
        return [snapshot(value, seen) for value in part]
    if isinstance(part, tf.keras.initializers.Initializer):
        return part.get_config()
    if part is None or isinstance(part, bool | int | float | str):
        return part
    if not type(part).__module__.startswith(("tfmi", "tf_keras.src.layers", "tf_keras.src.engine")):
        return type(part).__name__
    if id(part) in seen:
        return seen[id(part)]
    seen[id(part)] = len(seen)
    ours = {
        name: value
        for name, value in vars(part).items()
        if name.lstrip("_") != "name" and not name.startswith(("_self_", "_obj_ref", "_keras"))
    }
    return [type(part).__name__, {name: snapshot(value, seen) for name, value in sorted(ours.items())}]


class Footprint:
    """What can be seen of a configuration before training."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.kind: ModelKind[Any, Any, Any] = kind_of(config)

    @functools.cached_property
    def data(self) -> Any:
        """The data."""
        return self.kind.load_data(self.config)

    @functools.cached_property
    def model(self) -> Any:
        """The model."""
        tf.keras.backend.clear_session()
        return self.kind.build(self.config, self.data)

    def of_data(self) -> str:
        """A digest of every array of the data."""
        return digest(self.data)

    def of_model(self) -> str:
        """What the model is made of."""
        return json.dumps(snapshot(self.model, {}), default=str)

    def of_batches(self) -> str:
        """A digest of the first training batch."""
        if not isinstance(self.kind, TrainedKind):
            return ""
        batch = next(iter(self.kind.batches(self.model, self.data, self.config).from_step(0).take(1)))
        return digest(tf.nest.map_structure(lambda tensor: tensor.numpy(), batch))

    def of_optimizer(self) -> str:
        """The optimizer's own description."""
        return repr(build_optimizer(self.config.optimizer, 100).get_config())


@functools.cache
def configuration(case: str, files: Path, extra: tuple[str, ...] = ()) -> RunConfig:
    system, settings = CASES[case]
    given = parse_settings([setting.format(files=files) for setting in (*settings, *extra)])
    return load_config(system=system, overrides=given, where_read=parse_settings(SMALL))


@functools.cache
def footprint(case: str, files: Path, extra: tuple[str, ...] = ()) -> Footprint:
    return Footprint(configuration(case, files, extra))


def consumed(key: str, config: RunConfig) -> bool:
    """Whether a module that uses such settings for this kind of model reads one of the name."""
    kind = {"heuristic": "retrieval", "interests": "retrieval"}.get(config.model.kind, config.model.kind)
    exports = {
        "user_tags": ("tags.export_user_tags", "tags.user_tag_signatures", "tags.tag_requests", "tags.tag_search"),
    }.get(kind, ("retrieval.export_retriever", "retrieval.retrieval_signatures", "retrieval.search"))
    prefix = next(prefix for prefix in SHARED_CONSUMERS if key.startswith(prefix))
    name = key.rpartition(".")[2]
    for pattern in SHARED_CONSUMERS[prefix]:
        for export in exports if "{export}" in pattern else ("",):
            source = inspect.getsource(importlib.import_module(pattern.format(kind=kind, export=export)))
            if re.search(rf"(\.|\s){name}\b", source):
                return True
    return False


def changes(key: str, before: Footprint, after: Footprint) -> bool:
    """Whether anything that can be seen differs."""
    seen: list[Callable[[Footprint], str]] = []
    if key.startswith("optimizer."):
        seen = [Footprint.of_optimizer]
    elif key.startswith("model.") or key == "seed":
        seen = [Footprint.of_model, Footprint.of_batches]
    elif key.startswith("data."):
        seen = [Footprint.of_data, Footprint.of_model, Footprint.of_batches]
    return any(look(before) != look(after) for look in seen)


@pytest.mark.slow
@pytest.mark.parametrize("case", [pytest.param(case, marks=pytest.mark.long) if " of " in case else case for case in CASES])
def test_every_setting_is_refused_or_changes_something(case: str, files: Path) -> None:
    silent, unexplained = [], []
    for key in schema_keys():
        current = value_at(configuration(case, files).model_dump(), key)
        value = VALUES.get(key, another_value(key, current))
        if value is None:
            continue
        given: dict[str, Any] = value
        for part in reversed(key.split(".")):
            given = {part: given}
        beside = BESIDE.get(key, ())
        system, settings = CASES[case]
        base = parse_settings([setting.format(files=files) for setting in settings])
        try:
            changed = load_config(system=system, overrides=merge(base, given), where_read=parse_settings([*SMALL, *beside]))
        except ConfigError as error:
            if not str(error).strip():
                unexplained.append(key)
            continue
        before = Footprint(load_config(system=system, overrides=base, where_read=parse_settings([*SMALL, *beside])))
        shared = footprint(case, files)
        if before.config == shared.config:
            before = shared
        after = Footprint(changed)
        if not key.startswith("data."):
            after.data = before.data
        try:
            if not changes(key, before, after) and not consumed_if_late(key, changed):
                silent.append(key)
        except TfmiError:
            continue  # refused by the data: a dataset, a feature or a component that cannot be had
    assert silent == []
    assert unexplained == []


def consumed_if_late(key: str, config: RunConfig) -> bool:
    """``consumed`` for settings that are used after the model is built or while files are read."""
    return (
        any(key.startswith(prefix) for prefix in SHARED_CONSUMERS)
        and (key == "data.split.cold_items" or not key.startswith(("data.split", "data.embedded", "data.tagging", "data.impressions")))
        and consumed(key, config)
    )

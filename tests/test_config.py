"""A configuration is typed, round-trips through YAML, and says what is wrong with a bad one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfmi.config import merge, parse_settings, read_config_file, validate_config
from tfmi.errors import ConfigError
from tfmi.models.systems import SYSTEMS, load_config


def test_defaults_round_trip_through_yaml(tmp_path: Path) -> None:
    config = load_config(settings=["model.dimension=32", "data.log.columns.user=customer", "optimizer.learning_rate=1e-4"])
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert validate_config(read_config_file(path)) == config
    assert load_config(path) == config
    assert config.optimizer.learning_rate == 1e-4


def test_infinite_power_round_trips(tmp_path: Path) -> None:
    config = load_config(settings=["model.readout={name: label_aware, power: .inf}"])
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(path).model.readout["power"] == float("inf")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["modle.dimension=3"], "modle: unknown key (did you mean 'model'?)"),
        (["model.dimensions=3"], "model.dimensions: unknown key (did you mean 'dimension'?)"),
        (["model.dimension=wide"], "model.dimension: Input should be a valid integer"),
        (["model.dimension=0"], "model.dimension: Input should be greater than or equal to 1"),
        (["training.batch_size=1.5"], "training.batch_size"),
        (["training.mixed_precision=1"], "training.mixed_precision: Input should be a valid boolean"),
        (["data.dataset=movielense"], "data.dataset"),
        (["data.split.method=random"], "data.split.method"),
        (["model.item_tower.features=3"], "model.item_tower.features"),
        (
            ["model.extractor.num_interest=4"],
            "model.extractor.num_interest: unknown parameter of extractor 'capsule_routing' (did you mean",
        ),
        (["model.extractor.num_interests=four"], "model.extractor.num_interests"),
        (["model.extractor.name=capsule_rooting"], "unknown extractor 'capsule_rooting' (did you mean 'capsule_routing'?)"),
        (["model.objective.sampler=zipf"], "model.objective.sampler"),
        (["model.kind=counting"], "model.counter: model.kind 'counting' needs one"),
        (["model.counter={name: item_knn}"], "model.counter: given, but model.kind is 'interests'"),
        (["model.item_tower={use_id: false, features: []}"], "nothing is left to embed"),
        (["training.monitor=recall@33"], "training.monitor"),
        (["training.monitor=recal@50"], "training.monitor"),
        (["model.dimension"], "expected section.key=value"),
        (["model={dimension: ["], "not valid YAML"),
    ],
)
def test_bad_settings_are_refused_by_key(settings: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(settings=settings)
    assert expected in str(error.value)


def test_every_problem_is_reported_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        load_config(settings=["model.dimension=x", "training.batch_size=0"])
    assert len(str(error.value).splitlines()) == 2


def test_unknown_system_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'comirec_sa'"):
        load_config(system="comirec_as")


@pytest.mark.parametrize("content", ["- a list\n", "just text\n", "model: [unclosed\n", "\x00"])
def test_config_files_that_are_no_mapping_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load_config(path)


def test_missing_config_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot read"):
        load_config(tmp_path / "absent.yaml")


def test_yaml_cannot_construct_objects(tmp_path: Path) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text("system: !!python/object/apply:os.getcwd []\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(path)


def test_precedence_is_recipe_file_overrides_settings(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("system: comirec_sa\nseed: 5\nmodel: {dimension: 16, extractor: {num_interests: 7}}\n", encoding="utf-8")
    config = load_config(path, settings=["model.dimension=8"], overrides={"seed": 6})
    assert config.model.extractor["name"] == "self_attentive"
    assert config.model.extractor["num_interests"] == 7
    assert (config.model.dimension, config.seed, config.system) == (8, 6, "comirec_sa")


def test_a_recipe_of_ones_own_needs_no_change_to_the_package(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "system: my_recipe\nmodel:\n  extractor: {name: self_attentive, num_interests: 3}\n  readout: {name: max_sim}\n"
        "  objective: {name: full_softmax}\n",
        encoding="utf-8",
    )
    config = load_config(path)
    assert config.system == "my_recipe"
    assert config.model.readout == {"name": "max_sim"}


def test_another_component_name_drops_the_old_parameters() -> None:
    merged = merge({"extractor": {"name": "a", "x": 1}}, {"extractor": {"name": "b", "y": 2}})
    assert merged == {"extractor": {"name": "b", "y": 2}}
    assert merge({"extractor": {"name": "a", "x": 1}}, {"extractor": {"y": 2}}) == {"extractor": {"name": "a", "x": 1, "y": 2}}


def test_settings_nest_and_parse_yaml() -> None:
    assert parse_settings(["a.b=1e-3", "a.c=[1, 2]", "d=null"]) == {"a": {"b": 1e-3, "c": [1, 2]}, "d": None}


@pytest.mark.parametrize("system", sorted(SYSTEMS))
def test_every_system_is_a_valid_configuration(system: str) -> None:
    assert load_config(system=system).system == system


CONFIG_FILES = sorted((Path(__file__).resolve().parents[1] / "training" / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIG_FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_shipped_configuration_is_valid(path: Path) -> None:
    assert load_config(path).system == path.stem

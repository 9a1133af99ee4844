"""A configuration is typed, round-trips through YAML, and says what is wrong with a bad one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from tfmi.config import merge, parse_settings, parse_yaml, read_config_file, validate_config
from tfmi.core.errors import ConfigError
from tfmi.layers.base import ConfiguredLayer
from tfmi.layers.common.history_dropout import ElementDropout
from tfmi.models.kind_settings import settings_yaml
from tfmi.models.systems import SYSTEMS, load_config


def test_defaults_round_trip_through_yaml(tmp_path: Path) -> None:
    config = load_config(
        settings=["model.dimension=32", "data.dataset=log", "data.log.columns.user=customer", "optimizer.learning_rate=1e-4"]
    )
    path = tmp_path / "config.yaml"
    path.write_text(settings_yaml(config), encoding="utf-8")
    assert validate_config(read_config_file(path)) == config
    assert load_config(path) == config
    assert config.optimizer.learning_rate == 1e-4


def test_infinite_power_round_trips(tmp_path: Path) -> None:
    config = load_config(settings=["model.readout={name: label_aware, power: .inf}"])
    path = tmp_path / "config.yaml"
    path.write_text(settings_yaml(config), encoding="utf-8")
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
        (["data.dataset=movielense"], "or 'sessions', got 'movielense' (did you mean 'movielens'?)"),
        (["model.readout.mode=scales"], "model.readout.mode: Input should be 'pow' or 'scale', got 'scales' (did you mean 'scale'?)"),
        (["evaluation.cutoffs=[0, 50]"], "evaluation.cutoffs.0: Input should be greater than or equal to 1, got 0"),
        (["evaluation.cutoffs=[10, 50, 10]"], "evaluation.cutoffs: expected each number once, got [10, 50, 10]"),
        (["model.user_tower.hidden=[-3]"], "model.user_tower.hidden.0"),
        (["model.item_tower.hidden=[8, 0]"], "model.item_tower.hidden.1"),
        (["export.warmup_batch_sizes=[0]"], "export.warmup_batch_sizes.0"),
        (["export.name=../elsewhere"], "export.name: expected letters, digits"),
        (['export.name="x\\n"'], "export.name: expected letters, digits"),
        (["data.split.valid_share=0.6", "data.split.test_share=0.4"], "data.split: valid_share and test_share must add up to less than 1"),
        (["optimizer.learning_rate=.inf"], "optimizer.learning_rate: Input should be a finite number"),
        (["model.temperature=.nan"], "model.temperature: Input should be a finite number"),
        (["model.readout.power=.nan"], "model.readout.power: expected a number, got nan"),
        (["model.extractor.num_interests=0"], "model.extractor: num_interests: expected a number of at least 1, got 0"),
        (["model.readout.power=-1"], "model.readout: power"),
        (["model.objective.num_sampled=0"], "model.objective: num_sampled"),
        (["data.split.method=random"], "data.split.method"),
        (["model.item_tower.features=3"], "model.item_tower.features"),
        (
            ["model.extractor.num_interest=4"],
            "model.extractor.num_interest: unknown parameter of extractor 'capsule_routing' (did you mean",
        ),
        (["model.extractor.num_interests=four"], "model.extractor.num_interests"),
        (["model.extractor.name=capsule_rooting"], "unknown extractor 'capsule_rooting' (did you mean 'capsule_routing'?)"),
        (["model.objective.sampler=zipf"], "model.objective.sampler"),
        (["model.kind=heuristic"], "model.heuristic: model.kind 'heuristic' needs one"),
        (["model.heuristic={name: item_knn}"], "model.heuristic: given, but model.kind is 'interests'"),
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


ALIASES_THAT_GROW = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 10)}]\n" for before, name in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("seed: 1\ndata: {}\nseed: 2\n", r"line 3, column 1: the key 'seed' stands twice, first in line 1"),
        ("data:\n  log: {shards: 1,\n   shards: 2}\n", r"line 3, column 4: the key 'shards' stands twice, first in line 2"),
        ("data: " + "[" * 2000, r"line 1, column 56: more than 50 brackets"),
        (
            ALIASES_THAT_GROW,
            r"line 5, column 4: aliases that stand for more than 100,000 values",
        ),
        ("a: &a [*a]\n", r"line 1, column 4: an alias of what it stands in"),
        ("seed: " + "9" * 5000, r"line 1, column 7: a number of 5,000 characters"),
        ("seed: 1." + "9" * 5000, r"line 1, column 7: a number of 5,002 characters"),
        ("seed: [1\nb: 2", r"line 2, column 2: expected"),
    ],
)
def test_yaml_that_is_too_much_or_twice_is_refused_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=rf"c\.yaml: not valid YAML: {message}") as caught:
        read_config_file(path)
    assert len(str(caught.value)) < 400


def test_merge_keys_are_no_keys_twice() -> None:
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: {<<: *a}", "f")["b"] == {"x": 3, "y": 2}


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("columns.user=0", "0"),
        ("columns.user=010", "010"),
        ("columns.user=12:30", "12:30"),
        ("columns.user=2024-05-01", "2024-05-01"),
        ("columns.user=2024-99-99", "2024-99-99"),
        ("columns.user=0x1F", "0x1F"),
    ],
)
def test_what_yaml_reads_as_numbers_and_dates_is_a_text_where_texts_are_meant(setting: str, expected: str) -> None:
    config = validate_config(parse_settings([f"data.log.{setting}"]))
    assert config.data.log.columns.user == expected


def test_whole_numbers_are_texts_in_lists_and_as_keys() -> None:
    settings = ["data.log.columns.event=type", "data.log.event_types=[0,2]", "data.log.profile_columns=[1]", "data.tagging.tasks={1: 2.0}"]
    config = validate_config(parse_settings([*settings, "data.path=2024", "model.item_tower.features=[7]"]))
    assert config.data.log.event_types == ["0", "2"]
    assert config.data.log.profile_columns == ["1"]
    assert config.data.tagging.tasks == {"1": 2.0}
    assert config.data.path == "2024"
    assert config.model.item_tower.features == ["7"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "data.log.event_types=[on,yes]",
            "event_types.0: .*got True: YAML reads on, off, yes, no, true and false as truth",
        ),
        ("data.log.profile_columns=[no]", "got False: YAML reads"),
        ("data.log.columns.user=yes", "columns.user: .*put quotes around it"),
        ("data.log.profile_columns=[~]", "got None; put quotes around it"),
        ("data.log.profile_columns=[1.50]", "got 1.5; put quotes around it"),
        ("data.tagging.tasks={on: 2.0}", "got True: YAML reads"),
        ("seed=true", "got True$"),
    ],
)
def test_truth_values_where_texts_are_meant_are_told_to_be_quoted(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate_config(parse_settings(["data.log.columns.event=type", setting]))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.log.encoding=klingon", "expected the name of a text encoding"),
        ("data.log.encoding=rot13", "expected the name of a text encoding"),
        ("data.log.encoding=punycode", "not an encoding of text files"),
        ("data.log.column_names=[a]", "set header: false, too"),
        ("data.log.delimiter='a\"b'", "delimiter cannot be"),
        ("data.log.time_format=yyyymmdd", "%Y%m%d for yyyymmdd"),
        ("data.log.time_format='%q'", "'q' is a bad directive"),
        ("data.log.catalogue_columns.property=p", "needs both property and value"),
        ("data.log.catalogue_file={header: false, column_names: [a, a]}", "name each column once"),
    ],
)
def test_files_options_that_cannot_be_are_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate_config(parse_settings([setting]))


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


def test_cutoffs_come_in_any_order() -> None:
    assert load_config(settings=["evaluation.cutoffs=[50, 5]"]).evaluation.cutoffs == [5, 50]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # A misspelt system is not a system of your own, whatever else the file says.
        ("system: comirec_das\nmodel: {dimension: 32}\n", "unknown system 'comirec_das' (did you mean 'comirec_sa'?)"),
        ("system: my_recipe\nmodel: {extractor: {num_interests: 3}}\n", "unknown system 'my_recipe'"),
        (
            "model: {extractor: {name: self_attentive}}\n",
            "but system 'mind' is made of 'capsule_routing'; give your own combination a name",
        ),
        ("system: comirec_sa\nmodel: {extractor: {name: mean_pooling}}\n", "but system 'comirec_sa' is made of 'self_attentive'"),
        ("system: item_knn\nmodel: {heuristic: {name: popularity}}\n", "model.heuristic: 'popularity', but system 'item_knn'"),
        ("system: my/recipe\nmodel: {extractor: {name: mean_pooling}}\n", "system: expected letters, digits"),
        ("system: 7\n", "unknown system 7"),
    ],
)
def test_recipes_are_not_confused(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert expected in str(error.value)


def test_a_system_of_ones_own_inherits_no_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("system: my_knn\nmodel: {kind: heuristic, heuristic: {name: item_knn}}\n", encoding="utf-8")
    assert load_config(path).system == "my_knn"
    of_settings = load_config(settings=["system=mine", "model.extractor={name: mean_pooling}"])
    assert (of_settings.system, of_settings.model.user_tower.hidden) == ("mine", [])
    with pytest.raises(ConfigError, match=r"model\.extractor"):
        load_config(path, system="mind", settings=["model.extractor.name=mean_pooling", "model.kind=interests", "model.heuristic=null"])


@pytest.mark.parametrize(
    ("system", "earlier", "now"),
    [
        (
            "sasrec",
            {"name": "transformer", "dropout": 0.3, "seed": 4},
            {"name": "newest_state", "seed": 4, "encoder": {"name": "transformer", "positions": "newest", "dropout": 0.3}},
        ),
        (
            "gru4rec",
            {"name": "recurrent", "hidden_dimension": 5, "dropout": 0.3, "use_bias": False},
            {
                **{"name": "newest_state", "project": True, "output_dropout": 0.3, "use_bias": False},
                "encoder": {"name": "gru", "hidden_dimension": 5, "use_bias": False},
            },
        ),
        (
            "nextitnet",
            {"name": "convolutional", "dilations": [1, 2]},
            {"name": "newest_state", "project": True, "encoder": {"name": "dilated_convolution", "dilations": [1, 2]}},
        ),
        (
            "mtaw",
            {"name": "interest_trend", "query": "mean", "residual": "item"},
            {"name": "interest_trend", "query": "mean", "encoder": {"name": "interest_tracking", "residual": "item"}},
        ),
    ],
)
def test_extractors_that_repeated_their_encoders_arguments_are_read_in_the_current_form(
    tmp_path: Path, system: str, earlier: dict[str, Any], now: dict[str, Any]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"system: {system}\nmodel: {{extractor: {json.dumps(earlier)}}}\n", encoding="utf-8")
    assert load_config(path).model.extractor == now
    stored = {**load_config(system=system).model_dump(), "model": {"extractor": earlier}}
    found = validate_config(stored).model.extractor
    assert found == {**now, "encoder": {key: value for key, value in now["encoder"].items() if key == "name" or key in earlier}}


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("model.extractor.dropout=0.5", "its encoder takes it: model.extractor.encoder.dropout; it takes: encoder, project"),
        ("model.extractor.encoder={name: gru}", "'newest_state over gru', but system 'sasrec' is made of 'newest_state over transformer'"),
    ],
)
def test_settings_of_an_encoder_stand_at_the_encoder(setting: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(expected)):
        load_config(system="sasrec", settings=[setting])


@pytest.mark.parametrize("system", sorted(SYSTEMS))
def test_a_resolved_configuration_loads_again(tmp_path: Path, system: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(settings_yaml(load_config(system=system)), encoding="utf-8")
    assert load_config(path) == load_config(system=system)


@pytest.mark.slow
def test_checking_components_starts_no_device() -> None:
    code = (
        "from tfmi.models.systems import load_config; load_config()\n"
        "from tensorflow.python.eager import context\n"
        "assert not context.context()._initialized"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_checking_components_leaves_layers_that_are_alive_alone() -> None:
    layer = ElementDropout(0.0)
    bases = ConfiguredLayer.__bases__
    load_config(settings=["model.extractor.num_interests=7"])
    assert ConfiguredLayer.__bases__ == bases
    assert layer(tf.ones([2])).numpy().tolist() == [1.0, 1.0]


def test_another_component_name_drops_the_old_parameters() -> None:
    merged = merge({"extractor": {"name": "a", "x": 1}}, {"extractor": {"name": "b", "y": 2}})
    assert merged == {"extractor": {"name": "b", "y": 2}}
    assert merge({"extractor": {"name": "a", "x": 1}}, {"extractor": {"y": 2}}) == {"extractor": {"name": "a", "x": 1, "y": 2}}


def test_a_section_with_a_name_is_no_component() -> None:
    merged = merge({"export": {"name": "a", "num_results": 7}}, {"export": {"name": "b"}})
    assert merged == {"export": {"name": "b", "num_results": 7}}


def test_settings_nest_and_parse_yaml() -> None:
    assert parse_settings(["a.b=1e-3", "a.c=[1, 2]", "d=null"]) == {"a": {"b": 1e-3, "c": [1, 2]}, "d": None}


@pytest.mark.parametrize("system", sorted(SYSTEMS))
def test_every_system_is_a_valid_configuration(system: str) -> None:
    assert load_config(system=system).system == system


CONFIG_FOLDER = Path(__file__).resolve().parents[1] / "training" / "configs"
CONFIG_FILES = sorted(CONFIG_FOLDER.rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIG_FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_shipped_configuration_is_valid(path: Path) -> None:
    system = load_config(path).system
    # Others are named after what they are best on, or beside what they are compared.
    assert system == path.stem or path.parent.name in ("best", "movielens")


class TestRankers:
    def test_mgipf_is_known_by_its_coarse_heads_around_any_backbone(self) -> None:
        assert load_config(system="mgipf", settings=["model.ranker.backbone.name=dcn"]).model.ranker.backbone == {"name": "dcn"}
        with pytest.raises(ConfigError, match=r"model\.ranker\.backbone: 'din', but system 'mgipf' is made of 'any, with coarse features'"):
            load_config(system="mgipf", settings=["model.ranker.coarse_features=[]"])

    def test_a_bare_backbone_is_known_by_itself(self) -> None:
        with pytest.raises(ConfigError, match="'dcn', but system 'din' is made of 'din'"):
            load_config(system="din", settings=["model.ranker.backbone.name=dcn"])
        with pytest.raises(ConfigError, match="'any, with coarse features', but system 'din'"):
            load_config(system="din", settings=["model.ranker.coarse_features=[category]"])

    def test_a_ranker_of_ones_own_has_a_name_of_its_own(self) -> None:
        config = load_config(
            settings=["system=mine", "model.kind=ranking", "model.ranker.backbone={name: autoint}", "training.monitor=gauc"]
        )
        assert config.model.ranker.coarse_features == "auto"

    @pytest.mark.parametrize(
        ("setting", "expected"),
        [
            ("training.monitor=recall@50", "training.monitor: a model that ranks is chosen by one of auc, gauc"),
            ("model.ranker.backbone={name: dinn}", "unknown backbone 'dinn' (did you mean 'din'?)"),
            ("model.ranker.backbone.attention_hidden=[]", "model.ranker.backbone: hidden: expected at least one layer"),
            ("model.ranker.partial_interest=1.5", "model.ranker.partial_interest"),
            ("model.ranker.coarse_features=[category, category]", "model.ranker.coarse_features: each once"),
        ],
    )
    def test_what_cannot_be_is_refused(self, setting: str, expected: str) -> None:
        with pytest.raises(ConfigError, match=re.escape(expected)):
            load_config(system="mgipf", settings=[setting])

    def test_nothing_to_embed_is_refused(self) -> None:
        off = ["model.ranker.use_id=false", "model.ranker.use_popularity=false", "model.ranker.features=[]"]
        with pytest.raises(ConfigError, match="nothing is left to embed"):
            load_config(system="din", settings=off)


@pytest.mark.parametrize("text", ["%Y%m%d", "%d/%m/%Y %H:%M", "|", "::", ",", ";", "#", "^^", "*", "-", "@"])
def test_punctuation_on_the_command_line_is_text(text: str) -> None:
    """A format of times or a delimiter needs no quotes beside those of the shell."""
    assert parse_settings([f"a={text}"]) == {"a": text}


def test_yaml_of_its_own_stays_yaml_on_the_command_line() -> None:
    values = {"-3": -3, "~": None, "": None, "'%x'": "%x", "[a, b]": ["a", "b"], "{a: 1}": {"a": 1}, "--x": "--x"}
    assert {text: parse_settings([f"a={text}"])["a"] for text in values} == values


def test_a_text_that_yaml_cannot_begin_is_told_to_be_quoted() -> None:
    with pytest.raises(ConfigError, match=r"line 1, column 14: .*; put quotes around the text"):
        parse_yaml("time_format: %Y%m%d", "a.yaml")

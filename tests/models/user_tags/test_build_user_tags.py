"""Models of tags as configurations describe them."""

from __future__ import annotations

import pytest

from tests.data.tags.tag_logs import LOG, make_dataset
from tfmi.core.errors import ConfigError
from tfmi.data.tags.tag_dataset import TagDataset
from tfmi.models.systems import SYSTEMS, load_config
from tfmi.models.user_tags.build_user_tag_model import build_user_tag_model
from tfmi.models.user_tags.user_tag_model import UserTagModel

TAG_SYSTEMS = sorted(name for name, system in SYSTEMS.items() if system.recipe["model"].get("kind") == "user_tags")
TWO_TASKS = "data.tagging.tasks={watched: 0.0, liked: 4.0}"


@pytest.fixture(scope="module")
def dataset() -> TagDataset:
    return make_dataset(LOG, tasks={"watched": 0.0, "liked": 4.0})


def build(dataset: TagDataset, system: str, *settings: str) -> UserTagModel:
    return build_user_tag_model(load_config(system=system, settings=[TWO_TASKS, *settings]), dataset)


def test_there_are_the_papers_models_and_their_baselines() -> None:
    assert TAG_SYSTEMS == ["mvke", "tag_esmm", "tag_mmoe", "tag_ple", "tag_shared_bottom", "tag_two_tower", "utpm"]


@pytest.mark.parametrize("system", TAG_SYSTEMS)
def test_every_system_has_a_model_for_the_tasks_of_the_data(dataset: TagDataset, system: str) -> None:
    model = build(dataset, system)
    assert model.task_names == ("watched", "liked")
    assert model.num_tag_rows == dataset.tags.num_rows
    assert model.exact_by_inner_product


def test_the_same_seed_gives_the_same_weights(dataset: TagDataset) -> None:
    first, again, other = (build(dataset, "utpm", f"seed={seed}").field_embedding.table("tags").numpy() for seed in (1, 1, 2))
    assert (first == again).all()
    assert not (first == other).all()


def test_fields_of_tags_share_a_table_unless_told_otherwise(dataset: TagDataset) -> None:
    shared, apart = build(dataset, "utpm"), build(dataset, "utpm", "model.user_tags.share_field_tables=false")
    assert shared.field_embedding.table("tags") is shared.field_embedding.table("liked_tags")
    assert apart.field_embedding.table("tags") is not apart.field_embedding.table("liked_tags")


def test_tags_can_share_it_too(dataset: TagDataset) -> None:
    model = build(dataset, "utpm", "model.user_tags.share_tag_table=true")
    assert model.tag_tower.table is model.field_embedding.table("tags")
    with pytest.raises(ConfigError, match="needs the shape"):
        build(dataset, "utpm", "model.user_tags.share_tag_table=true", "model.user_tags.field_dimension=8")


def test_fields_can_be_chosen(dataset: TagDataset) -> None:
    assert build(dataset, "utpm", "model.user_tags.fields=[items]").field_embedding.field_names == ("items",)
    with pytest.raises(ConfigError, match=r"model\.user_tags\.fields"):
        build(dataset, "utpm", "model.user_tags.fields=[artists]")
    with pytest.raises(ConfigError, match="at least one"):
        build(dataset, "utpm", "model.user_tags.fields=[]")
    with pytest.raises(ConfigError, match="no field of users holds tags"):
        build(dataset, "utpm", "model.user_tags.fields=[items]", "model.user_tags.share_tag_table=true")


def test_an_entire_space_needs_two_tasks() -> None:
    config = load_config(system="tag_esmm")
    with pytest.raises(ConfigError, match="two nested tasks"):
        build_user_tag_model(config, make_dataset(LOG))


class TestConfiguration:
    @pytest.mark.parametrize(
        ("setting", "expected"),
        [
            ("training.monitor=recall@50", r"training\.monitor: a model of tags"),
            ("training.monitor=hr@10", r"training\.monitor: a model of tags"),
            ("model.user_tags.encoder.dimension=4", "leave out dimension"),
            ("model.user_tags.encoder.num_experts=2", "num_experts: expected at least 3"),
            ("model.user_tags.task_loss={name: indepndent}", "independent"),
            ("model.user_tags.encoder={name: two_tower}", "made of 'virtual_kernel'"),
            ("model.user_tags.scoring=euclid", r"model\.user_tags\.scoring"),
        ],
    )
    def test_what_cannot_be_is_refused(self, setting: str, expected: str) -> None:
        with pytest.raises(ConfigError, match=expected):
            load_config(system="mvke", settings=[TWO_TASKS, setting])

    @pytest.mark.parametrize("monitor", ["auc", "log_loss", "precision@5", "recall@20", "ndcg@10"])
    def test_runs_can_be_chosen_by(self, monitor: str) -> None:
        assert load_config(system="utpm", settings=[f"training.monitor={monitor}"]).training.monitor == monitor

    def test_embeddings_of_tags_are_their_vectors_without_a_network(self) -> None:
        with pytest.raises(ConfigError, match="tag_dimension"):
            load_config(system="utpm", settings=["model.user_tags.tag_dimension=8"])
        wide = load_config(system="utpm", settings=["model.user_tags.tag_dimension=8", "model.user_tags.tag_hidden=[4]"])
        assert wide.model.user_tags.tag_dimension == 8

    def test_a_model_of_ones_own_has_a_name_of_its_own(self) -> None:
        settings = ["system=mine", "model.kind=user_tags", "model.user_tags.encoder={name: two_tower}", "training.monitor=auc"]
        assert load_config(settings=settings).model.user_tags.tag_hidden is None

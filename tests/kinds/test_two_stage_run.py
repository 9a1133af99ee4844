"""A ranker's run with an export: a retriever of the same split before it, both measured, both in one servable; resumable."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.kinds.test_ranking import SMALL
from tfmi.cli.evaluate import main as evaluate_main
from tfmi.cli.train import main
from tfmi.config import RunConfig
from tfmi.core.errors import ConfigError, DataError, ExportError
from tfmi.data.dataset import EvaluationSet
from tfmi.data.impressions.impression_loading import load_ranking_dataset
from tfmi.data.splitting.slicing import whole_rows
from tfmi.evaluation.two_stage_evaluation import TwoStageRanker
from tfmi.export import ExportedModel
from tfmi.export.profile_inputs import profile_values
from tfmi.kinds.base import kind_of
from tfmi.kinds.ranking import RankingKind
from tfmi.kinds.runner import describe_metrics, run
from tfmi.kinds.two_stage import TwoStageExport, retriever_config
from tfmi.models.systems import load_config
from tfmi.training.run_folder import RunFolder

RETRIEVER = "model.ranker.retriever"
SETTINGS = (
    *(setting for setting in SMALL if "coarse" not in setting),  # a bare backbone
    "training.max_steps=20",
    f"{RETRIEVER}.settings={{model: {{dimension: 8}}, training: {{max_steps: 12, batch_size: 64, evaluate_every: 6, tensorboard: false}}}}",
    "evaluation.cutoffs=[5, 10]",
    "evaluation.report=true",
    "evaluation.exclude_history=false",  # by default these clicks, which never repeat, would leave own items out
    "index.kind=exact",
    "export.num_results=10",
    "export.exclusion_width=4",
    "export.ranking_pool=2",
    "export.explain_interests=false",
    "export.warmup_batch_sizes=[1]",
)


def small(*settings: str) -> RunConfig:
    return load_config(system="deepfm", settings=[*SETTINGS, *settings])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``run`` and ``models`` of a run that was exported."""
    root = tmp_path_factory.mktemp("two_stage")
    folder = RunFolder(root / "run")
    folder.start(small())
    result = run(small(), folder, root / "models")
    assert result.savedmodel == root / "models" / "deepfm" / "1"
    return root


@pytest.mark.slow
def test_the_retriever_is_a_run_of_its_own_in_the_folder(finished: Path) -> None:
    retriever = RunFolder(finished / "run" / "retriever")
    config = retriever.stored_config()
    assert config == retriever_config(small())
    assert (config.system, config.model.dimension, config.training.monitor) == ("comirec_sa", 8, "recall@10")
    assert config.data == small().data
    metrics = json.loads(retriever.metrics.read_text())
    assert metrics["train"]["steps"] == 12
    whole = json.loads((finished / "run" / "metrics.json").read_text())
    assert whole["two_stage"]["retrieval"] == metrics["test"]


@pytest.mark.slow
def test_both_stages_are_reported_and_served(finished: Path) -> None:
    metrics = json.loads((finished / "run" / "metrics.json").read_text())
    measured = metrics["two_stage"]
    assert set(measured) == {"retriever", "retrieval", "ranked", "ranked_by_logits", "retrieval_weight", "pool"}
    assert measured["pool"]["size"] == 20
    assert measured["ranked"]["recall@10"] <= measured["pool"]["recall"]
    table = describe_metrics(small(), metrics)
    assert f"{measured['ranked']['ndcg@10']:.4f}" in table
    assert "comirec_sa" in table
    model = ExportedModel(finished / "models" / "deepfm" / "1")
    assert model.metadata["stages"] == ["retrieval", "ranking"]
    assert model.metadata["ranking"]["backbone"] == "deepfm"
    assert model.metadata["ranking"]["retrieval_weight"] == measured["retrieval_weight"]
    assert model.metadata["metrics"]["two_stage"]["ranked"]["recall@10"] == measured["ranked"]["recall@10"]
    assert {"rank", "user_interests", "recommend"} <= set(model.signature_names)
    assert {"recommend", "rank"} == model.metadata["latency"].keys()
    page = (finished / "run" / "report.html").read_text(encoding="utf-8")
    for shown in ("Calibration", "Both stages", "click rate", "against exact search", "Worst and best users", "Share of clicked rows"):
        assert shown in page
    low, high = metrics["test_intervals"]["auc"]
    assert low < metrics["test"]["auc"] < high


@pytest.mark.slow
def test_what_is_served_is_what_both_stages_answer_in_memory(finished: Path) -> None:
    loaded = RankingKind().load_finished(finished / "run")
    clicks = loaded.dataset.retrieval
    examples = clicks.test
    weight = json.loads((finished / "run" / "metrics.json").read_text())["two_stage"]["retrieval_weight"]
    folder = RunFolder(finished / "run" / "retriever")
    retriever = kind_of(folder.finished_config()).load_model(folder.finished_config(), clicks, folder)
    stages = TwoStageRanker(retriever, loaded.model, 20, retrieval_weight=weight)
    found = stages.retrieve(examples, batch_size=32, profiles=clicks.profiles)
    expected = stages.order(found, examples, batch_size=32, profiles=clicks.profiles)
    model = ExportedModel(finished / "models" / "deepfm" / "1")
    rows = np.arange(12)
    histories = whole_rows(examples.histories, rows)
    ids = np.array(["", "", *clicks.catalogue.vocabulary.ids], dtype=object)
    assert clicks.profiles is not None
    names = {entry["feature"] for entry in model.metadata["profile_inputs"]}
    profile = profile_values({name: clicks.profiles.features[name] for name in names}, histories.users)
    request = {
        "history": ids[histories.padded(loaded.config.data.history_length)],
        "exclude": np.full((12, 4), "", dtype=object),
        "diversity": np.zeros(12, np.float32),
        **profile,
    }
    answer = model.predict("recommend", request)
    np.testing.assert_allclose(answer["scores"], expected.scores[:12, :10], rtol=1e-3, atol=1e-4)
    same = np.char.decode(answer["item_ids"].astype(bytes)) == ids[expected.items[:12, :10]].astype(str)
    assert same.mean() > 0.95  # almost equal scores may change places


@pytest.mark.slow
def test_the_export_is_measured_through_its_signatures_on_the_same_clicks(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate_main([str(finished / "models" / "deepfm" / "1")]) == 0
    measured = json.loads(capsys.readouterr().out.splitlines()[-1])["metrics"]
    metrics = json.loads((finished / "run" / "metrics.json").read_text())["two_stage"]["ranked"]
    assert measured["recall@10"] == pytest.approx(metrics["recall@10"], abs=0.01)
    assert measured["ndcg@5"] == pytest.approx(metrics["ndcg@5"], abs=0.01)


@pytest.mark.slow
@pytest.mark.long
def test_resumed_it_exports_again_without_training(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--resume", "--output", str(finished / "run"), "--savedmodels", str(finished / "again"), "--set", "export.ranking_pool=3"]
    before = (finished / "run" / "retriever" / "curves.json").read_text()
    assert main(flags) == 0
    assert capsys.readouterr().out.count("Training had finished") == 2
    assert (finished / "run" / "retriever" / "curves.json").read_text() == before
    assert ExportedModel(finished / "again" / "deepfm" / "1").metadata["ranking"]["pool"] == 30


@pytest.mark.slow
@pytest.mark.long
def test_another_ranker_can_use_the_retriever_of_a_finished_run(finished: Path, tmp_path: Path) -> None:
    settings = [setting for setting in SETTINGS if not setting.startswith(RETRIEVER)]
    config = load_config(system="dcn", settings=[*settings, f"{RETRIEVER}.run={finished / 'run' / 'retriever'}"])
    folder = RunFolder(tmp_path / "run")
    folder.start(config)
    result = run(config, folder, tmp_path / "models")
    assert result.metrics is not None
    assert not (tmp_path / "run" / "retriever").exists()
    first = json.loads((finished / "run" / "metrics.json").read_text())
    assert result.metrics["two_stage"]["retrieval"] == pytest.approx(first["two_stage"]["retrieval"])
    assert result.metrics["two_stage"]["ranked"] != first["two_stage"]["ranked"]


# What is refused before anything is trained


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ([f"{RETRIEVER}.system=mgipf"], "'mgipf' is of kind 'ranking'; expected a system that retrieves"),
        ([f"{RETRIEVER}.system=comirec"], "model.ranker.retriever: system: unknown system 'comirec'"),
        ([f"{RETRIEVER}.settings.data.history_length=3"], "data cannot differ between the stages"),
        ([f"{RETRIEVER}.settings.model.dimensions=3"], "model.ranker.retriever: model.dimensions: unknown key"),
    ],
)
def test_retrievers_that_cannot_be_are_refused(settings: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        retriever_config(small(*settings))
    assert complaint in str(raised.value)


def test_settings_of_a_finished_run_are_refused() -> None:
    with pytest.raises(ConfigError, match="settings do nothing to a run that is finished"):
        small(f"{RETRIEVER}.run=somewhere")


def test_what_cannot_be_exported_is_known_before_training(tmp_path: Path) -> None:
    config = small()
    dataset = load_ranking_dataset(config.data)
    folder = RunFolder(tmp_path / "run")
    settings = [setting for setting in SETTINGS if not setting.startswith(RETRIEVER)]
    absent = load_config(system="deepfm", settings=[*settings, f"{RETRIEVER}.run={tmp_path / 'absent'}"])
    with pytest.raises(ConfigError, match="expected the folder of a run"):
        TwoStageExport(absent, dataset, folder, tmp_path / "models")
    (tmp_path / "file").write_text("")
    with pytest.raises((ExportError, NotADirectoryError)):
        TwoStageExport(config, dataset, folder, tmp_path / "file" / "model")
    clicks = dataset.retrieval
    no_row = np.arange(0)
    empty = EvaluationSet(whole_rows(clicks.valid.histories, no_row), whole_rows(clicks.valid.targets, no_row))
    nobody = replace(clicks, valid=empty)
    with pytest.raises(DataError, match="a retriever has nothing in valid"):
        TwoStageExport(config, replace(dataset, retrieval=nobody), folder, tmp_path / "models")
    TwoStageExport(config, dataset, folder, tmp_path / "models")
    assert not folder.path.exists()
    assert not (tmp_path / "models").exists()

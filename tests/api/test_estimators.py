"""What holds for models of every kind: one contract, run for each class of the library."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import tfmi
from tests.api.tables import EVERYTHING, SMALL, shop
from tfmi.api.estimator import Estimator
from tfmi.cli.evaluate import main as evaluate
from tfmi.cli.train import main as train
from tfmi.training.run_folder import RunFolder

ASKED = ("user-1", "user-2")


class EstimatorContract:
    """Subclasses say which class and system, on what data, and how it is asked."""

    estimator: ClassVar[type[Estimator]]
    system: ClassVar[str]
    settings: ClassVar[dict[str, Any]] = SMALL
    of_another_class: ClassVar[str]
    index: ClassVar[str | None] = "exact"  # None: nothing that its export searches
    metric: ClassVar[str]

    @staticmethod
    def make_dataset() -> tfmi.Dataset:
        raise NotImplementedError

    @staticmethod
    def ask(model: Any, users: Sequence[str] = ASKED) -> pd.DataFrame:
        """Answers about users of the data."""
        raise NotImplementedError

    @staticmethod
    def ask_anybody(model: Any) -> pd.DataFrame:
        """Answers about somebody who is not in the data."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    def dataset(self) -> tfmi.Dataset:
        return self.make_dataset()

    @pytest.fixture(scope="class")
    def fitted(self, dataset: tfmi.Dataset) -> Any:
        return self.estimator(self.system, **self.settings).fit(dataset)

    @pytest.fixture(scope="class")
    def saved(self, fitted: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder: Path = fitted.save(tmp_path_factory.mktemp("saved") / "run")
        return folder

    @pytest.fixture(scope="class")
    def version(self, saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """What a saved and loaded one exports."""
        folder: Path = tfmi.load(saved).export(tmp_path_factory.mktemp("exported") / "model", index=self.index)
        return folder

    def test_the_answers_are_a_table(self, fitted: Any) -> None:
        answers = self.ask(fitted)
        assert list(answers.columns[:2]) == ["user", "rank"]
        assert set(answers["user"]) == set(ASKED)
        assert np.isfinite(answers["score"]).all()
        for _, of_user in answers.groupby(["user", *(["task"] if "task" in answers else [])]):
            assert of_user["rank"].tolist() == list(range(1, len(of_user) + 1))
            assert of_user["score"].is_monotonic_decreasing

    def test_it_measures_what_metrics_json_holds(self, fitted: Any, dataset: tfmi.Dataset, saved: Path) -> None:
        stored = RunFolder(saved).read_metrics()
        assert fitted.evaluate(dataset.test) == stored["test"] == fitted.metrics["test"]
        assert fitted.evaluate(dataset.valid) == stored["valid"]
        assert self.metric in stored["test"]
        with pytest.raises(tfmi.ConfigError, match="training part"):
            fitted.evaluate(dataset.train)

    def test_a_saved_one_loads_and_answers_alike(self, fitted: Any, saved: Path) -> None:
        loaded = tfmi.load(saved)
        assert type(loaded) is self.estimator
        pd.testing.assert_frame_equal(self.ask(loaded), self.ask(fitted))
        assert loaded.metrics == fitted.metrics
        with pytest.raises(tfmi.ConfigError, match="is not empty"):
            loaded.save(saved)

    def test_an_exported_one_answers_alike(self, fitted: Any, version: Path, tmp_path: Path) -> None:
        exported = tfmi.load(version.parent)
        assert version.name == "1"
        assert type(exported) is self.estimator
        pd.testing.assert_frame_equal(self.ask_anybody(exported), self.ask_anybody(fitted), atol=1e-4)
        with pytest.raises(tfmi.ConfigError, match="does not know users by their ids"):
            self.ask(exported)
        with pytest.raises(tfmi.ConfigError, match="tfmi-evaluate"):
            exported.evaluate()
        for refused in (exported.save, exported.export):
            with pytest.raises(tfmi.ConfigError, match="is an exported version"):
                refused(tmp_path / "again")

    def test_it_is_of_no_use_before_fit(self, dataset: tfmi.Dataset, tmp_path: Path) -> None:
        fresh = self.estimator(self.system, **self.settings)
        uses = [lambda: self.ask(fresh), fresh.evaluate, lambda: fresh.save(tmp_path / "x"), lambda: fresh.export(tmp_path / "y")]
        for use in [*uses, lambda: fresh.model, lambda: fresh.metrics]:
            with pytest.raises(tfmi.ConfigError, match=r"is not fitted; call fit\(dataset\) first"):
                use()
        with pytest.raises(tfmi.DataError, match=r"expected a tfmi\.Dataset, got DataFrame"):
            fresh.fit(pd.DataFrame())

    def test_unknown_users_are_named(self, fitted: Any) -> None:
        with pytest.raises(tfmi.DataError, match=r"users: .*'user-1x'.*did you mean 'user-1\d?'"):
            self.ask(fitted, ["user-1x"])

    def test_mistakes_in_settings_are_refused(self) -> None:
        with pytest.raises(tfmi.ConfigError, match=r"dimensions: no such setting \(did you mean 'dimension'\?\)"):
            self.estimator(self.system, dimensions=3)
        with pytest.raises(tfmi.ConfigError, match="unknown system 'nothing'"):
            self.estimator("nothing")
        with pytest.raises(tfmi.ConfigError, match=f"{self.estimator.__name__} is for"):
            self.estimator(self.of_another_class)
        with pytest.raises(tfmi.ConfigError, match="belongs to the data"):
            self.estimator(self.system, **{"data.split.valid_share": 0.2}).fit(self.make_dataset())


class TrainedContract(EstimatorContract):
    """And of those that are trained by steps: the model is a Keras model like any other."""

    def test_keras_compiles_and_fits_it(self, dataset: tfmi.Dataset) -> None:
        model = self.estimator(self.system, **self.settings).build(dataset)
        model.model.compile(tf.keras.optimizers.Adam(0.05))
        seen: list[int] = []
        watching = tf.keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
        history = model.model.fit(dataset.batches(model), epochs=2, callbacks=[watching], verbose=0)
        assert history.history["loss"][1] < history.history["loss"][0]
        assert seen == [0, 1]
        assert np.isfinite(self.ask(model)["score"]).all()

    def test_keras_files_are_refused_with_what_to_call(self, fitted: Any, tmp_path: Path) -> None:
        for save in (
            lambda: fitted.model.save(tmp_path / "m.keras"),
            lambda: fitted.model.save(tmp_path / "folder"),
            lambda: tf.keras.models.save_model(fitted.model, tmp_path / "n.keras"),
        ):
            with pytest.raises(tfmi.ConfigError, match=r"save\(folder\).*export"):
                save()
        with pytest.raises(ValueError, match="cannot be saved"):
            tf.keras.models.save_model(fitted.model, str(tmp_path / "other"), save_format="tf")
        fitted.model.save_weights(str(tmp_path / "weights"))
        before = [variable.numpy() for variable in fitted.model.trainable_variables]
        fitted.model.load_weights(str(tmp_path / "weights"))
        assert all(np.array_equal(a, b.numpy()) for a, b in zip(before, fitted.model.trainable_variables, strict=True))


@pytest.mark.slow
class TestRecommender(TrainedContract):
    estimator = tfmi.Recommender
    system = "mind"
    settings: ClassVar[dict[str, Any]] = {**SMALL, "dimension": 8, "interests": 2, "monitor": "recall@5", "cutoffs": [5, 10]}
    of_another_class = "din"
    metric = "recall@5"

    @staticmethod
    def make_dataset() -> tfmi.Dataset:
        events, items, users = shop()
        return tfmi.Dataset.from_events(events, items=items, users=users, split="leave_one_out")

    @staticmethod
    def ask(model: Any, users: Sequence[str] = ASKED) -> pd.DataFrame:
        answer: pd.DataFrame = model.recommend(users, n=3)
        return answer

    @staticmethod
    def ask_anybody(model: Any) -> pd.DataFrame:
        answer: pd.DataFrame = model.recommend(histories=[["a1", "b2"], []], n=4, profiles=[{"city": "Oslo", "age": 3}, {}])
        return answer

    def test_it_recommends_finds_neighbours_and_shows_vectors(self, fitted: Any, caplog: pytest.LogCaptureFixture) -> None:
        answers = fitted.recommend(histories=[["a1", "of nobody"]], n=20, exclude=["a2", "a3"], diversity=0.5)
        assert len(answers) == 20
        assert not {"a2", "a3"} & set(answers["item"])
        assert "leaves them out: 'of nobody'" in caplog.text
        plain = fitted.recommend(histories=[["a1"]], n=20, exclude=["a2", "a3"])
        assert answers["item"].head(6).str[0].nunique() >= plain["item"].head(6).str[0].nunique()
        one, other = (fitted.recommend(histories=[["a1"], ["b1"]], exclude=each) for each in ([["a2"], ["b2"]], ["a2", "b2"]))
        assert "b2" not in set(one[one["user"] == 1]["item"])
        assert not {"a2", "b2"} & set(other["item"])
        similar = fitted.similar_items(["a1", "b1"], n=2)
        assert similar["item"].tolist() == ["a1", "a1", "b1", "b1"]
        assert not (similar["item"] == similar["similar"]).any()
        (interests,) = fitted.user_interests(histories=[["a1", "a2", "b1"]])
        vectors = fitted.item_vectors()
        assert interests.shape[1] == vectors.shape[1] == 8
        best = fitted.recommend(histories=[["a1", "a2", "b1"]], n=1).iloc[0]
        assert (interests @ vectors.loc[best["item"]].to_numpy()).max() == pytest.approx(best["score"], abs=1e-5)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({}, "give either users"),
            ({"users": ["user-1"], "histories": [["a1"]]}, "give either users"),
            ({"histories": ["a1", "a2"]}, "histories: expected a list of ids for each user"),
            ({"histories": [["a1"]], "n": 0}, "n: expected a whole number of at least 1, got 0"),
            ({"histories": [["a1"]], "diversity": -1}, "diversity: expected a number of at least 0"),
            ({"histories": [["a1"]], "exclude": [["a1"], ["a2"]]}, "exclude: expected one list for all users, or one for each of 1"),
            ({"histories": [[1.5]]}, "histories: expected ids"),
            ({"histories": [["a1"]], "profiles": [{"town": "Oslo"}]}, "the model has no field 'town'"),
            ({"histories": [["a1"]], "profiles": [{"age": "old"}]}, "field 'age' takes a number"),
            ({"histories": [["a1"]], "timestamps": [[1.0, 2.0]]}, "timestamps: expected a time in seconds for each item"),
        ],
    )
    def test_mistakes_in_questions_are_refused(self, fitted: Any, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(tfmi.TfmiError, match=message):
            fitted.recommend(**arguments)

    def test_the_program_measures_an_exported_one(self, fitted: Any, version: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert evaluate([str(version)]) == 0
        measured = json.loads(capsys.readouterr().out.splitlines()[-1])["metrics"]
        assert measured["recall@5"] == pytest.approx(fitted.metrics["test"]["recall@5"])

    def test_the_program_continues_a_saved_one(self, fitted: Any, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = RunFolder(saved).read_metrics()
        assert train(["--resume", "--no-export", "--output", str(saved)]) == 0
        again = RunFolder(saved).read_metrics()
        assert again["test"] == pytest.approx(before["test"])
        assert "Metrics" in capsys.readouterr().out

    def test_callbacks_of_keras_see_every_epoch(self, dataset: tfmi.Dataset) -> None:
        seen: list[dict[str, float]] = []
        watching = tf.keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(dict(logs)))
        self.estimator(self.system, **{**self.settings, "epochs": 2, "patience": 5}).fit(dataset, callbacks=[watching])
        assert len(seen) == 2
        assert all("loss" in logs for logs in seen)

    def test_batches_need_no_model(self, dataset: tfmi.Dataset) -> None:
        batches = dataset.batches(batch_size=16)
        assert next(iter(batches))["history"].shape == (16, 20)
        assert sum(1 for _ in batches) == -(-sum(dataset.train.data.lengths() - 1) // 16)

    def test_unknown_items_are_named(self, fitted: Any) -> None:
        with pytest.raises(tfmi.DataError, match="items: the model does not know 'a11'"):
            fitted.similar_items("a11")

    def test_what_was_trained_further_is_saved_as_it_is(self, dataset: tfmi.Dataset, tmp_path: Path) -> None:
        model = self.estimator(self.system, **self.settings).fit(dataset)
        model.model.compile(tf.keras.optimizers.Adam(0.05))
        model.model.fit(dataset.batches(model), epochs=1, verbose=0)
        loaded = tfmi.load(model.save(tmp_path / "run"))
        pd.testing.assert_frame_equal(self.ask(loaded), self.ask(model))
        assert train(["--resume", "--no-export", "--output", str(tmp_path / "run")]) == 1

    def test_other_data_needs_the_same_items(self, fitted: Any) -> None:
        events, _, users = shop()
        fewer = tfmi.Dataset.from_events(events[~events["item"].str.startswith("c")], users=users, split=EVERYTHING)
        with pytest.raises(tfmi.DataError, match="has other items"):
            fitted.evaluate(fewer.test)

    def test_it_trains_in_a_run_folder(self, dataset: tfmi.Dataset, fitted: Any, tmp_path: Path) -> None:
        model = self.estimator(self.system, **self.settings).fit(dataset, folder=tmp_path / "run")
        assert (tmp_path / "run" / "plots" / "training.png").exists()
        assert model.metrics["test"] == fitted.metrics["test"]  # the same seed, the same model
        pd.testing.assert_frame_equal(self.ask(tfmi.load(tmp_path / "run")), self.ask(fitted))
        with pytest.raises(tfmi.ConfigError, match="already holds a run"):
            model.fit(dataset, folder=tmp_path / "run")


@pytest.mark.slow
class TestHeuristic(EstimatorContract):
    estimator = tfmi.Recommender
    system = "item_knn"
    settings: ClassVar[dict[str, Any]] = {"cutoffs": [5, 10]}
    of_another_class = "utpm"
    index = None
    metric = "recall@5"
    make_dataset = staticmethod(TestRecommender.make_dataset)
    ask = staticmethod(TestRecommender.ask)

    @staticmethod
    def ask_anybody(model: Any) -> pd.DataFrame:
        answer: pd.DataFrame = model.recommend(histories=[["a1", "b2"], []], n=4)
        return answer

    test_the_program_continues_a_saved_one = TestRecommender.test_the_program_continues_a_saved_one

    def test_it_has_no_vectors_and_no_steps(self, fitted: Any, dataset: tfmi.Dataset) -> None:
        for use in (lambda: fitted.user_interests(["user-1"]), fitted.item_vectors):
            with pytest.raises(tfmi.ConfigError, match="counts; it has no vectors"):
                use()
        for use in (lambda: fitted.build(dataset), lambda: dataset.batches(fitted)):
            with pytest.raises(tfmi.ConfigError, match="is not trained by steps"):
                use()


@pytest.mark.slow
class TestRanker(TrainedContract):
    estimator = tfmi.Ranker
    system = "din"
    settings: ClassVar[dict[str, Any]] = {**SMALL, "dimension": 4, "hidden": [8], "retriever": "popularity"}
    of_another_class = "mind"
    index = None
    metric = "auc"

    @staticmethod
    def make_dataset() -> tfmi.Dataset:
        events, items, users = shop()
        return tfmi.Dataset.from_impressions(events, items=items, users=users)

    @staticmethod
    def ask(model: Any, users: Sequence[str] = ASKED) -> pd.DataFrame:
        answer: pd.DataFrame = model.rank(users, candidates=["a1", "b1", "c1"])
        return answer

    @staticmethod
    def ask_anybody(model: Any) -> pd.DataFrame:
        candidates = [["a1", "b1", "c1"], ["b1", "c1"]]
        answer: pd.DataFrame = model.rank(candidates=candidates, histories=[["a1"], []], profiles=[{"city": "Oslo", "age": 3}, {}])
        return answer

    def test_it_ranks(self, fitted: Any) -> None:
        assert len(fitted.rank(["user-1"], candidates=["a1", "b1", "c1"], n=2)) == 2
        with pytest.raises(tfmi.DataError, match="candidates: the model does not know 'zz'"):
            fitted.rank(["user-1"], candidates=["zz"])
        with pytest.raises(tfmi.DataError, match="at least one item"):
            fitted.rank(["user-1"], candidates=[])
        with pytest.raises(tfmi.ConfigError, match="orders what a retriever finds"):
            fitted.recommend(["user-1"])

    def test_an_exported_one_finds_and_ranks(self, version: Path) -> None:
        exported = tfmi.load(version)
        assert len(exported.recommend(histories=[["a1", "a2"]], n=4)) == 4


@pytest.mark.slow
class TestTagModel(TrainedContract):
    estimator = tfmi.TagModel
    system = "mvke"
    # A graph of few experts is made in no time.
    encoder: ClassVar[dict[str, Any]] = {"name": "virtual_kernel", "num_experts": 3, "body": {"name": "deepfm", "hidden": [8]}}
    settings: ClassVar[dict[str, Any]] = {**SMALL, "dimension": 4, "model.user_tags.encoder": encoder}
    of_another_class = "mind"
    metric = "auc"

    @staticmethod
    def make_dataset() -> tfmi.Dataset:
        events, items, users = shop()
        counts: dict[str, Any] = {"data.tagging.min_tag_count": 1, "data.tagging.min_value_count": 1}
        return tfmi.Dataset.from_tagged_events(events, items, users, weight="stars", tasks={"seen": 0.5, "liked": 4.0}, **counts)

    @staticmethod
    def ask(model: Any, users: Sequence[str] = ASKED) -> pd.DataFrame:
        answer: pd.DataFrame = model.user_tags(users, n=3)
        return answer

    @staticmethod
    def ask_anybody(model: Any) -> pd.DataFrame:
        answer: pd.DataFrame = model.user_tags(profiles=[{"city": "Oslo", "age": 3}, {}], n=3)
        return answer

    def test_tags_users_and_reasons(self, fitted: Any) -> None:
        tags = fitted.user_tags(["user-1"], n=4, exclude=["A"])
        assert set(tags["task"]) == {"seen", "liked"}
        assert "A" not in set(tags["tag"])
        found = fitted.tag_users(["A", "B"], n=3)
        assert found.groupby(["tag", "task"]).size().eq(3).all()
        assert set(found["user"]) <= {f"user-{number}" for number in range(40)}
        explanations = fitted.explain("user-1", "A")
        assert [each.task for each in explanations] == ["seen", "liked"]
        of_user = fitted.user_tags(["user-1"], n=50)
        seen = of_user[(of_user["task"] == "seen") & (of_user["tag"] == "A")]
        assert explanations[0].score == pytest.approx(seen["score"].iloc[0], abs=1e-4)
        with pytest.raises(tfmi.DataError, match="tags: the model does not know 'nothing'"):
            fitted.tag_users("nothing")


@pytest.mark.slow
@pytest.mark.long
class TestPrograms:
    """The program continues what the library has saved, for the other kinds, too."""

    @pytest.mark.parametrize("case", [TestRanker, TestTagModel], ids=["ranker", "tags"])
    def test_it_continues(self, case: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        fitted = case.estimator(case.system, **case.settings).fit(case.make_dataset())
        TestRecommender().test_the_program_continues_a_saved_one(fitted, fitted.save(tmp_path / "run"), capsys)

"""The embedded log: repeatable, believable, and solvable by whoever finds the interests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest

from tfmi.config import DataConfig, EmbeddedConfig
from tfmi.core.errors import ConfigError
from tfmi.data.dataset import CategoricalFeature, EvaluationSet, InteractionDataset, MultiValuedFeature
from tfmi.data.loading import load_dataset
from tfmi.data.synthetic.shop import DEPARTMENTS, LOG_END, LOG_START, EmbeddedLog, generate


@pytest.fixture(scope="module")
def log() -> EmbeddedLog:
    return generate(EmbeddedConfig())


@pytest.fixture(scope="module")
def dataset() -> InteractionDataset:
    return load_dataset(DataConfig())


class TestLog:
    def test_the_same_configuration_gives_the_same_log(self, log: EmbeddedLog) -> None:
        again = generate(EmbeddedConfig())
        assert np.array_equal(again.events.user_codes, log.events.user_codes)
        assert np.array_equal(again.events.item_codes, log.events.item_codes)
        assert np.array_equal(again.events.timestamps, log.events.timestamps)  # type: ignore[arg-type]
        assert again.items.titles == log.items.titles
        assert again.items.tags == log.items.tags
        assert again.users.columns == log.users.columns
        assert np.array_equal(again.user_weights_end, log.user_weights_end)

    def test_it_stays_the_log_that_published_figures_are_of(self) -> None:
        log = generate(EmbeddedConfig(users=60, items=50))
        digest = hashlib.sha256()
        for array in (log.events.user_codes, log.events.item_codes, log.events.timestamps, log.item_interests):
            digest.update(np.ascontiguousarray(array).tobytes())
        for array in (log.user_weights_start, log.user_weights_end):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(repr((log.items.titles, log.items.tags, log.users.columns)).encode())
        assert digest.hexdigest() == "5dc768502c0975cf54e7e057908af117e978fdf98a30ad95e01b0b636a957424"

    def test_another_seed_gives_another_log(self, log: EmbeddedLog) -> None:
        other = generate(EmbeddedConfig(seed=8))
        assert other.items.titles != log.items.titles
        assert len(other.events) != len(log.events)

    def test_it_has_the_size_asked_for(self, log: EmbeddedLog) -> None:
        assert len(log.events.user_ids) == 4000
        assert len(log.items.item_ids) == 2000
        assert set(log.events.user_codes) == set(range(4000))
        assert len(log.events) / 4000 == pytest.approx(24.0, rel=0.05)

    def test_a_log_is_written_as_it_happens_within_its_year(self, log: EmbeddedLog) -> None:
        times = log.events.timestamps
        assert times is not None
        assert (np.diff(times) >= 0).all()
        assert times.min() >= LOG_START
        assert times.max() <= LOG_END + 3600

    def test_popularity_within_an_interest_falls_like_zipfs_law(self, log: EmbeddedLog) -> None:
        counts = np.bincount(log.events.item_codes, minlength=2000)
        slopes = []
        for interest in range(len(log.interest_names)):
            falling = np.sort(counts[log.item_interests == interest])[::-1]
            ranks = np.arange(1, len(falling) + 1)
            slopes.append(np.polyfit(np.log(ranks), np.log(falling), 1)[0])
        # Nobody clicks the same item all the time, which flattens the head.
        assert -1.0 < np.mean(slopes) < -0.5

    def test_users_have_one_to_six_interests_that_drift(self, log: EmbeddedLog) -> None:
        for weights in (log.user_weights_start, log.user_weights_end):
            np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-5)
        numbers = (log.user_weights_start > 0).sum(axis=1)
        assert set(numbers) == {1, 2, 3, 4, 5, 6}
        assert np.array_equal(log.user_weights_start > 0, log.user_weights_end > 0)
        several = numbers > 1
        assert np.abs(log.user_weights_start - log.user_weights_end).sum(axis=1)[several].mean() > 0.5

    def test_users_click_only_within_their_interests_and_as_the_drift_says(self, log: EmbeddedLog) -> None:
        users, interests = log.events.user_codes, log.item_interests[log.events.item_codes]
        assert (log.user_weights_start[users, interests] > 0).all()
        # A user's first clicks follow the weights on arrival better than those at the end, and the last clicks the other way round.
        first = np.unique(users, return_index=True)[1]
        last = len(users) - 1 - np.unique(users[::-1], return_index=True)[1]
        for places, near, far in (
            (first, log.user_weights_start, log.user_weights_end),
            (last, log.user_weights_end, log.user_weights_start),
        ):
            assert near[users[places], interests[places]].mean() > far[users[places], interests[places]].mean() + 0.05

    def test_categories_hold_several_interests_but_not_all_do(self) -> None:
        styles = [len(department.styles) for department in DEPARTMENTS.values()]
        assert min(styles) == 1
        assert max(styles) >= 4
        assert sum(styles) == 35

    def test_titles_are_distinct_and_name_brand_and_thing(self, log: EmbeddedLog) -> None:
        titles, brands, categories = log.items.titles, log.items.brands, log.items.categories
        assert titles is not None
        assert brands is not None
        assert categories is not None
        assert len(set(titles)) == len(titles)
        for title, brand, category in zip(titles, brands, categories, strict=True):
            assert title.startswith(f"{brand} ")
            assert any(title.endswith(thing) for things in DEPARTMENTS[category].styles.values() for thing in things)

    def test_titles_stay_distinct_when_the_words_run_out(self) -> None:
        titles = generate(EmbeddedConfig(users=10, items=12_000, mean_events=5.0)).items.titles
        assert titles is not None
        assert len(set(titles)) == 12_000

    def test_profiles_are_weakly_informative(self, log: EmbeddedLog) -> None:
        ages = np.array(log.users.columns["age_band"])
        assert {"", "18-24", "65+"} < set(ages)
        young, old = (log.user_weights_start[ages == age].mean(axis=0) for age in ("18-24", "65+"))
        ratio = np.maximum(young, old) / np.minimum(young, old)
        assert 1.3 < np.median(ratio) < 4.0

    @pytest.mark.parametrize("settings", [{"users": 10, "items": 10}, {"max_interests": 1}, {"mean_events": 1.5}])
    def test_extreme_sizes_work(self, settings: dict[str, float]) -> None:
        log = generate(EmbeddedConfig.model_validate({"users": 50, "items": 40, **settings}))
        assert len(log.events) >= len(log.events.user_ids)
        assert len(set(log.item_interests)) == len(log.interest_names) >= 2
        if "max_interests" in settings:
            assert ((log.user_weights_start > 0).sum(axis=1) == 1).all()


class TestDataset:
    def test_it_is_split_by_user(self, dataset: InteractionDataset) -> None:
        assert dataset.report["split"] == "by_user"
        sides = [set(sequences.users) for sequences in (dataset.train.in_memory(), dataset.valid.histories, dataset.test.histories)]
        assert not sides[0] & sides[1]
        assert not sides[0] & sides[2]
        assert not sides[1] & sides[2]

    def test_truth_is_aligned_with_the_rows(self, dataset: InteractionDataset) -> None:
        interests, start = dataset.truth["item_interests"], dataset.truth["user_weights_start"]
        assert interests.shape == (dataset.catalogue.num_rows,)
        assert interests[:2].tolist() == [-1, -1]
        for sequences in (dataset.train.in_memory(), dataset.valid.targets, dataset.test.histories):
            users = np.repeat(sequences.users, sequences.lengths())
            assert (start[users, interests[sequences.items]] > 0).all()
        assert start[0].sum() == 0

    def test_the_interest_of_an_item_is_in_its_category(self, dataset: InteractionDataset) -> None:
        category = dataset.catalogue.features["category"]
        assert isinstance(category, CategoricalFeature)
        for index in range(2, dataset.catalogue.num_rows):
            name = dataset.truth["interest_names"][dataset.truth["item_interests"][index]]
            assert name.startswith(category.vocabulary.identifier(int(category.values[index])) + ": ")

    def test_it_has_every_kind_of_feature(self, dataset: InteractionDataset) -> None:
        assert set(dataset.catalogue.features) == {"category", "brand", "tags", "price"}
        tags = dataset.catalogue.features["tags"]
        assert isinstance(tags, MultiValuedFeature)
        assert len(set(tags.weights[tags.values > 0].round(2))) > 2
        assert dataset.profiles is not None
        assert set(dataset.profiles.features) == {"age_band", "region"}

    def test_knowing_the_interests_beats_popularity_by_far_and_several_beat_one(self, dataset: InteractionDataset) -> None:
        popularity = mean_recall(dataset, dataset.test, lambda history: dataset.catalogue.counts.astype(float))
        one = mean_recall(dataset, dataset.test, lambda history: interest_scores(dataset, history, most=1))
        all_of_them = mean_recall(dataset, dataset.test, lambda history: interest_scores(dataset, history, most=6))
        assert all_of_them > 4 * popularity
        assert all_of_them > 1.2 * one

    def test_a_path_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="the embedded dataset is generated and reads no file"):
            load_dataset(DataConfig(path="somewhere"))


def interest_scores(dataset: InteractionDataset, history: np.ndarray, most: int) -> np.ndarray:
    """Popular items of the ``most`` interests that the history shows most, by their share of it."""
    interests = dataset.truth["item_interests"]
    shown = np.bincount(interests[history], minlength=len(dataset.truth["interest_names"])).astype(float)
    shown[np.argsort(-shown, kind="stable")[most:]] = 0
    scores = shown[interests] * dataset.catalogue.counts / np.bincount(interests[2:], dataset.catalogue.counts[2:])[interests]
    scores[:2] = 0
    scores[history] *= 0.05
    return scores


def mean_recall(dataset: InteractionDataset, examples: EvaluationSet, score: Callable[[np.ndarray], np.ndarray], n: int = 50) -> float:
    recalls = []
    for row in range(len(examples)):
        best = np.argsort(-score(examples.histories.row(row)), kind="stable")[:n]
        targets = set(examples.targets.row(row).tolist())
        recalls.append(len(targets & set(best.tolist())) / len(targets))
    return float(np.mean(recalls))

"""Counts that vote: what they add, to which items, and that every way to an answer adds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.export.fake_recommenders import make_catalogue
from tfmi.config import EvaluationConfig, ExportConfig, IndexConfig
from tfmi.core.errors import ConfigError
from tfmi.data.dataset import EvaluationSet, Sequences
from tfmi.data.loading import load_dataset
from tfmi.data.pipeline import TrainingBatches
from tfmi.evaluation.full_catalogue import CatalogueEvaluator, recommend
from tfmi.evaluation.votes import choose_weight
from tfmi.export import export_savedmodel
from tfmi.export.exported_model import ExportedModel
from tfmi.kinds.base import kind_of
from tfmi.layers.base import EXTRACTORS, READOUTS, REPETITIONS
from tfmi.losses.base import OBJECTIVES
from tfmi.models.heuristics.item_knn import ItemKNN
from tfmi.models.recommender import UserInputs
from tfmi.models.retrieval.build_retriever import build_model
from tfmi.models.retrieval.counted_votes import CountedVotes, fold_of
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval
from tfmi.models.systems import load_config
from tfmi.models.towers import ItemTower, UserTower
from tfmi.models.training_step import create_variables
from tfmi.refresh.stored_state import first_batch
from tfmi.training.fitting import restore_best
from tfmi.training.optimizers import RowSparseAdam
from tfmi.training.run_folder import RunFolder

NUM_ROWS, LENGTH, DIMENSION = 22, 5, 4
HISTORY = np.array([[3, 4, 0, 0, 0], [9, 5, 6, 7, 5], [21, 0, 0, 0, 0], [0, 0, 0, 0, 0]], np.int32)


def rows(lengths: list[int], items: np.ndarray) -> Sequences:
    return Sequences(np.cumsum([0, *lengths]), items.astype(np.int32), None, None, np.arange(len(lengths), dtype=np.int32))


# No sequence holds item 21, the last.
TRAIN = rows([4] * 15, np.random.default_rng(5).integers(2, NUM_ROWS - 1, 60))


def voting(**arguments: Any) -> CountedVotes:
    votes = CountedVotes({"name": "item_knn", "decay": 0.5}, **arguments)
    votes.adapt(TRAIN, NUM_ROWS)
    return votes


def model_with(**options: Any) -> InterestRetrieval:
    tf.keras.utils.set_random_seed(3)
    model = InterestRetrieval(
        item_tower=ItemTower(NUM_ROWS, DIMENSION),
        user_tower=UserTower(DIMENSION),
        extractor=EXTRACTORS.build({"name": "self_attentive", "num_interests": 2, "positions": "newest"}, "extractor"),
        readout=options.pop("readout", None) or READOUTS.build({"name": "mixture"}, "readout"),
        objective=OBJECTIVES.build({"name": "full_softmax"}, "objective"),
        history_length=LENGTH,
        regularizers={},
        normalize=False,
        **options,
    )
    model.compute_loss({"history": tf.constant(HISTORY), "target": tf.constant([5, 6, 7, 8])})
    return model


def chosen_of(model: InterestRetrieval) -> tf.Variable:
    """The variable with the weight of a model whose votes have one to choose."""
    assert model.votes is not None
    assert model.votes.chosen is not None
    return model.votes.chosen


def counted(history: np.ndarray) -> np.ndarray:
    """float [N] of item-KNN, written out: 0 where no item of the history stands beside one."""
    sets = [set(row) for row in TRAIN.items.reshape(-1, 4)]
    scores = np.zeros(NUM_ROWS)
    real = history[history > 0]
    for item in set(real):
        age = list(real[::-1]).index(item)
        for other in range(2, NUM_ROWS):
            both = sum(item in each and other in each for each in sets)
            if other != item and both:
                alone = [sum(one in each for each in sets) for one in (item, other)]
                scores[other] += 0.5**age * both / np.sqrt(alone[0] * alone[1])
    return scores


def scores_by_hand(model: InterestRetrieval, history: np.ndarray, weight: float, exponent: float) -> np.ndarray:
    """float [B, N]: the best interest's inner product, and the votes."""
    interests, _ = model.user_interests(UserInputs(tf.constant(history)))
    scores = np.einsum("bkd,nd->bkn", interests, model.item_vectors()).max(axis=1)
    for row, own in enumerate(history):
        counts = counted(own)
        scores[row] += weight * (counts / max(counts.max(), 1e-9)) ** exponent
    scores[:, :2] = -np.inf
    return scores


def model_favourites(model: InterestRetrieval, history: np.ndarray) -> np.ndarray:
    """int32 [B]: the item that the model alone likes best of those that are not in the history."""
    scores = scores_by_hand(model, history, 0.0, 1.0)
    for row, own in enumerate(history):
        scores[row, own] = -np.inf
    return scores.argmax(axis=1).astype(np.int32)


def test_votes_are_shares_of_the_best_candidates_count() -> None:
    voted = voting(weight=3.0, exponent=0.5, candidates=6)(tf.constant(HISTORY))
    items, votes = voted.items.numpy(), voted.votes.numpy()
    assert items.shape == votes.shape == (4, 6)
    for row in (0, 1):
        counts = counted(HISTORY[row])
        expected = 3.0 * np.sqrt(np.sort(counts)[::-1][:6] / counts.max())
        np.testing.assert_allclose(votes[row], expected, rtol=1e-4)
        real = items[row] > 0
        np.testing.assert_allclose(votes[row][real], 3.0 * np.sqrt(counts[items[row][real]] / counts.max()), rtol=1e-4)
        assert len(set(items[row][real])) == real.sum() == (expected > 0).sum()
    # An item that stands beside nothing, and an empty history, have no votes; popular items get none for being popular.
    assert not items[2:].any()
    assert not votes[2:].any()


@pytest.mark.parametrize(("weight", "exponent"), [(0.5, 1.0), (0.3, 0.5)])
def test_every_item_is_ranked_by_inner_product_and_votes_together(weight: float, exponent: float) -> None:
    model = model_with(votes=voting(weight=weight, exponent=exponent, candidates=NUM_ROWS))
    scores = scores_by_hand(model, HISTORY, weight, exponent)[:3]
    users = EvaluationSet(rows([2, 5, 1], HISTORY[HISTORY > 0]), rows([1, 1, 1], np.array([5, 6, 7])))
    found = recommend(model, users, 8, batch_size=2)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :8]
    np.testing.assert_array_equal(found.items, order)
    assert (order != np.argsort(-scores_by_hand(model, HISTORY, 0.0, 1.0)[:3], axis=1, kind="stable")[:, :8]).any()
    new = recommend(model, users, 8, batch_size=2, exclude_history=True)
    for row, own in enumerate(HISTORY[:3]):
        scores[row, own] = -np.inf
    np.testing.assert_array_equal(new.items, np.argsort(-scores, axis=1, kind="stable")[:, :8])


@pytest.mark.parametrize("weight", [0.4, "auto"])
def test_an_export_adds_the_same_votes(tmp_path: Path, weight: float | str) -> None:
    model, catalogue = model_with(votes=voting(weight=weight, candidates=NUM_ROWS)), make_catalogue(NUM_ROWS - 2)
    if weight == "auto":
        chosen_of(model).assign(0.4)
    folder = export_savedmodel(model, catalogue, tmp_path / "voted", export=ExportConfig(num_results=6), index=IndexConfig(kind="exact"))
    asked = np.array([[catalogue.vocabulary.ids[item - 2] if item else "" for item in own] for own in HISTORY[:3]])
    exported = ExportedModel(folder)
    assert exported.metadata["integration"] == {"kind": "competitive", "voted_items": "inner product and votes of item_knn"}
    answer = exported.predict("serving_default", {"history": asked})
    scores = scores_by_hand(model, HISTORY, 0.4, 0.5)[:3]
    order = np.argsort(-scores, axis=1, kind="stable")[:, :6]
    expected = [[catalogue.vocabulary.ids[item - 2] for item in row] for row in order]
    assert [[name.decode() for name in row] for row in answer["item_ids"]] == expected
    np.testing.assert_allclose(answer["scores"], np.take_along_axis(scores, order, axis=1), rtol=1e-4)


def test_a_repetition_scores_own_items_whatever_votes_they_get() -> None:
    gate = REPETITIONS.build({"name": "learned_gate"}, "repetition")
    both = model_with(repetition=gate, votes=voting(weight=50.0, candidates=NUM_ROWS))
    _, _, own = both.interests_with_repeats(UserInputs(tf.constant(HISTORY)))
    _, _, alone = model_with(repetition=gate).interests_with_repeats(UserInputs(tf.constant(HISTORY)))
    np.testing.assert_allclose(own.scores[:, :LENGTH], alone.scores, rtol=1e-5)
    for row, history in enumerate(HISTORY[:2]):
        voted = own.items[row, LENGTH:].numpy()[np.isfinite(own.scores[row, LENGTH:].numpy())]
        assert len(voted)
        assert not set(voted) & set(history)


def test_any_heuristic_model_votes() -> None:
    spec = {"name": "session_popularity", "rest": {"name": "item_knn", "decay": 1.0}}
    votes = CountedVotes(spec, weight=1.0)
    votes.adapt(TRAIN, NUM_ROWS)
    assert votes.get_config()["heuristic"] == spec
    assert type(spec["rest"]) is dict
    assert int(votes(tf.constant(HISTORY)).items[0, 0]) in {3, 4}  # the history's own items come first


def test_votes_are_chosen_by_themselves_unless_a_weight_is_given() -> None:
    for config in (load_config(system="mind", settings=["model.votes={}"]), load_config(system="joined_mixture")):
        votes = config.model.votes
        assert votes is not None
        assert (votes.weight, votes.heuristic) == ("auto", {"name": "item_knn", "power": 0.25})
    assert load_config(system="mind").model.votes is None  # the paper's


def test_a_weight_is_chosen_on_validation_users() -> None:
    votes = voting(weight="auto", candidates=NUM_ROWS)
    model, catalogue = model_with(votes=votes), make_catalogue(NUM_ROWS - 2)
    assert votes(tf.constant(HISTORY)).votes.shape == (4, 0)  # nothing is chosen yet
    told = np.array([np.where(np.isin(np.arange(NUM_ROWS), own), -1.0, counted(own)).argmax() for own in HISTORY[:2]], np.int32)
    config = EvaluationConfig(cutoffs=[3], exclude_history=True)
    evaluator = CatalogueEvaluator(model, catalogue, config)
    asked = EvaluationSet(rows([2, 5], HISTORY[:2][HISTORY[:2] > 0]), rows([1, 1], told))
    alone = evaluator.evaluate(asked)["recall@3"]
    chosen = choose_weight(votes, evaluator, asked, None, "recall@3")
    assert chosen == pytest.approx(float(chosen_of(model).numpy()), rel=1e-6)
    assert chosen > 0.0
    assert evaluator.evaluate(asked)["recall@3"] == 1.0 > alone
    against = EvaluationSet(asked.histories, rows([1, 1], model_favourites(model, HISTORY[:2])))
    assert choose_weight(votes, evaluator, against, None, "recall@3") == 0.0


def test_the_chosen_weight_is_kept_with_the_best_weights(tmp_path: Path) -> None:
    settings = ["data.embedded.users=80", "data.embedded.items=30", "data.history_length=6", "model.dimension=4", "model.votes={}"]
    config = load_config(
        system="youtube_dnn", settings=[*settings, "training.max_steps=2", "training.evaluate_every=1", "training.tensorboard=false"]
    )
    kind = kind_of(config)
    data = kind.load_data(config)
    folder = RunFolder(tmp_path / "run")
    folder.start(config)
    fitted = kind.fit(config, data, folder)
    assert fitted is not None
    weight = float(chosen_of(fitted.model).numpy())
    assert fitted.took["votes_weight"] == pytest.approx(weight, rel=1e-6)
    again = build_model(config, data)
    assert float(chosen_of(again).numpy()) == 0.0
    create_variables(again, first_batch(again, config))
    chosen_of(again).assign(-1.0)
    restore_best(again, folder)
    assert float(chosen_of(again).numpy()) == weight
    # Never worse on these users than the model alone.
    metric = fitted.took["monitor"]
    measured = fitted.evaluator.evaluate(data.valid, data.profiles)[metric]
    chosen_of(again).assign(0.0)
    assert measured >= CatalogueEvaluator(again, data.catalogue, fitted.evaluator.config).evaluate(data.valid, data.profiles)[metric]


def test_counts_go_with_their_items_into_another_catalogue() -> None:
    votes = voting(weight="auto", candidates=NUM_ROWS)
    assert votes.chosen is not None
    votes.chosen.assign(2.0)
    # Items 2 to 20 in another order, two new ones, and then 3 and 4, which are gone from the answers.
    kept = np.array([20, *range(5, 20), 2])
    rows_before = np.concatenate([[0, 1], kept, [-1, -1], [3, 4]])
    gone_from = len(rows_before) - 2
    moved = votes.of_other_items(rows_before, gone_from)
    history_before = np.array([[9, 5, 6, 4, 2], [3, 0, 0, 0, 0]], np.int32)
    row_of = {before: now for now, before in enumerate(rows_before) if before >= 0}
    before, after = votes(tf.constant(history_before)), moved(tf.constant(np.vectorize(row_of.get)(history_before).astype(np.int32)))
    for row in range(2):
        expected = {
            row_of[item]: float(vote)
            for item, vote in zip(before.items.numpy()[row], before.votes.numpy()[row], strict=True)
            if item and item not in (3, 4)
        }
        found = {int(item): float(vote) for item, vote in zip(after.items.numpy()[row], after.votes.numpy()[row], strict=True) if item}
        assert found.keys() == expected.keys()
        # Shares are of the best candidate that is left.
        scale = max(expected.values()) / 2.0
        np.testing.assert_allclose([found[item] for item in expected], [vote / scale for vote in expected.values()], rtol=1e-5)
    new_item = tf.constant([[gone_from - 1, 0, 0, 0, 0]])
    assert not moved(new_item).votes.numpy().any()


def test_counts_that_only_their_sequences_hold_are_not_moved() -> None:
    with pytest.raises(ConfigError, match="session_popularity has counted"):
        CountedVotes({"name": "session_popularity"}).take({}, NUM_ROWS)


def test_training_does_not_see_the_votes() -> None:
    batch = {"history": tf.constant(HISTORY), "target": tf.constant([5, 6, 7, 8])}
    assert float(model_with(votes=voting(weight=9.0)).compute_loss(batch)) == float(model_with().compute_loss(batch))


def learning(weight: float = 0.7, **options: Any) -> InterestRetrieval:
    votes = CountedVotes({"name": "item_knn", "decay": 0.5}, weight=weight, candidates=NUM_ROWS, learned=True, history_length=LENGTH)
    votes.adapt(TRAIN, NUM_ROWS)
    return model_with(votes=votes, **options)


def votes_of(model: InterestRetrieval) -> CountedVotes:
    assert model.votes is not None
    return model.votes


def test_learned_votes_begin_as_votes_of_their_weight() -> None:
    found, plain = votes_of(learning())(tf.constant(HISTORY)), voting(weight=0.7, candidates=NUM_ROWS)(tf.constant(HISTORY))
    np.testing.assert_array_equal(found.items, plain.items)
    np.testing.assert_allclose(found.votes, plain.votes, rtol=1e-5)
    assert not found.own_votes.numpy().any()


def test_training_asks_counts_that_the_histories_sequence_is_not_in() -> None:
    """Of sequences that share no item with any other, nothing is known but by themselves."""
    alone = rows([4] * 5, np.arange(2, 22))
    votes = CountedVotes(learned=True, candidates=3, history_length=4)
    votes.adapt(alone, NUM_ROWS)
    history = tf.constant(alone.items.reshape(-1, 4)[:, :3])
    assert votes(history).items.numpy().all()
    assert not votes(history, training=True).items.numpy().any()
    assert not votes(history, training=True).votes.numpy().any()


def test_what_training_asks_is_what_the_other_parts_say() -> None:
    model = learning()
    oldest = TRAIN.items[::4]
    folds = fold_of(oldest).numpy()
    assert len(set(folds)) > 1
    found = votes_of(model)(tf.constant(HISTORY), training=True)
    for row in range(2):
        others = TRAIN.select(folds != int(fold_of(HISTORY[row, :1]).numpy()[0]))
        expected = CountedVotes({"name": "item_knn", "decay": 0.5}, weight=0.7, candidates=NUM_ROWS)
        expected.adapt(others, NUM_ROWS)
        said = expected(tf.constant(HISTORY[row : row + 1]))
        np.testing.assert_array_equal(found.items[row], said.items[0])
        np.testing.assert_allclose(found.votes[row], said.votes[0], rtol=1e-5)


def test_sequences_whose_oldest_item_a_history_may_miss_are_counted_by_nobody_in_training() -> None:
    votes = CountedVotes(learned=True, candidates=3, history_length=2)
    votes.adapt(TRAIN, NUM_ROWS)
    assert votes(tf.constant(HISTORY)).items.numpy().any()
    assert not votes(tf.constant(HISTORY), training=True).items.numpy().any()


@pytest.mark.parametrize("gate", [None, {"name": "learned_gate"}])
def test_the_loss_with_learned_votes_is_the_softmax_over_the_scores_that_are_served(gate: dict[str, Any] | None) -> None:
    repetition = None if gate is None else REPETITIONS.build(gate, "repetition")
    model = learning(repetition=repetition, readout=READOUTS.build({"name": "max_sim"}, "readout"))
    for weight in votes_of(model).trainable_weights:
        weight.assign_add(tf.random.stateless_normal(weight.shape, [1, 2], stddev=0.3))
    history, target = tf.constant(HISTORY[:3]), tf.constant([5, 6, 7])
    loss = model.compute_loss({"history": history, "target": target}, training=False)
    users, _, own = model.interests_with_repeats(UserInputs(history))
    scores = np.einsum("bkd,nd->bkn", users, model.item_vectors()).max(axis=1)
    scores[:, :2] = -np.inf
    for row in range(3):
        replaced = own.without_inner_products()[row].numpy()
        scores[row, replaced[replaced > 0]] = -np.inf
        np.maximum.at(scores[row], own.items[row].numpy(), own.scores[row].numpy())
    scores[:, :2] = -np.inf
    expected = np.mean([np.log(np.exp(one).sum()) - one[goal] for one, goal in zip(scores, target.numpy(), strict=True)])
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_gradients_reach_every_weight_of_learned_votes_and_are_finite() -> None:
    model = learning(repetition=REPETITIONS.build({"name": "learned_gate"}, "repetition"))
    weights = votes_of(model).trainable_weights
    assert {id(weight) for weight in weights} <= {id(weight) for weight in model.trainable_weights}
    for weight in weights:
        weight.assign_add(tf.random.stateless_normal(weight.shape, [3, 4], stddev=0.3))
    with tf.GradientTape() as tape:
        loss = model.compute_loss({"history": tf.constant(HISTORY), "target": tf.constant([4, 6, 7, 8])}, training=True)
    for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
        assert np.isfinite(gradient).all(), weight.name
        assert np.abs(gradient).max() > 0, weight.name


def test_more_padding_changes_no_learned_vote() -> None:
    votes = votes_of(learning())
    votes.output_kernel.assign(tf.random.stateless_normal(votes.output_kernel.shape, [5, 6]))
    found, padded = votes(tf.constant(HISTORY)), votes(tf.constant(np.pad(HISTORY, [(0, 0), (0, 3)])))
    np.testing.assert_array_equal(found.items, padded.items)
    np.testing.assert_allclose(found.votes, padded.votes, rtol=1e-5)
    np.testing.assert_allclose(found.own_votes, padded.own_votes[:, :LENGTH], rtol=1e-5)
    assert not padded.own_votes[:, LENGTH:].numpy().any()


def test_learned_votes_survive_their_configuration_and_need_training_sequences_to_learn() -> None:
    votes = CountedVotes(learned=True, weight=2.0, history_length=3)
    copy = CountedVotes.from_config(votes.get_config())
    assert copy.learned
    np.testing.assert_array_equal(copy.output_bias, votes.output_bias)
    with pytest.raises(ConfigError, match="no training sequences"):
        copy(tf.constant([[2, 3, 0]]), training=True)


@pytest.mark.slow
@pytest.mark.long
def test_an_export_with_learned_votes_answers_as_the_model(tmp_path: Path) -> None:
    model, catalogue = learning(repetition=REPETITIONS.build({"name": "learned_gate"}, "repetition")), make_catalogue(NUM_ROWS - 2)
    for weight in votes_of(model).trainable_weights:
        weight.assign_add(tf.random.stateless_normal(weight.shape, [7, 8], stddev=0.5))
    folder = export_savedmodel(model, catalogue, tmp_path / "learned", export=ExportConfig(num_results=6), index=IndexConfig(kind="exact"))
    asked = np.array([[catalogue.vocabulary.ids[item - 2] if item else "" for item in own] for own in HISTORY[:3]])
    answer = ExportedModel(folder).predict("serving_default", {"history": asked})
    users = EvaluationSet(rows([2, 5, 1], HISTORY[HISTORY > 0]), rows([1, 1, 1], np.array([5, 6, 7])))
    expected = recommend(model, users, 6, batch_size=3).items
    assert [[name.decode() for name in row] for row in answer["item_ids"]] == [
        [catalogue.vocabulary.ids[item - 2] for item in row] for row in expected
    ]


def test_a_configuration_names_what_counts_and_its_model_counts_the_training_data() -> None:
    votes = {"heuristic": {"name": "item_knn", "power": 0.2}, "weight": 1.0}
    settings = {"data": {"embedded": {"users": 60, "items": 30}}, "model": {"dimension": 4, "votes": votes}}
    config = load_config(system="mind", overrides=settings)
    model = build_model(config, load_dataset(config.data))
    assert isinstance(model.votes, CountedVotes)
    assert isinstance(model.votes.counts, ItemKNN)
    assert model.votes.counts.power == 0.2
    assert model.votes(tf.constant([[2, 3]])).votes.numpy().max() == 1.0


def test_the_recipe_learns_votes_from_a_runs_own_data() -> None:
    settings = {"data": {"embedded": {"users": 60, "items": 30}}, "model": {"dimension": 4, "user_tower": {"profile_features": []}}}
    config = load_config(system="mtaw_counts", overrides=settings)
    dataset = load_dataset(config.data)
    model = build_model(config, dataset)
    votes = votes_of(model)
    assert votes.learned
    before = [weight.numpy() for weight in votes.trainable_weights]
    ordered = TrainingBatches(dataset.train, history_length=config.data.history_length, min_history=1, batch_size=16, seed=1)
    model.compile(optimizer=RowSparseAdam(0.05))
    model.fit(ordered.from_step(0), steps_per_epoch=2, verbose=0)
    for weight, old in zip(votes.trainable_weights, before, strict=True):
        assert (weight.numpy() != old).any(), weight.name


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.votes.weight=0", "weight"),
        ("model.votes.weight=automatic", "weight"),
        ("model.votes.heuristic={name: item_nn}", "did you mean 'item_knn'"),
        ("model.votes.heuristic={name: item_knn, decay: 2}", "decay must be in"),
        ("model.votes={learned: true, answer_weight: 0}", "answer_weight"),
        ("model.votes.answer_weight=2", r"model\.votes: answer_weight and own_offset correct votes that are learned"),
        ("model.votes={learned: true, own_offset: 1.0}", r"model\.votes\.own_offset: without model\.repetition"),
    ],
)
def test_wrong_votes_are_refused_when_the_configuration_is_read(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(system="mind", settings=[setting])


def test_votes_are_learned_in_a_softmax_only() -> None:
    with pytest.raises(ConfigError, match=r"model\.votes\.learned: a vote that is learned works on a softmax"):
        load_config(system="mind", settings=["model.votes={learned: true}", "model.objective={name: gbce}"])


def test_what_validation_chooses_changes_answers_and_not_training() -> None:
    history = tf.constant(HISTORY)
    chosen = CountedVotes({"name": "item_knn", "decay": 0.5}, learned=True, history_length=LENGTH, answer_weight=3.0, own_offset=2.0)
    plain = CountedVotes({"name": "item_knn", "decay": 0.5}, learned=True, history_length=LENGTH)
    for votes in (chosen, plain):
        votes.adapt(TRAIN, NUM_ROWS)
    np.testing.assert_allclose(chosen(history).votes, 3.0 * plain(history).votes, rtol=1e-5)
    np.testing.assert_allclose(chosen(history).own_votes, 2.0 + plain(history).own_votes, rtol=1e-5)
    for mine, other in zip(chosen(history, training=True), plain(history, training=True), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_places_allotted_to_interests_leave_none_for_votes() -> None:
    with pytest.raises(ConfigError, match=r"'allotted' gives places to interests, but model\.votes"):
        load_config(system="mind", settings=["model.votes.weight=1.0", "index.integration=allotted"])


@pytest.mark.parametrize("arguments", [{"weight": 0.0}, {"exponent": -1.0}, {"candidates": 0}])
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        CountedVotes(**arguments)

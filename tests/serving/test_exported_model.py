"""Real exports behind the local server: what the client gets is what the saved model answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.fuzz import Fuzzer
from benchmarks.serving_load.target import Target
from benchmarks.soak import Soak, swap_folders
from tests.export.fake_recommenders import (
    AGE,
    EXCLUSION_WIDTH,
    GENRES,
    HISTORY_LENGTH,
    NUM_RESULTS,
    REGION,
    NextInLine,
    TableRanker,
    TableRecommender,
    make_catalogue,
    make_profiles,
)
from tests.exports import loaded
from tfmi.config import ExportConfig, IndexConfig
from tfmi.export import ExportedModel, export_savedmodel
from tfmi.export.profile_inputs import input_names
from tfmi.serving.client import Client, Recommendations, ServingError
from tfmi.serving.local_server import LocalServer, discover_models

pytestmark = pytest.mark.slow  # exports

WIDTHS = ExportConfig(num_results=NUM_RESULTS, exclusion_width=EXCLUSION_WIDTH, warmup_batch_sizes=[1])
HISTORIES = [["item-3", "nobody", "item-9"], [], ["nobody"], [f"item-{i}" for i in range(20)]]


@dataclass(frozen=True)
class Served:
    root: Path
    server: LocalServer

    def client(self, model: str, protocol: str = "rest") -> Client:
        address = self.server.rest_address if protocol == "rest" else self.server.grpc_address
        return Client(address, model, protocol, 30.0)  # type: ignore[arg-type]

    def exported(self, model: str) -> ExportedModel:
        return loaded(self.root / model / "1")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    pytest.importorskip("scann", reason="ScaNN has no wheel for this platform and Python")
    root = tmp_path_factory.mktemp("savedmodels")
    catalogue = make_catalogue()
    with_profile = TableRecommender(catalogue, (REGION, AGE, GENRES))
    export_savedmodel(with_profile, catalogue, root / "scann", export=WIDTHS, index=IndexConfig(kind="scann"), profiles=make_profiles())
    export_savedmodel(NextInLine(catalogue), catalogue, root / "direct", export=WIDTHS)
    ranker = TableRanker(catalogue, (AGE,))
    export_savedmodel(
        TableRecommender(catalogue),
        catalogue,
        root / "two_stage",
        export=WIDTHS.model_copy(update={"filterable": ["category"]}),
        index=IndexConfig(kind="exact"),
        profiles=make_profiles(),
        ranker=ranker,
    )
    with LocalServer(lambda: discover_models(root), rest_port=0, grpc_port=0, poll_seconds=0.2) as server:
        yield Served(root, server)


def padded(rows: list[list[str]], width: int) -> np.ndarray:
    table = np.full((len(rows), width), "", dtype=object)
    for row, items in zip(table, rows, strict=True):
        newest = items[-width:]
        row[: len(newest)] = newest
    return table


def expect(answers: list[Recommendations], outputs: dict[str, np.ndarray]) -> None:
    """Check the client's answers against the arrays of a signature, padding aside."""
    assert len(answers) == len(outputs["item_ids"])
    for answer, ids, scores, interests in zip(answers, outputs["item_ids"], outputs["scores"], outputs["interests"], strict=True):
        present = ids != b""
        assert [item.item for item in answer.items] == [name.decode() for name in ids[present]]
        assert [item.interest for item in answer.items] == interests[present].tolist()
        np.testing.assert_allclose([item.score for item in answer.items], scores[present], rtol=1e-5)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
@pytest.mark.parametrize("model", ["scann", "direct"])
def test_served_answers_are_those_of_the_saved_model(served: Served, model: str, protocol: str) -> None:
    client, exported = served.client(model, protocol), served.exported(model)
    history = padded(HISTORIES, HISTORY_LENGTH)
    expect(client.recommend(HISTORIES), exported.predict("serving_default", {"history": history}))
    excluded = [["item-0", "item-1"], [], ["item-0", "nobody"], []]
    wishes = {"history": history, "exclude": padded(excluded, EXCLUSION_WIDTH), "diversity": np.full(4, 0.3, np.float32)}
    if model == "scann":
        names, known = input_names([REGION, AGE, GENRES]), unknown_profile()
        known[names[REGION]][0], known[names[AGE]][0] = "süd", 30
        known[names[GENRES]][0], known[f"{names[GENRES]}_weights"][0] = ["a", "c"], [0.5, 2.0]
        wishes |= known
    profiles: Any = [{REGION: "süd", AGE: 30, GENRES: {"a": 0.5, "c": 2.0}}, {}, {}, {}] if model == "scann" else None
    answers = client.recommend(HISTORIES, excluded, 0.3, profiles)
    expect(answers, exported.predict("recommend", wishes))
    assert not {"item-0", "item-1"} & {item.item for item in answers[0].items}


def unknown_profile() -> dict[str, np.ndarray]:
    """The profile inputs of four users of whom nothing is known."""
    names = input_names([REGION, AGE, GENRES])
    return {
        names[REGION]: np.full(4, "", dtype=object),
        names[AGE]: np.full(4, np.nan, np.float32),
        names[GENRES]: np.full([4, 2], "", dtype=object),
        f"{names[GENRES]}_weights": np.zeros([4, 2], np.float32),
    }


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_interests_and_neighbours(served: Served, protocol: str) -> None:
    client, exported = served.client("scann", protocol), served.exported("scann")
    outputs = exported.predict("user_interests", {"history": padded(HISTORIES, HISTORY_LENGTH), **unknown_profile()})
    for found, vectors, count in zip(client.user_interests(HISTORIES), outputs["interests"], outputs["count"], strict=True):
        np.testing.assert_allclose(
            np.reshape(found.vectors, [count, -1] if count else [0, 0]), vectors[:count, : None if count else 0], rtol=1e-5
        )
    neighbours, none = client.similar_items(["item-3", "nobody"])
    expected = exported.predict("similar_items", {"item_ids": np.array(["item-3"], dtype=object)})["item_ids"][0]
    assert [item.item for item in neighbours] == [name.decode() for name in expected]
    assert none == []


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_two_stages_answer_like_one_and_rank(served: Served, protocol: str) -> None:
    client, exported = served.client("two_stage", protocol), served.exported("two_stage")
    history, age = padded(HISTORIES, HISTORY_LENGTH), input_names([AGE])[AGE]
    answers = client.recommend(HISTORIES)
    expect(answers, exported.predict("serving_default", {"history": history}))
    candidates = [["nobody", "item-3", "item-30"], ["item-1"], [], [f"item-{i}" for i in range(9)]]
    ranked = client.rank(HISTORIES, candidates, [{AGE: 30}, {}, {}, {AGE: 64}])
    ages = np.array([30, np.nan, np.nan, 64], np.float32)
    scores = exported.predict("rank", {"history": history, "candidates": padded(candidates, 9), age: ages})["scores"]
    for found, given, expected in zip(ranked, candidates, scores, strict=True):
        order = np.argsort(-expected[: len(given)], kind="stable")
        assert [item.item for item in found] == [given[place] for place in order]
        np.testing.assert_allclose([item.score for item in found], expected[order], rtol=1e-5)
    assert [item.score for item in ranked[0]][-1] == -np.inf
    (again,) = client.rank(HISTORIES[:1], [[item.item for item in answers[0].items]])
    assert [item.item for item in again] == [item.item for item in answers[0].items]


def test_a_model_without_a_ranker_cannot_rank(served: Served) -> None:
    with pytest.raises(ServingError, match="has no signature 'rank'"):
        served.client("scann").rank([["item-1"]], [["item-2"]])


def test_a_model_that_ranks_by_itself_has_no_interests(served: Served) -> None:
    with pytest.raises(ServingError, match="has no signature 'user_interests'; it has: recommend, recommend_examples"):
        served.client("direct").user_interests([["item-1"]])


def test_cold_start_is_marked(served: Served) -> None:
    for answer in served.client("scann").recommend([[], ["nobody"]]):
        assert [item.item for item in answer.items] == [f"item-{i}" for i in range(NUM_RESULTS)]
        assert {item.interest for item in answer.items} == {-1}


def test_a_new_export_is_picked_up(served: Served) -> None:
    client = served.client("direct")
    assert client.metadata().version == 1
    catalogue = make_catalogue()
    export_savedmodel(NextInLine(catalogue), catalogue, served.root / "direct", export=ExportConfig(num_results=3, warmup_batch_sizes=[1]))
    deadline = time.monotonic() + 30
    while len((answer := client.recommend([["item-1"]])[0]).items) != 3:
        assert time.monotonic() < deadline, "the new version was not served"
    assert [item.item for item in answer.items] == ["item-2", "item-3", "item-4"]


MODELS = ["scann", "direct", "two_stage"]


def target_of(served: Served) -> Target:
    return Target(served.server.rest_address, served.server.grpc_address)


@pytest.mark.parametrize("requests", [200, pytest.param(5000, marks=pytest.mark.long)])
def test_odd_requests_are_answered_or_refused(served: Served, requests: int) -> None:
    outcome = Fuzzer(target_of(served), MODELS, seed=requests).run(requests, progress=False)
    assert outcome.failures == []
    assert outcome.statuses["rest OK"] + outcome.statuses["grpc OK"] > requests / 2  # most of them reach the graph


@pytest.mark.parametrize(("requests", "swaps"), [(200, 1), pytest.param(5000, 3, marks=pytest.mark.long)])
def test_answers_stay_the_same_over_swaps(served: Served, requests: int, swaps: int) -> None:
    soak = Soak(target_of(served), MODELS, seed=1)
    outcome = soak.run(requests, callers=3, swaps=swap_folders(served.root, ["direct"], swaps), progress=False)
    assert outcome.examples == []
    assert (outcome.answered.total(), outcome.swaps) == (requests, swaps)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_filtered_requests_of_two_stages(served: Served, protocol: str) -> None:
    client = served.client("two_stage", protocol)
    assert client.metadata().filter_columns == {"category": ["allow", "deny"]}
    few = [f"item-{number}" for number in range(3)]
    answers = client.recommend(
        [["item-3", "item-9"], ["item-3"], ["nobody"]],
        num_results=[4, 15, 2],
        filters=[{"category": "category-1"}, {"category": {"deny": ["category-0", "category-1"]}}, {}],
        allow_items=[None, None, few],
    )
    numbers = [[int(found.item.removeprefix("item-")) for found in answer.items] for answer in answers]
    assert [len(row) for row in numbers] == [4, 15, 2]
    assert {number % 4 for number in numbers[0]} == {1}
    assert {number % 4 for number in numbers[1]} <= {2, 3}
    assert numbers[2] == [0, 1]
    with pytest.raises(ServingError, match="num_results: at most 60"):
        client.recommend([["item-3"]], num_results=61)

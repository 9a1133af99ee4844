"""A user-tag model behind the local server: what the client gets is what the saved model answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from benchmarks.fuzz import Fuzzer
from benchmarks.serving_load.target import Target
from benchmarks.soak import Soak
from tests.export.tags.tag_datasets import NUM_RESULTS, WIDTH, ExportedTags, export_tags
from tests.models.user_tags.user_tag_models import KERNELS
from tfmi.export.tags.explanations import explain_tag
from tfmi.export.tags.user_fields import UserFields
from tfmi.serving.client import Client, ServingError, UserTags, main
from tfmi.serving.local_server import LocalServer

pytestmark = pytest.mark.slow  # an export

USERS: list[dict[str, Any]] = [
    {"age": 31, "city": "city 1", "liked": {"tag 1": 2.0, "tag 4": 0.5}},
    {"liked": ["tag 3", "no tag", "tag 2", "beyond the width"]},
    {},
]
TASKS = ["buy", "click"]


@dataclass(frozen=True)
class Served:
    exported: ExportedTags
    server: LocalServer


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    exported = export_tags(
        KERNELS, tmp_path_factory.mktemp("models") / "toy", "exact", widths={"warmup_batch_sizes": [1]}, global_bias=True
    )
    with LocalServer({"toy": exported.folder.parent}, rest_port=0, grpc_port=0) as server:
        yield Served(exported, server)


@pytest.fixture(params=["rest", "grpc"])
def client(served: Served, request: pytest.FixtureRequest) -> Client:
    address = served.server.rest_address if request.param == "rest" else served.server.grpc_address
    return Client(address, "toy", request.param, 30.0)


def requests(exported: ExportedTags, **more: Any) -> dict[str, np.ndarray]:
    """What the client should send for ``USERS``."""
    fields = UserFields(exported.saved.metadata["profile_inputs"])
    rows = [
        fields.request_of({**user, **({"liked": list(user["liked"])[:WIDTH]} if isinstance(user.get("liked"), list) else {})})
        for user in USERS
    ]
    return {**{name: np.concatenate([row[name] for row in rows]) for name in rows[0]}, **more}


def expect(answers: list[UserTags], outputs: dict[str, np.ndarray]) -> None:
    assert [answer.cold_start for answer in answers] == outputs["cold_start"].tolist()
    for row, answer in enumerate(answers):
        assert list(answer.tasks) == TASKS
        for task, found in answer.tasks.items():
            assert [tag.tag for tag in found] == [tag.decode() for tag in outputs[f"{task}_tags"][row] if tag]
            np.testing.assert_allclose([tag.score for tag in found], outputs[f"{task}_scores"][row][: len(found)], rtol=1e-5)


def test_tags_of_users(served: Served, client: Client) -> None:
    expect(client.user_tags(USERS), served.exported.saved.predict("user_tags", requests(served.exported)))
    excluded = np.array([["tag 1", "", "", ""], ["", "", "", ""], ["tag 5", "tag 6", "", ""]], dtype=object)
    answers = client.user_tags(USERS, exclude=[["tag 1"], [], ["tag 5", "tag 6"]])
    expect(answers, served.exported.saved.predict("recommend_tags", requests(served.exported, exclude=excluded)))
    assert answers[2].cold_start
    assert client.user_tags([]) == []


def test_users_for_tags(served: Served, client: Client) -> None:
    found, nothing = client.tag_users(["tag 3", "no tag"])
    outputs = served.exported.saved.predict("tag_users", {"tags": np.array(["tag 3"], dtype=object)})
    for task in TASKS:
        assert [user.user for user in found[task]] == [user.decode() for user in outputs[f"{task}_user_ids"][0]]
        np.testing.assert_allclose([user.score for user in found[task]], outputs[f"{task}_scores"][0], rtol=1e-5)
    assert nothing == {"buy": [], "click": []}


def test_given_tags_are_scored(served: Served, client: Client) -> None:
    wanted = [["tag 3", "no tag"], [], ["tag 0"]]
    answers = client.score_tags(USERS, wanted)
    table = np.full([3, NUM_RESULTS], "", dtype=object)
    table[0, :2], table[2, :1] = wanted[0], wanted[2]
    outputs = served.exported.saved.predict("score_tags", requests(served.exported, tags=table))
    for row, tags in enumerate(wanted):
        for task in TASKS:
            np.testing.assert_allclose(answers[row][task], outputs[f"{task}_scores"][row][: len(tags)], rtol=1e-5)
    assert answers[0]["buy"][1] == -np.inf


def test_reasons(served: Served, client: Client) -> None:
    first, second, unknown = client.explain_tags(USERS, ["tag 2", "tag 7", "no tag"])
    user = {name: values[:1] for name, values in requests(served.exported).items()}
    expected = {each.task: each for each in explain_tag(served.exported.saved, user, "tag 2")}
    for task in TASKS:
        why = first[task]
        assert sum(why.experts) + why.bias == pytest.approx(why.score, abs=1e-5)
        assert why.score == pytest.approx(expected[task].score, abs=1e-5)
        for given, own in ((why.fields, expected[task].fields), (why.values, expected[task].values)):
            assert {(each.field, each.value) for each in given} == {(each.field, each.value) for each in own}
            effects = {(each.field, each.value): each.effect for each in own}
            assert all(each.effect == pytest.approx(effects[each.field, each.value], abs=1e-5) for each in given)
            assert all(each.attention is not None for each in given)
        assert {each.value for each in second[task].values} == {"tag 3", "no tag", "tag 2"}
        assert unknown[task].score == -np.inf


def test_what_the_model_takes_is_told(client: Client) -> None:
    metadata = client.metadata()
    assert metadata.profile_columns == ["age", "city", "liked"]
    assert metadata.tasks == TASKS


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda client: client.user_tags([{"town": "city 1"}]), "no profile column town; it has: age, city, liked"),
        (lambda client: client.user_tags([{"liked": "tag 1"}]), "'liked' takes a list of strings"),
        (lambda client: client.user_tags([{}], exclude=[["a"] * 9]), "at most 4 exclusions per user"),
        (lambda client: client.score_tags([{}], [["a"] * 9]), "scores at most 5 tags per user at a time, got 9"),
        (lambda client: client.explain_tags([{}], ["a", "b"]), r"expected one per user \(1\), got 2"),
        (lambda client: client.tag_users("tag 1"), "expected lists"),
    ],
)
def test_what_cannot_be_sent_is_refused(client: Client, call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(client)


def test_items_are_not_recommended(client: Client) -> None:
    with pytest.raises(ServingError, match="has no signature 'similar_items'"):
        client.similar_items(["a"])


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["tags", "--user", '{"city": "city 1"}', "--user", "{}", "--top", "1"], ['{"city": "city 1"}:', "{}, of whom nothing is known:"]),
        (["users", "tag 3", "no tag", "--top", "2"], ["for tag 3:", "for no tag: unknown tag"]),
        (
            ["explain", "--user", '{"liked": ["tag 1"]}', "tag 2", "no tag"],
            ["  liked: tag 1  ", "no tag, click: unknown tag", " = expert 1 "],
        ),
    ],
)
def test_the_command_line(served: Served, capsys: pytest.CaptureFixture[str], arguments: list[str], lines: list[str]) -> None:
    assert main([*arguments, "--address", served.server.rest_address, "--model", "toy"]) == 0
    printed = capsys.readouterr().out
    assert all(line in printed for line in lines), printed


def test_exclusions_for_some_users_only_are_refused(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    users = ["--user", "{}", "--user", "{}", "--user", "{}"]
    given = ["tags", *users, *["--exclude", "a"] * 2, "--address", served.server.rest_address, "--model", "toy"]
    assert main(given) == 1
    assert "--exclude: give it once for all users, or once per --user (3); got 2" in capsys.readouterr().err


@pytest.mark.parametrize("requests", [100, pytest.param(3000, marks=pytest.mark.long)])
def test_odd_requests_are_answered_or_refused(served: Served, requests: int) -> None:
    target = Target(served.server.rest_address, served.server.grpc_address)
    outcome = Fuzzer(target, ["toy"], seed=requests).run(requests, progress=False)
    assert outcome.failures == []
    soaked = Soak(target, ["toy"], seed=1).run(requests, callers=2, progress=False)
    assert (soaked.examples, soaked.answered.total()) == ([], requests)

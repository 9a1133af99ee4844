"""What the page is told, and what it may ask."""

from __future__ import annotations

import http.client
import json
import shutil
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.explorer_latency import measure
from tests.explorer.conftest import MARKUP, RESULTS, TITLES, Site
from tfmi.explorer.api import ExplorerApi
from tfmi.explorer.versions import ModelFolder, Versions
from tfmi.export import ExportedModel
from tfmi.export.item_details import ITEMS_PATH, SAMPLE_USERS_PATH
from tfmi.export.item_map import MAP_PATH, read_map
from tfmi.export.warmup import read_warmup

pytestmark = pytest.mark.slow  # exports


def ask(site: Site, path: str, body: Any = None, host: str | None = None) -> tuple[int, Any, Any]:
    """Status, value and headers."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(site.at(path), data, {} if host is None else {"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            text, status, headers = response.read(), response.status, response.headers
    except urllib.error.HTTPError as error:
        with error:
            text, status, headers = error.read(), error.code, error.headers
    return status, json.loads(text) if "json" in headers["Content-Type"] else text.decode(), headers


def explore(site: Site, model: str = "toy/1", **wishes: Any) -> dict[str, Any]:
    status, value, _ = ask(site, "/api/explore", {"model": model, "history": ["item-7", "item-9", "item-20"], "n": 6, **wishes})
    assert status == 200, value
    return value


def ids(items: list[dict[str, Any]]) -> list[str]:
    return [item["id"] for item in items]


# The page


def test_the_page_may_load_nothing_from_elsewhere(site: Site) -> None:
    for path in ("/", "/page/app.js", "/page/style.css", "/page/icon.svg"):
        status, text, headers = ask(site, path)
        assert status == 200
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "img-src 'self';" in policy
        assert "unsafe" not in policy
        assert "://" not in text.replace("http://www.w3.org/2000/svg", "")


def test_pictures_have_to_be_allowed(site: Site) -> None:
    folder = [ModelFolder("toy", site.models / "toy")]
    with_pictures = ExplorerApi(Versions(folder, "http://127.0.0.1:1", newest=2, pictures="auto"), pictures=True)
    answer = with_pictures.handle("GET", "/api/search?model=toy/1&q=item-3", b"")
    assert json.loads(answer.body)["items"][0]["picture"] == "https://pictures.test/3.png"
    assert "img-src 'self' https: http:" in dict(answer.headers)["Content-Security-Policy"]
    _, found, _ = ask(site, "/api/search?model=toy/1&q=item-3")
    assert "picture" not in found["items"][0]


@pytest.mark.parametrize("path", ["/page/../api.py", "/page/%2e%2e/api.py", "/page/", "/nothing", "/api/nothing"])
def test_nothing_else_can_be_read(site: Site, path: str) -> None:
    assert ask(site, path)[0] == 404


def test_another_name_is_refused_and_so_are_other_methods(site: Site) -> None:
    assert ask(site, "/api/models", host="somebody.test")[0] == 421
    assert ask(site, "/api/models", host="localhost:1")[0] == 200
    assert ask(site, "/api/models", {})[0] == 405
    assert ask(site, "/api/explore")[0] == 405


# What there is


def test_models_and_what_they_can_do(site: Site) -> None:
    models = {model["key"]: model for model in ask(site, "/api/models")[1]["models"]}
    assert list(models) == ["toy/2", "toy/1", "tags/1"]
    assert all(model["served"] for model in models.values())
    first = models["toy/1"]
    assert (first["kind"], first["interests"], first["items"], first["historyLength"]) == ("retrieval", 3, 40, 5)
    assert (first["twoStages"], models["toy/2"]["twoStages"]) == (False, True)
    assert (first["usualResults"], first["mostResults"], first["mostExclusions"]) == (RESULTS, 20, 4)
    assert [each["column"] for each in first["filters"]] == ["category", "price"]
    assert first["filters"][0]["values"][0] == "category-0"
    assert (first["filters"][1]["min"], first["filters"][1]["max"]) == (0, 39)
    assert first["map"]["items"] == 40
    assert [user["items"] for user in first["users"]] == [2, 3]
    assert (models["tags/1"]["kind"], models["tags/1"]["tasks"]) == ("user_tags", ["click", "buy"])


def test_titles_are_searched_without_regard_to_case_and_accents(site: Site) -> None:
    def found(words: str) -> list[str]:
        return ids(ask(site, f"/api/search?model=toy/1&q={urllib.parse.quote(words)}")[1]["items"])

    assert found("teacup") == found("BLUE teacup") == ["item-0"]
    assert found("чашка") == ["item-2"]
    assert found("杯") == ["item-3"]
    assert found("أزرق") == ["item-4"]
    assert found("cafe creme ete") == ["item-5"]
    assert found("item-39") == ["item-39"]
    assert found("thing") == [f"item-{number}" for number in range(8, 28)]  # the popular ones first, and no more than a list holds
    assert found("teacup чашка") == found("   ") == []
    assert ask(site, "/api/search?model=toy/1&q=" + "x" * 201)[0] == 400
    _, value, _ = ask(site, "/api/search?model=toy/1&q=script")
    assert value["items"][0] == {**value["items"][0], "id": "item-1", "title": MARKUP, "category": "category-1", "known": True}


def test_sample_users_and_the_map(site: Site) -> None:
    _, user, _ = ask(site, "/api/users?model=toy/1&user=1")
    assert ids(user["history"]) == ["item-1", "item-6", "item-7"]
    assert user["history"][2]["title"] == "item-7"  # it has no title
    assert user["timestamps"] == [2, 3, 4]
    assert ask(site, "/api/users?model=toy/1&user=2")[0] == ask(site, "/api/users?model=toy/1&user=-1")[0] == 404
    places = ask(site, "/api/map?model=toy/1")[1]["places"]
    np.testing.assert_allclose(places, read_map(site.models / "toy" / "1").places, atol=1e-4)
    assert ask(site, "/api/map?model=tags/1")[0] == 404


# Retrievers


def test_interests_answer_and_map_are_the_models(site: Site) -> None:
    found = explore(site)
    model = ExportedModel(site.models / "toy" / "1")
    history = np.array([["item-7", "item-9", "item-20", "", ""]], object)
    expected = model.predict("serving_default", {"history": history})
    assert ids(found["answer"]) == [item.decode() for item in expected["item_ids"][0][:6]]
    assert [item["interest"] for item in found["answer"]] == expected["interests"][0][:6].tolist()
    assert [interest["weights"] for interest in found["interests"]] == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert all(len(interest["items"]) == 6 for interest in found["interests"])
    vectors = model.predict("user_interests", {"history": history})["interests"][0]
    places = read_map(site.models / "toy" / "1").projection.places(vectors)
    np.testing.assert_allclose([interest["place"] for interest in found["interests"]], places, atol=1e-4)
    assert found["answer"][0]["place"]


def test_wishes_reach_the_model(site: Site) -> None:
    plain = explore(site)
    assert ids(plain["answer"])[0] not in ids(explore(site, exclude=[ids(plain["answer"])[0]])["answer"])
    fitting = explore(site, filters={"category": {"allow": ["category-1"]}, "price": {"max": 30}}, n=20)
    assert {item["category"] for item in fitting["answer"]} == {"category-1"}
    assert 0 < len(fitting["answer"]) < 10
    assert all(item["category"] == "category-1" for interest in fitting["interests"] for item in interest["items"])
    assert len({item["category"] for item in explore(site, diversity=100.0, n=4)["answer"]}) == 4
    assert len(explore(site, n=17)["answer"]) == 17
    status, value, _ = ask(site, "/api/explore", {"model": "toy/2", "history": [], "filters": {"price": {"max": 3}}})
    assert (status, value["error"]) == (400, "toy/2 takes no filters; export it with export.filterable")


def test_long_histories_and_unknown_items_say_so(site: Site) -> None:
    history = [f"item-{number % 40}" for number in range(498)] + ["nobody <b>", "item-9"]
    found = explore(site, history=history)
    assert [item["read"] for item in found["history"]].count(True) == 5
    assert found["history"][-2] == {"id": "nobody <b>", "title": "nobody <b>", "known": False, "read": True}
    assert all(len(interest["weights"]) == 500 for interest in found["interests"])
    nothing = explore(site, history=["nobody"])
    assert nothing["interests"] == []
    assert "No item of the history is known" in nothing["whyNot"]
    assert nothing["answer"][0]["interest"] == -1


def test_two_stages_show_both_orders(site: Site) -> None:
    found = explore(site, "toy/2")
    scores = [item["score"] for item in found["retrieval"]]
    assert scores == sorted(scores, reverse=True)
    assert len(found["retrieval"]) == len(found["answer"]) == 6
    best = max((item["score"], item["id"]) for interest in found["interests"] for item in interest["items"])
    assert found["retrieval"][0]["id"] == best[1]
    assert "retrieval" not in explore(site)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"no JSON", "Invalid JSON"),
        ({"model": "toy/1"}, "history: Field required"),
        ({"model": "toy/1", "history": ["x"] * 1001}, "at most 1000 items"),
        ({"model": "toy/1", "history": ["x" * 1001]}, "at most 1000 characters"),
        ({"model": "toy/1", "history": [], "n": 0}, "greater than or equal to 1"),
        (b'{"model": "toy/1", "history": [], "diversity": NaN}', "finite number"),
        ({"model": "toy/1", "history": [], "exclude": ["a", "b", "c", "d", "e"]}, "at most 4 exclusions"),
        ({"model": "toy/1", "history": [], "filters": {"colour": {"allow": ["red"]}}}, "no column 'colour'"),
        ({"model": "tags/1", "history": []}, "no items to find"),
    ],
)
def test_odd_questions_are_told_what_is_wrong(site: Site, body: Any, complaint: str) -> None:
    status, value, _ = ask(site, "/api/explore", body)
    assert status == 400
    assert complaint in value["error"]


def test_an_unknown_model_and_a_giant_request(site: Site) -> None:
    assert ask(site, "/api/explore", {"model": "toy/9", "history": []})[0] == 404
    assert ask(site, "/api/search?model=&q=a")[0] == 404
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(site.address).netloc)
    connection.request("POST", "/api/explore", headers={"Content-Length": str(2 << 20)})
    assert connection.getresponse().status == 413
    connection.close()


def test_a_server_that_is_not_there_is_said(site: Site) -> None:
    api = ExplorerApi(Versions([ModelFolder("toy", site.models / "toy")], "http://127.0.0.1:1", newest=1))
    (model,) = json.loads(api.handle("GET", "/api/models", b"").body)["models"]
    assert not model["served"]
    assert model["why"] == "nothing listens at 127.0.0.1:1; is the server running?"
    answer = api.handle("POST", "/api/explore", b'{"model": "toy/2", "history": []}')
    assert answer.status == 503
    assert "is the server running?" in json.loads(answer.body)["error"]


def test_versions_that_the_server_lacks_are_said(site: Site, tmp_path: Path) -> None:
    (tmp_path / "toy" / "7").mkdir(parents=True)
    versions = Versions([ModelFolder("toy", tmp_path / "toy")], "http://127.0.0.1:1", newest=1)
    (model,) = versions.describe()
    assert (model["kind"], model["served"]) == ("", False)
    assert "7" in model["why"]


def test_a_version_without_details_is_explored_by_ids(site: Site, tmp_path: Path) -> None:
    shutil.copytree(site.models / "toy" / "1", tmp_path / "toy" / "1")
    for path in (ITEMS_PATH, SAMPLE_USERS_PATH, MAP_PATH):
        (tmp_path / "toy" / "1" / path).unlink()
    versions = Versions([ModelFolder("toy", tmp_path / "toy")], "http://127.0.0.1:1", newest=1)
    (model,) = versions.describe()
    assert (model["titles"], model["map"], model["users"]) == (False, None, [])
    assert versions.open("toy/1").items.describe("item-3") == {"id": "item-3", "title": "item-3", "known": None}


# Tags


def test_tags_reasons_and_audience(site: Site) -> None:
    _, user, _ = ask(site, "/api/users?model=tags/1&user=0")
    asked = {"model": "tags/1", "fields": user["fields"]}
    _, found, _ = ask(site, "/api/tags", asked)
    best = found["tasks"]["click"][0]
    assert not found["coldStart"]
    assert best["probability"] == pytest.approx(1 / (1 + np.exp(-best["score"])), abs=1e-4)
    _, why, _ = ask(site, "/api/reasons", {**asked, "tag": best["tag"]})
    click = why["tasks"]["click"]
    assert click["score"] == pytest.approx(best["score"], abs=1e-4)
    assert sum(click["experts"]) + click["bias"] == pytest.approx(click["score"], abs=1e-4)
    assert ask(site, "/api/reasons", {**asked, "tag": "no tag"})[1]["tasks"]["click"] == {"known": False}
    _, users, _ = ask(site, "/api/audience", {"model": "tags/1", "tag": best["tag"]})
    assert users["tasks"]["click"][0]["user"].startswith("user ")
    assert ask(site, "/api/search?model=tags/1&q=tag%201")[1]["tags"][0].startswith("tag 1")
    assert ask(site, "/api/tags", {"model": "toy/1"})[0] == 400
    assert ask(site, "/api/tags", {"model": "tags/1", "fields": {"shoe": "x"}})[0] == 400


# What is published with filters and explanations


def test_the_export_replays_its_explanations(site: Site) -> None:
    requests = [request for request in read_warmup(site.models / "toy" / "1") if request.signature == "explain_interests"]
    assert len(requests) == 1
    assert {"history", "exclude", "allow_category", "num_results"} <= set(requests[0].inputs)
    assert TITLES[0] == ask(site, "/api/search?model=toy/1&q=item-0")[1]["items"][0]["title"]


def test_how_long_an_answer_takes_is_measured(site: Site) -> None:
    milliseconds = measure(site.address, "toy/1", [["item-7"], ["item-9", "item-20"]], repeats=20)
    assert 0 < milliseconds["median"] <= milliseconds["p95"] <= milliseconds["longest"] * 1.1

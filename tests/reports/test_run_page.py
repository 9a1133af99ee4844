"""The page of a run: complete, self-contained, honest about what is missing, and safe with any text."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import tfmi
from tests.api.tables import EVERYTHING, shop
from tests.kinds.finished import FinishedRun
from tests.reports.conftest import HOSTILE, hostile_run, made_up
from tfmi.cli.report import main
from tfmi.core.text import printable
from tfmi.reports import write_report
from tfmi.reports.run_page import run_page
from tfmi.reports.sections.overview import verdict
from tfmi.training.run_folder import RunFolder


class Page(html.parser.HTMLParser):
    """Elements, their attributes, and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


@pytest.mark.slow
def test_a_finished_run_has_a_page_with_everything(finished: FinishedRun) -> None:
    folder = RunFolder(finished.exported)
    page = Page(folder.report.read_text(encoding="utf-8"))
    for shown in (
        "of the simple baselines",
        "recent popularity",
        "recall@10 by length of the history",
        "Validation recall@10",
        "Share of the recommended items that each interest found",
        "Which items feed which interest",
        "attention entropy",
        "Worst and best users",
        "Popularity curve",
        "Lengths: training sequences",
        "against exact search",
        "Latency of one small request",
        f"python serving/local_server.py --model-base-path {finished.savedmodels / 'mine'} --model-name mine",
        "Intended use",
        "Limits",
        "tensorflow-recommenders",
        "max_steps: 30",
    ):
        assert shown in page.text, shown
    assert page.tags.count("figure") >= 12
    assert page.tags.count("svg") == page.tags.count("figure")
    assert {"h1", "h2", "h3", "nav", "main", "table"} <= set(page.tags)
    values = json.loads(folder.gathered.read_text())
    assert set(values["baselines"]["metrics"]) == {"popularity", "recent_popularity", "item_knn"}
    title = values["users"]["worst"][0]["history"][0]["title"]
    assert title in page.text
    assert not title.startswith("item-")  # titles, not ids
    assert f"Report     {folder.report}" in finished.printed


@pytest.mark.slow
def test_it_is_self_contained(finished: FinishedRun) -> None:
    text = RunFolder(finished.exported).report.read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "img", "link", "iframe", "object", "style "} & set(page.tags)
    assert page.values("style") == page.values("src") == []
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    anchors = page.values("href")
    assert all(link.startswith("#") and link[1:] in page.values("id") for link in anchors)
    style = text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = (value for value in page.values("content") if "default-src" in value)
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'")


@pytest.mark.slow
def test_an_export_later_keeps_the_baselines_and_an_old_run_is_measured_again(
    finished: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = (json.loads(RunFolder(path).gathered.read_text()) for path in (finished.trained, finished.exported))
    assert before["baselines"] == after["baselines"]  # seconds included
    assert "export" not in before
    old = RunFolder(shutil.copytree(finished.trained, tmp_path / "old"))
    for file in (old.gathered, old.report, old.baseline_users):
        file.unlink()
    assert main([str(old.path)]) == 0
    assert "was not written with a report" in capsys.readouterr().out
    assert json.loads(old.gathered.read_text())["users"] == before["users"]
    assert "This run has exported nothing" in old.report.read_text()


def test_texts_of_data_stay_texts() -> None:
    page = Page(run_page(hostile_run()))
    assert not {"script", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(printable(HOSTILE)) > 15
    assert "\u202e" not in page.text
    assert "日本語" in page.text


def test_a_run_of_which_nothing_was_gathered_says_so() -> None:
    page = Page(run_page(made_up(gathered={}, users={}, curve=[])))
    for said in (
        "what the simple baselines reach was not gathered",
        "The curves of the training are not in this folder",
        "they were not gathered with this run",
        "it was not gathered with this run",
        "This run has exported nothing",
    ):
        assert said in page.text


@pytest.mark.parametrize(("lead", "said"), [(0.1, "Better than counting"), (-0.1, "Worse than counting"), (0.0, "No clear difference")])
def test_the_first_sentence_compares_with_the_best_baseline(lead: float, said: str) -> None:
    run = made_up()
    users = run.users["recall@10"]
    rival = users - lead + 0.1 * np.random.default_rng(1).normal(size=100)
    baselines = {"popularity": {"recall@10": 0.01}, "item_knn": {"recall@10": float(rival.mean())}}
    compared = made_up(gathered={**run.gathered, "baselines": {"metrics": baselines}}, baseline_users={"item_knn": {"recall@10": rival}})
    assert said in verdict(compared)
    assert "of item-KNN, the best of the simple baselines" in verdict(compared)


def test_mistakes_are_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text("system: mind\n")
    for complaint, arguments in {
        "expected the folder of a run": [str(tmp_path / "nothing")],
        "has not come to its end": [str(tmp_path)],
        "leave it out, or name several runs": [str(tmp_path), "--output", "page.html"],
    }.items():
        assert main(arguments) == 1
        assert complaint in capsys.readouterr().err


def test_a_heuristic_of_the_library_has_a_page_too(tmp_path: Path) -> None:
    events, items, _ = shop()
    dataset = tfmi.Dataset.from_events(events, items=items, split=EVERYTHING)
    recommender = tfmi.Recommender("popularity", **{"evaluation.cutoffs": [3], "evaluation.report_users": 0}).fit(dataset)
    folder = RunFolder(recommender.save(tmp_path / "run"))
    page = folder.report.read_text()
    assert "it is not trained by steps" in page
    assert "evaluation.report_users is 0" in page
    assert str(tmp_path / "run") in page
    assert write_report(folder).read_text() == page
    silent = tfmi.Recommender("popularity", **{"evaluation.cutoffs": [3], "evaluation.report": False}).fit(dataset)
    assert not RunFolder(silent.save(tmp_path / "silent")).report.exists()

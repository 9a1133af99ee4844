"""Several runs side by side: seeds are one system, and differences are told from chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.kinds.finished import FinishedRun
from tests.reports.conftest import HOSTILE, hostile_run, made_up
from tests.reports.test_run_page import Page
from tfmi.cli.report import main
from tfmi.core.errors import ConfigError
from tfmi.reports.comparison import common_metrics, differences, grouped, same_data, settings_that_differ
from tfmi.reports.comparison_page import comparison_page
from tfmi.reports.run_values import RunValues


def seed_of(system: str, seed: int, lead: float = 0.0, **config: Any) -> RunValues:
    base = made_up()
    users = base.users["recall@10"] + lead + 0.01 * np.random.default_rng(seed).normal(size=100)
    metrics = {
        **base.metrics,
        "system": system,
        "seed": seed,
        "test": {"recall@10": float(users.mean()), "ndcg@10": 0.2},
        "valid": {"recall@10": 0.4 + lead},
        "test_slices": {"history:1-4": {"users": 9, "recall@10": 0.1 + lead}},
    }
    settings = {**base.config, "system": system, "seed": seed, **config}
    return made_up(f"{system}-{seed}", metrics=metrics, config=settings, users={"recall@10": users})


def test_seeds_are_one_system_and_settings_make_another() -> None:
    runs = [seed_of("mind", 1), seed_of("sasrec", 1), seed_of("mind", 2), seed_of("mind", 1, model={"dimension": 16})]
    groups = grouped(runs)
    assert [(group.label, len(group.runs)) for group in groups] == [("mind (dimension 8)", 2), ("sasrec", 1), ("mind (dimension 16)", 1)]
    assert settings_that_differ(groups)["model.dimension"] == [8, 8, 16]
    assert groups[0].deviation("recall@10") == pytest.approx(np.std([runs[0].test["recall@10"], runs[2].test["recall@10"]], ddof=1))
    assert np.isnan(groups[1].deviation("recall@10"))


def test_the_reference_is_chosen_on_validation_and_chance_is_told() -> None:
    groups = grouped([seed_of("best", 1, 0.1), seed_of("best", 2, 0.1), seed_of("worse", 3), seed_of("alike", 4, 0.0999)])
    reference, found = differences(groups, common_metrics(groups))
    assert reference.label == "best"
    assert set(found) == {"recall@10"}  # of ndcg no single users are known
    assert found["recall@10"]["worse"].mean == pytest.approx(-0.1, abs=0.01)
    assert found["recall@10"]["worse"].p_value < 0.01
    assert found["recall@10"]["alike"].p_value > 0.05


def test_the_page_has_bars_significance_and_curves() -> None:
    runs = [seed_of("best", 1, 0.1), seed_of("best", 2, 0.1), seed_of("worse", 3)]
    page = Page(comparison_page(runs, Path("runs")))
    for shown in (
        "best is best on validation",
        "p (Holm)",
        "worse",
        "± ",
        "Validation recall@10",
        "Slices: recall@10",
        "What training took",
    ):
        assert shown in page.text
    assert page.tags.count("svg") == page.tags.count("figure") == 4
    assert "Not the same data" not in page.text


def test_other_data_is_said_and_not_compared() -> None:
    other = seed_of("worse", 3)
    moved = made_up("moved", metrics={**other.metrics, "dataset": "elsewhere"}, config=other.config, users=other.users)
    runs = [seed_of("best", 1), moved]
    assert not same_data(grouped(runs))
    page = Page(comparison_page(runs, Path("runs"))).text
    assert "Not the same data" in page
    assert "p (Holm)" not in page


def test_runs_without_a_common_metric_are_refused() -> None:
    ranker = made_up("ranker", metrics={"system": "din", "test": {"auc": 0.7}})
    with pytest.raises(ConfigError, match="no metric in common"):
        comparison_page([made_up(), ranker], Path())


def test_texts_stay_texts() -> None:
    page = Page(comparison_page([hostile_run(), made_up()], Path("runs")))
    assert not {"script", "img"} & set(page.tags)
    assert HOSTILE.partition("\u202e")[0] in page.text


@pytest.mark.slow
def test_the_program_compares_folders(finished: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "both.html"
    assert main([str(finished.trained), str(finished.exported), "--output", str(output)]) == 0
    assert f"Comparison {output}" in capsys.readouterr().out
    page = Page(output.read_text(encoding="utf-8"))
    assert "1 system on embedded" in page.text  # another index is no other system
    assert "mind (2 seeds)" in page.text
    assert any(link.endswith("exported/report.html") for link in page.values("href"))

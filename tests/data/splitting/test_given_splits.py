"""Splits of your own, by a column or by files; and everybody in a file as somebody to test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfmi.config import DataConfig, validate_config
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.dataset import Dataset, Sequences
from tfmi.data.impressions.impression_loading import load_ranking_dataset
from tfmi.data.loading import load_dataset, load_everybody
from tfmi.data.tags.tag_loading import load_tag_dataset

HEADER = "user,item,time,part\n"


def config(path: Path, log: dict[str, Any] | None = None, **split: Any) -> DataConfig:
    described = {"dataset": "log", "path": str(path), "cache": str(path.parent / "cache"), "log": log or {}, "split": split}
    return validate_config({"data": described}).data


def rows(dataset: Dataset, sequences: Sequences) -> list[list[str]]:
    return [[dataset.catalogue.vocabulary.identifier(int(i)) for i in sequences.row(row)] for row in range(len(sequences))]


def both(dataset: Dataset, part: str) -> list[tuple[list[str], list[str]]]:
    examples = getattr(dataset, part)
    return list(zip(rows(dataset, examples.histories), rows(dataset, examples.targets), strict=True))


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    """One user in all parts, out of order; one who only trains; one who is only tested."""
    lines = ["a,i1,1,train", "a,i3,2,Validation", "a,i4,9,test", "a,i2,5,training", "b,i1,1,train", "b,i2,2,train", "b,i2,3,train"]
    lines += [f"c,i{place},{place},test" for place in range(1, 6)]
    path = tmp_path / "log.csv"
    path.write_text(HEADER + "\n".join(lines) + "\n")
    return path


def test_a_column_says_the_parts(log_path: Path) -> None:
    dataset = load_dataset(config(log_path, {"columns": {"part": "part"}}))
    assert rows(dataset, dataset.train.in_memory()) == [["i1", "i2"], ["i1", "i2", "i2"]]
    assert both(dataset, "valid") == [(["i1", "i2"], ["i3"])]
    # What is held out for validation is history by then; who does not train has a history of their own first events.
    assert both(dataset, "test") == [(["i1", "i2", "i3"], ["i4"]), (["i1", "i2", "i3", "i4"], ["i5"])]
    assert dataset.report["split"] == "given"


def test_files_say_the_parts(log_path: Path, tmp_path: Path) -> None:
    expected = load_dataset(config(log_path, {"columns": {"part": "part"}}))
    folder = tmp_path / "files"
    folder.mkdir()
    lines = [line for line in log_path.read_text().splitlines() if "," in line][1:]
    for name, words in (("train", ("train",)), ("valid", ("Valid",)), ("test", ("test",))):
        chosen = [line.rsplit(",", 1)[0] for line in lines if line.rsplit(",", 1)[1].startswith(words)]
        (folder / f"{name}.csv").write_text("user,item,time\n" + "\n".join(chosen) + "\n")
    by_name = load_dataset(config(folder))
    by_setting = load_dataset(config(folder / "train.csv", {"valid_path": "valid.csv", "test_path": str(folder / "test.csv")}))
    for dataset in (by_name, by_setting):
        for part in ("valid", "test"):
            assert both(dataset, part) == both(expected, part)
        assert rows(dataset, dataset.train.in_memory()) == rows(expected, expected.train.in_memory())
        assert dataset.report["read"]["test_file"]["rows"] == 6


def test_without_a_validation_part_some_who_train_validate(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        HEADER + "".join(f"u{user},i{place},{place},{'test' if place == 9 else 'train'}\n" for user in range(20) for place in range(10))
    )
    dataset = load_dataset(config(path, {"columns": {"part": "part"}}, valid_share=0.2))
    assert len(dataset.valid) == 4
    assert len(dataset.test) == 20
    assert dataset.valid.targets.lengths().tolist() == [2] * 4  # the rest of nine, after int(0.8 x 9)
    assert sorted(dataset.train.in_memory().lengths().tolist()) == [7] * 4 + [9] * 16


def test_an_unknown_part_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(HEADER + "a,i1,1,train\na,i2,2,later\n")
    with pytest.raises(DataError, match="not_a_part: 1"):
        load_dataset(config(path, {"columns": {"part": "part"}}))


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ({"columns": {"part": "part"}, "test_path": "x.csv"}, "two ways to say a split"),
        ({"valid_path": "x.csv"}, "valid_path needs test_path"),
    ],
)
def test_what_cannot_be_is_refused(log: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, log)


def test_a_streamed_log_has_no_split_of_its_own(log_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.log\.columns\.part.*a streamed log is split by_user"):
        load_dataset(config(log_path, {"columns": {"part": "part"}, "streaming": True}))


@pytest.mark.parametrize("load", [load_ranking_dataset, load_tag_dataset])
def test_impressions_and_tags_are_split_by_time(load: Callable[[DataConfig], Any], log_path: Path) -> None:
    described = config(log_path, {"columns": {"part": "part"}})
    clicks = described.impressions.model_copy(update={"sampled_negatives": 1})
    with pytest.raises(ConfigError, match="the log says its own split"):
        load(described.model_copy(update={"impressions": clicks}))


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("auto", [(["i1", "i2", "i3", "i4"], ["i5"]), (["i1"], ["i2"])]),
        ("leave_one_out", [(["i1", "i2", "i3", "i4"], ["i5"]), (["i1"], ["i2"])]),
        ("by_time", [(["i1", "i2", "i3", "i4"], ["i5"])]),
        ("session_prefixes", [(["i1", "i2", "i3", "i4"], ["i5"]), (["i1", "i2", "i3"], ["i4"]), (["i1", "i2"], ["i3"]), (["i1"], ["i2"])]),
    ],
)
def test_everybody_is_tested_by_the_models_own_rule(method: str, expected: list[Any], tmp_path: Path) -> None:
    """No limit of the split leaves anybody out, and nobody trains."""
    path = tmp_path / "log.csv"
    lines = [f"a,i{place},{place}" for place in range(1, 6)] + ["b,i1,1", "b,i2,2", "alone,i1,1"]
    path.write_text("user,item,time\n" + "\n".join(lines) + "\n")
    dataset = load_everybody(config(path, method=method))
    tested = both(dataset, "test")
    assert all(pair in tested for pair in expected)
    assert len(tested) == len(expected) + (method == "session_prefixes")
    assert len(dataset.train) == 0
    assert dataset.report["split"].startswith("everybody")


def test_everybody_needs_two_events(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item,time\na,i1,1\nb,i1,1\n")
    with pytest.raises(DataError, match="nobody has both a history and a later event"):
        load_everybody(config(path))
    with pytest.raises(ConfigError, match="not in 'embedded'"):
        load_everybody(validate_config({}).data)


def test_everybody_brings_profiles(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\n" + "".join(f"u{n % 4},i{n % 3},{n}\n" for n in range(40)))
    (tmp_path / "users.csv").write_text("user,city\nu0,Ulm\nu1,Ulm\nu2,Kiel\nu3,Kiel\n")
    dataset = load_everybody(config(tmp_path, {"profile_columns": ["city"]}))
    assert dataset.profiles is not None
    city = dataset.profiles.features["city"]
    assert np.unique(city.values[dataset.test.histories.users]).tolist() == [2, 3]

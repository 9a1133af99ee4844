"""Splits of your own, by a column or by files; and everybody in a file as somebody to test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfmi.config import DataConfig, validate_config
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.dataset import InteractionDataset, Sequences
from tfmi.data.impressions.impression_dataset import RankingDataset
from tfmi.data.impressions.impression_loading import load_ranking_dataset
from tfmi.data.loading import load_dataset, load_everybody
from tfmi.data.tags.tag_loading import load_tag_dataset

HEADER = "user,item,time,part\n"


def config(path: Path, log: dict[str, Any] | None = None, **split: Any) -> DataConfig:
    described = {"dataset": "log", "path": str(path), "cache": str(path.parent / "cache"), "log": log or {}, "split": split}
    return validate_config({"data": described}).data


def rows(dataset: InteractionDataset, sequences: Sequences) -> list[list[str]]:
    return [[dataset.catalogue.vocabulary.identifier(int(i)) for i in sequences.row(row)] for row in range(len(sequences))]


def both(dataset: InteractionDataset, part: str) -> list[tuple[list[str], list[str]]]:
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


def by_user(dataset: InteractionDataset, sequences: Sequences) -> list[list[str]]:
    """The rows in an order that does not depend on shards."""
    return sorted(rows(dataset, sequences))


@pytest.mark.parametrize("validates", [True, False])
def test_a_streamed_log_is_split_as_in_memory(validates: bool, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    lines = []
    for user in range(30):
        for place in range(8):
            part = "test" if place == 7 or user < 3 else "valid" if place == 6 and validates else "train"
            lines.append(f"u{user},i{(user * 3 + place) % 11},{(place * 5) % 8},{part}")
    path.write_text(HEADER + "\n".join(lines) + "\n")
    log = {"columns": {"part": "part"}}
    expected = load_dataset(config(path, log, valid_share=0.4))
    streamed = load_dataset(config(path, {**log, "streaming": True, "shards": 3}, valid_share=0.4))
    assert streamed.report["split"] == "given"
    assert sorted(both(streamed, "test")) == sorted(both(expected, "test"))
    assert streamed.catalogue.vocabulary.ids == expected.catalogue.vocabulary.ids or not validates
    if validates:
        assert by_user(streamed, streamed.train.in_memory()) == by_user(expected, expected.train.in_memory())
        assert sorted(both(streamed, "valid")) == sorted(both(expected, "valid"))
        assert streamed.catalogue.counts.tolist() == expected.catalogue.counts.tolist()
    else:  # A hash chooses who validates; what they train with and are asked is cut alike.
        assert {len(targets) for _, targets in both(streamed, "valid")} == {2}
        whole = 27 - len(streamed.valid)
        assert 0 < whole < 27
        assert sorted(streamed.train.in_memory().lengths().tolist()) == [5] * len(streamed.valid) + [7] * whole


def test_files_of_a_streamed_log_say_the_parts(log_path: Path, tmp_path: Path) -> None:
    expected = load_dataset(config(log_path, {"columns": {"part": "part"}}))
    folder = tmp_path / "files"
    folder.mkdir()
    lines = log_path.read_text().splitlines()[1:]
    for name, words in (("train", ("train",)), ("valid", ("Valid",)), ("test", ("test",))):
        chosen = [line.rsplit(",", 1)[0] for line in lines if line.rsplit(",", 1)[1].startswith(words)]
        (folder / f"{name}.csv").write_text("user,item,time\n" + "\n".join(chosen) + "\n")
    streamed = load_dataset(config(folder, {"streaming": True, "shards": 2}))
    assert sorted(both(streamed, "test")) == sorted(both(expected, "test"))
    assert both(streamed, "valid") == both(expected, "valid")
    assert streamed.report["read"]["test_file"]["rows"] == 6
    # Another test file makes other shards.
    (folder / "test.csv").write_text("user,item,time\na,i2,9\n")
    assert both(load_dataset(config(folder, {"streaming": True, "shards": 2})), "test") == [(["i1", "i2", "i3"], ["i2"])]


def shown(path: Path, log: dict[str, Any], **split: Any) -> RankingDataset:
    described = config(path, log, **split)
    clicks = described.impressions.model_copy(update={"positive_weight": 3.0})
    return load_ranking_dataset(described.model_copy(update={"impressions": clicks}))


RATED = """user,item,time,score,part
a,i1,1,5,train
a,i2,3,1,train
b,i1,2,4,train
b,i3,4,2,train
a,i3,2,5,valid
a,i1,9,2,test
a,i2,5,4,test
c,i3,1,4,test
c,i1,2,1,test
"""


def test_a_ranker_is_split_as_the_log_says(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(RATED)
    dataset = shown(path, {"columns": {"part": "part", "weight": "score"}})
    assert dataset.report["split"] == "given"
    names = dataset.catalogue.vocabulary
    parts = [dataset.train, dataset.valid, dataset.test]
    assert [part.row_ids.tolist() for part in parts] == [[0, 1, 2, 3], [4], [5, 6, 7, 8]]
    assert [part.labels.tolist() for part in parts] == [[1, 0, 1, 0], [1], [0, 1, 1, 0]]
    # Times are the log's own, and a history is what came before in earlier parts, or before in the row's own.
    assert dataset.test.timestamps.tolist() == [9, 5, 1, 2]
    starts = dataset.clicks.offsets[dataset.test.users]
    histories = [dataset.clicks.items[start:end] for start, end in zip(starts, dataset.test.history_ends, strict=True)]
    assert [[names.identifier(int(item)) for item in history] for history in histories] == [["i1", "i3", "i2"], ["i1", "i3"], [], ["i3"]]
    assert dataset.clicks.timestamps is not None
    assert dataset.clicks.timestamps.tolist() == [1, 2, 5, 2, 1]
    retrieval = dataset.retrieval
    assert both(retrieval, "test") == [(["i1", "i3"], ["i2"])]
    assert both(retrieval, "valid") == [(["i1"], ["i3"])]
    # Without times the file's order is theirs.
    untimed = shown(path, {"columns": {"part": "part", "weight": "score", "time": None}})
    assert [part.row_ids.tolist() for part in (untimed.train, untimed.valid, untimed.test)] == [[0, 1, 2, 3], [4], [5, 6, 7, 8]]
    # A method that is named is used instead.
    by_time = {"method": "by_time", "valid_share": 0.2, "min_user_events": 1, "min_item_events": 1}
    assert shown(path, {"columns": {"part": "part", "weight": "score"}}, **by_time).report["split"] == "by_time"
    with pytest.raises(ConfigError, match="'given' is for data that comes split"):
        shown(path, {"columns": {"weight": "score"}}, method="given")


def test_a_ranker_without_a_validation_part_validates_with_the_end_of_training(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(RATED.replace("valid", "train").replace("b,i1,2,4", "b,i1,2,1"))
    dataset = shown(path, {"columns": {"part": "part", "weight": "score"}}, valid_share=0.3)
    assert [part.row_ids.tolist() for part in (dataset.train, dataset.valid, dataset.test)] == [[0, 2, 4], [1, 3], [5, 6, 7, 8]]


def test_a_model_of_tags_is_split_as_the_log_says(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(RATED)
    (tmp_path / "items.csv").write_text("item,tags\ni1,red|big\ni2,red\ni3,big\n")
    described = config(tmp_path / "log.csv", {"columns": {"part": "part"}})
    described = described.model_copy(update={"tagging": described.tagging.model_copy(update={"min_tag_count": 1, "negatives": 0})})
    dataset = load_tag_dataset(described)
    assert dataset.report["split"] == "given"
    assert [len(part) for part in (dataset.train, dataset.valid, dataset.test)] == [4, 1, 4]
    assert dataset.users.ids == ["a", "b", "c"]
    tested = dataset.states.users[dataset.test_tags.states]
    assert tested.tolist() == [0, 2]
    targets = [{dataset.tags.identifier(int(tag)) for tag in dataset.test_tags.targets[0].row(row)} for row in range(2)]
    assert targets == [{"red", "big"}, {"big", "red"}]
    own = [sorted(dataset.tags.identifier(int(tag)) for tag in dataset.test_tags.own[0].row(row)) for row in range(2)]
    assert own == [["big", "red"], []]  # of a's training and validation events; c was nowhere before
    by_time = described.model_copy(update={"split": described.split.model_copy(update={"method": "by_time"})})
    assert load_tag_dataset(by_time).report["split"] == "by_time"


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

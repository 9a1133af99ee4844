"""A prepared log is, to the row, what the streamed log of the same files is."""

from __future__ import annotations

import dataclasses
import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.spark.messy_log import CONFIG, SETTINGS, write_messy_log
from tfmi.cli import spark_prepare
from tfmi.config import DataConfig
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.dataset import InteractionDataset, Sequences
from tfmi.data.loading import load_dataset
from tfmi.data.reading.log import read_log_files
from tfmi.data.splitting.explicit_negatives import separate_negatives
from tfmi.data.splitting.filtering import core_mask
from tfmi.data.streaming.streamed_log import load_streamed_log
from tfmi.spark.prepare import prepare
from tfmi.spark.session import SparkCluster


@dataclasses.dataclass(frozen=True)
class Both:
    """The same log by Spark and by one process."""

    folder: Path
    prepared: InteractionDataset
    streamed: InteractionDataset
    rejects: Path
    streamed_rejects: Path
    report: dict[str, Any]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, cluster: SparkCluster) -> Both:
    folder = tmp_path_factory.mktemp("spark")
    data = write_messy_log(folder / "data")
    output = folder / "prepared"
    report = prepare(data, CONFIG, output, folder / "rejects", cluster)
    streamed = load_streamed_log(data, CONFIG, folder / "shards", folder / "streamed_rejects")
    prepared = load_dataset(DataConfig(dataset="prepared", path=str(output)))
    return Both(output, prepared, streamed, folder / "rejects", folder / "streamed_rejects", report)


def test_shards_are_those_of_a_streamed_log_byte_for_byte(both: Both) -> None:
    ours = [path.read_bytes() for path in sorted(both.folder.glob("sequences-*"))]
    theirs = [path.read_bytes() for path in both.streamed.train.log.shards]  # type: ignore[union-attr]
    assert len(ours) == 3
    assert sum(map(len, ours)) > 10_000
    assert ours == theirs


def test_rejected_rows_are_the_same(both: Both) -> None:
    lines = (both.rejects / "log.jsonl").read_text().splitlines()
    assert lines == (both.streamed_rejects / "log.jsonl").read_text().splitlines()
    reasons = {json.loads(line)["reason"] for line in lines}
    assert reasons == {"empty_user", "empty_item", "not_a_time", "not_positive", "wrong_field_count"}
    assert {Path(json.loads(line)["file"]).name for line in lines} == {"part-0.csv", "part-2.csv"}


def test_the_dataset_is_the_same(both: Both) -> None:
    ours, theirs = both.prepared, both.streamed
    assert ours.catalogue.vocabulary.ids == theirs.catalogue.vocabulary.ids
    assert len(ours.catalogue.vocabulary) > len({"i1"}) + 30
    np.testing.assert_array_equal(ours.catalogue.counts, theirs.catalogue.counts)
    assert ours.catalogue.titles == theirs.catalogue.titles
    for name, feature in theirs.catalogue.features.items():
        np.testing.assert_array_equal(ours.catalogue.features[name].values, feature.values)
    assert ours.profiles is not None
    assert theirs.profiles is not None
    for name, profile in theirs.profiles.features.items():
        np.testing.assert_array_equal(ours.profiles.features[name].values, profile.values)
    pairs = [(ours.train.in_memory(), theirs.train.in_memory())]
    for part, reference in ((ours.valid, theirs.valid), (ours.test, theirs.test)):
        pairs += [(part.histories, reference.histories), (part.targets, reference.targets)]
    for one, other in pairs:
        assert len(one) > 2
        for field in dataclasses.fields(Sequences):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


def test_the_counts_are_the_same(both: Both) -> None:
    ours, theirs = (
        {key: value for key, value in {**data.report, **data.report["read"]}.items() if key not in ("read", "rejects_file")}
        for data in (both.prepared, both.streamed)
    )
    assert ours == theirs
    assert ours["events_over_max_user_events"] > 100
    assert ours["duplicates_dropped"] >= 15
    assert ours["negative_events"] > 50
    assert both.report["rows"] == ours["rows"] == 1726


def test_nothing_but_the_prepared_log_is_left(both: Both) -> None:
    names = {path.name for path in both.folder.iterdir()}
    shards = {f"sequences-{n:05}-of-00003.tfrecord" for n in range(3)}
    assert names == {*shards, "manifest.json", "vocabulary.parquet", "catalogue.parquet", "users.parquet"}
    assert {path.name for path in both.folder.parent.iterdir()} == {"data", "prepared", "rejects", "shards", "streamed_rejects"}


@pytest.mark.long
def test_repeated_filters_leave_what_they_leave_in_memory(tmp_path: Path, cluster: SparkCluster) -> None:
    data = write_messy_log(tmp_path / "data")
    changes: dict[str, Any] = {"iterate_core": True, "min_item_events": 25, "min_user_events": 15, "max_user_events": None}
    settings: dict[str, Any] = {**SETTINGS, "split": {**SETTINGS["split"], **changes}}
    config = DataConfig.model_validate(settings)
    prepare(data, config, tmp_path / "prepared", tmp_path / "rejects", cluster)
    ours = load_dataset(DataConfig(dataset="prepared", path=str(tmp_path / "prepared")))
    tables = read_log_files(data, config.log, tmp_path / "rejects_in_memory")
    events = separate_negatives(tables.events).positives
    kept = core_mask(events.user_codes, events.item_codes, 15, 25, iterate=True)
    once = core_mask(events.user_codes, events.item_codes, 15, 25, iterate=False)
    assert 0 < kept.sum() < once.sum()
    left = {events.item_ids[code] for code in np.unique(events.item_codes[kept])}
    cold = ours.report["cold_items_as_candidates"]
    assert left == set(ours.catalogue.vocabulary.ids) - set(ours.train.without_events)  # type: ignore[union-attr]
    assert len(ours.catalogue.vocabulary) == len(left) + cold
    assert ours.report["events"] == kept.sum()
    assert ours.report["users"] == len(np.unique(events.user_codes[kept]))


@pytest.mark.long
@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_other_formats_and_folders_of_partitions(tmp_path: Path, cluster: SparkCluster, suffix: str) -> None:
    random = np.random.default_rng(1)
    for day in ("2026-01-01", "2026-01-02"):
        folder = tmp_path / "log" / f"day={day}"
        folder.mkdir(parents=True)
        rows = [{"user": int(u), "item": f"i{i}"} for u, i in random.integers(0, 15, [300, 2])]
        if suffix == "parquet":
            pyarrow.parquet.write_table(pa.Table.from_pylist(rows), folder / "part-0.parquet")
        else:
            (folder / "part-0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings: dict[str, Any] = {
        "log": {"streaming": True, "shards": 2, "columns": {"time": "day"}, "duplicates": "keep"},
        "split": {"valid_share": 0.2, "test_share": 0.2},
    }
    config = DataConfig.model_validate({"dataset": "log", **settings})
    prepare(tmp_path / "log", config, tmp_path / "prepared", tmp_path / "rejects", cluster)
    streamed = load_streamed_log(tmp_path / "log", config, tmp_path / "shards", tmp_path / "rejects")
    ours = [path.read_bytes() for path in sorted((tmp_path / "prepared").glob("sequences-*"))]
    assert ours == [path.read_bytes() for path in streamed.train.log.shards]  # type: ignore[union-attr]


def test_what_is_wrong_with_a_file_is_one_message(tmp_path: Path, cluster: SparkCluster, capfd: pytest.CaptureFixture[str]) -> None:
    """The mistake is met by a task; the file is cut off in the middle."""
    rows = "".join(f"u{n % 30},i{n % 20},{n}\n" for n in range(600))
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "a.csv").write_text("user,item,time\n" + rows)
    (tmp_path / "log" / "b.csv.gz").write_bytes(gzip.compress(("user,item,time\n" + rows).encode())[:-40])
    command = ["--data", str(tmp_path / "log"), "--output", str(tmp_path / "prepared"), "--master", "local[1]"]
    conf = [flag for key, value in cluster.settings.items() for flag in ("--conf", f"{key}={value}")]
    assert spark_prepare.main([*command, *conf]) == 1
    said = capfd.readouterr().err
    assert re.search(r"^error: .*b\.csv\.gz: ", said, re.MULTILINE)
    assert "Traceback" not in said
    assert not (tmp_path / "prepared").exists()
    assert not [path for path in tmp_path.iterdir() if "prepared" in path.name]


class TestRefusals:
    def load(self, folder: Path) -> InteractionDataset:
        return load_dataset(DataConfig(dataset="prepared", path=str(folder)))

    @pytest.fixture
    def copy(self, both: Both, tmp_path: Path) -> Path:
        return Path(shutil.copytree(both.folder, tmp_path / "copy"))

    def test_without_a_manifest_it_was_not_finished(self, copy: Path) -> None:
        (copy / "manifest.json").unlink()
        with pytest.raises(DataError, match=r"has no manifest\.json, so that it holds shards without one: writing them was stopped"):
            self.load(copy)

    def test_a_shard_that_was_copied_half(self, copy: Path) -> None:
        shard = copy / "sequences-00001-of-00003.tfrecord"
        shard.write_bytes(shard.read_bytes()[:-1])
        with pytest.raises(DataError, match=r"00001-of-00003\.tfrecord: has [\d,]+ bytes; expected [\d,]+ bytes: the folder is not"):
            self.load(copy)
        shard.unlink()
        with pytest.raises(DataError, match="is missing; expected"):
            self.load(copy)

    def test_another_version(self, copy: Path) -> None:
        manifest = json.loads((copy / "manifest.json").read_text())
        (copy / "manifest.json").write_text(json.dumps({**manifest, "format": "tfmi prepared log 0, records 2"}))
        with pytest.raises(DataError, match="is of the format 'tfmi prepared log 0, records 2'; this version of tfmi reads"):
            self.load(copy)
        (copy / "manifest.json").write_text("[]")
        with pytest.raises(DataError, match="cannot be read"):
            self.load(copy)

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no such folder; give the one"):
            self.load(tmp_path / "none")
        with pytest.raises(DataError, match="holds no prepared log"):
            self.load(tmp_path)

    def test_an_output_that_holds_something_else_is_left_alone(self, tmp_path: Path, cluster: SparkCluster) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(ConfigError, match="holds something else than a prepared log"):
            prepare(tmp_path / "log.csv", CONFIG, tmp_path, tmp_path / "rejects", cluster)
        assert (tmp_path / "notes.txt").read_text() == "mine"

"""Streaming: TFRecord shards hold what memory would, are complete or absent, and give the same training examples."""

from __future__ import annotations

import gzip
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from tests.storage import room_for
from tfmi.config import DataConfig, LogColumns, LogConfig, SplitConfig
from tfmi.core.errors import ConfigError, DataError, StorageError
from tfmi.data.dataset import FIRST_INDEX, Sequences, Vocabulary
from tfmi.data.features import build_profiles
from tfmi.data.loading import load_dataset
from tfmi.data.pipeline import TrainingBatches, examples_per_epoch, training_batches
from tfmi.data.reading.log import read_log
from tfmi.data.splitting.ordering import order_events
from tfmi.data.streaming.shard_reading import ShardedSequences, UserPart
from tfmi.data.streaming.shard_writing import open_sharded_log, shard_of, write_sharded_log
from tfmi.data.tables import ItemTable, UserTable

ROOT = Path(__file__).resolve().parents[3]
CONFIG = LogConfig(columns=LogColumns(weight="weight"), shards=3, max_reject_share=0.2)


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    """A log of 40 users and 25 items in no order of time, with ties, duplicates and bad rows."""
    rng = np.random.default_rng(11)
    rows = [
        f"ю{u},i{i},{t},{1 + i % 3}"
        for u, i, t in zip(rng.integers(0, 40, 600), rng.zipf(1.5, 600) % 25, rng.integers(0, 99, 600), strict=True)
    ]
    rows[100:100] = [rows[5], rows[6], ",i1,5,1", "u,i2,never,1"]
    path = tmp_path / "log.csv"
    path.write_text("\n".join(["user,item,time,weight", *rows, "once,i1,4,1"]), encoding="utf-8")
    return path


def in_memory(log_path: Path, vocabulary: Vocabulary, min_events: int = 1) -> dict[str, tuple[Any, ...]]:
    """Each user's items (as indices), times and weights, by the in-memory path."""
    table = read_log(log_path, CONFIG, log_path.parent / "memory.jsonl")
    indices = vocabulary.indices(table.item_ids)
    ordered = order_events(table, indices[table.item_codes] >= FIRST_INDEX)
    result = {}
    for row in np.flatnonzero(ordered.lengths() >= min_events):
        span = slice(ordered.offsets[row], ordered.offsets[row + 1])
        assert ordered.timestamps is not None
        assert ordered.weights is not None
        result[table.user_ids[ordered.users[row]]] = (
            indices[ordered.items[span]].tolist(),
            ordered.timestamps[span].tolist(),
            ordered.weights[span].tolist(),
        )
    return result


def by_user(sequences: ShardedSequences) -> dict[str, tuple[Any, ...]]:
    result = {}
    for users, chunk in sequences.chunks():
        assert len(users) == len(chunk)
        assert chunk.timestamps is not None
        assert chunk.weights is not None
        for row, user in enumerate(users):
            span = slice(chunk.offsets[row], chunk.offsets[row + 1])
            result[user] = (chunk.items[span].tolist(), chunk.timestamps[span].tolist(), chunk.weights[span].tolist())
    return result


def hashable(example: dict[str, Any]) -> tuple[Any, ...]:
    return tuple((name, tuple(np.ravel(value).tolist())) for name, value in sorted(example.items()))


def write(log_path: Path, config: LogConfig = CONFIG, **options: Any) -> Any:
    return write_sharded_log(log_path, config, log_path.parent / "shards", log_path.parent / "rejects.jsonl", **options)


def stages(log_path: Path) -> list[str]:
    """What lies in all the folders of shards, however it is called."""
    return sorted(path.name for path in (log_path.parent / "shards").glob("*/*"))


@pytest.mark.parametrize("block_bytes", [300, 1 << 20])
def test_shards_hold_what_memory_would(log_path: Path, block_bytes: int) -> None:
    log = write(log_path, block_bytes=block_bytes)
    table = read_log(log_path, CONFIG, log_path.parent / "memory.jsonl")
    streamed = {key: value for key, value in log.report.items() if key != "rejects_file"}
    assert streamed == {key: value for key, value in table.report.items() if key != "rejects_file"}
    assert streamed["duplicates_dropped"] >= 2
    assert streamed["out_of_order"] > 0
    assert streamed["users_with_one_event"] >= 1
    assert streamed["rejected"] == 2
    counts = np.bincount(table.item_codes)
    assert log.item_counts == dict(zip(table.item_ids, counts.tolist(), strict=True))
    vocabulary = Vocabulary(sorted(log.item_counts))
    assert by_user(ShardedSequences(log, vocabulary)) == in_memory(log_path, vocabulary)


@pytest.mark.parametrize("form", ["parts", "sessions", "lists", "latin-1"])
def test_every_form_streams_as_it_is_read_into_memory(tmp_path: Path, form: str) -> None:
    config = LogConfig(shards=2)
    if form == "parts":
        for day, content in (("1", "user,item\nu,1.0\nv,2\n"), ("2", "user,item\nu,2.0\n,3\n")):
            (tmp_path / "log" / f"day=1970-01-0{day}").mkdir(parents=True)
            (tmp_path / "log" / f"day=1970-01-0{day}" / "part-0.csv").write_text(content)
        path, changes = tmp_path / "log", {"columns": LogColumns(time="day"), "max_reject_share": 0.5}
    elif form == "sessions":
        path = tmp_path / "log.jsonl"
        path.write_text('{"s": 1, "e": [{"a": 1.0, "t": 5}, {"a": 2, "t": 4}]}\n{"s": NaN, "e": [{"a": 1, "t": 1}]}\n')
        changes = {"columns": LogColumns(user="s", item="e[].a", time="e[].t"), "max_reject_share": 0.5}
    elif form == "lists":
        path = tmp_path / "log.tsv"
        path.write_text("u\ta b a\nv\tb\n")
        changes = {"columns": LogColumns(user="1", item="2[]", time=None), "header": False}
    else:
        path = tmp_path / "log.dat.gz"
        path.write_bytes(gzip.compress("ü::é::14/07/2017\nü::b::13/07/2017\n".encode("latin-1")))
        changes = {"column_names": ["user", "item", "time"], "header": False, "encoding": "latin-1", "time_format": "%d/%m/%Y"}
    config = config.model_copy(update=changes)
    log, table = write(path, config), read_log(path, config, tmp_path / "memory.jsonl")
    assert {**log.report, "rejects_file": None} == {**table.report, "rejects_file": None}
    assert log.item_counts == dict(zip(table.item_ids, np.bincount(table.item_codes).tolist(), strict=True))
    assert len(table) > 1


def test_without_space_the_shards_are_named_and_nothing_is_left(log_path: Path) -> None:
    with room_for(2_000), pytest.raises(StorageError, match=r"events: .*no space left: at least .* wanted"):
        write(log_path)
    assert stages(log_path) == []
    assert write(log_path).report["rejected"] == 2


def test_rare_items_and_short_users_are_left_out_as_in_memory(log_path: Path) -> None:
    log = write(log_path)
    vocabulary = Vocabulary([item for item, count in log.item_counts.items() if count >= 20])
    assert 2 < len(vocabulary) < len(log.item_counts)
    sequences = ShardedSequences(log, vocabulary, min_events=6)
    expected = in_memory(log_path, vocabulary, min_events=6)
    assert 0 < len(expected) < log.report["users"]
    assert by_user(sequences) == expected
    assert len(sequences) == len(expected)
    assert sequences.num_events == sum(len(items) for items, *_ in expected.values())


@pytest.mark.slow
@pytest.mark.parametrize(("history_length", "min_history"), [(4, 1), (30, 3)])
def test_examples_equal_those_of_the_in_memory_pipeline(log_path: Path, history_length: int, min_history: int) -> None:
    log = write(log_path)
    sequences = ShardedSequences(log, Vocabulary(sorted(log.item_counts)))
    options: dict[str, Any] = {"history_length": history_length, "min_history": min_history}
    streamed = list(sequences.examples(**options).as_numpy_iterator())
    assert streamed[0]["history"].dtype == np.int32
    assert streamed[0]["timestamps"].dtype == np.float64
    loaded = sequences.in_memory()
    number = examples_per_epoch(loaded, min_history)
    assert examples_per_epoch(sequences, min_history) == number == len(streamed)
    batch = next(iter(training_batches(loaded, **options, batch_size=number, seed=0)))
    expected = [{name: values[row] for name, values in batch.items()} for row in range(number)]
    assert sorted(map(hashable, streamed)) == sorted(map(hashable, expected))


@pytest.mark.slow
@pytest.mark.parametrize(("history_length", "min_history"), [(4, 1), (7, 3), (30, 3)])
def test_whole_sequences_equal_those_of_the_in_memory_pipeline(log_path: Path, history_length: int, min_history: int) -> None:
    log = write(log_path)
    sequences = ShardedSequences(log, Vocabulary(sorted(log.item_counts)))
    loaded = sequences.in_memory()
    number = examples_per_epoch(loaded, min_history, "sequences", history_length)
    assert examples_per_epoch(sequences, min_history, "sequences", history_length) == number
    options: dict[str, Any] = {"history_length": history_length, "min_history": min_history, "batch_size": number, "order": "sequences"}
    streamed, expected = (next(iter(training_batches(source, **options, seed=0))) for source in (sequences, loaded))
    assert streamed["target"].shape == [number, history_length]
    found = [sorted(map(hashable, _rows({name: part.numpy() for name, part in batch.items()}))) for batch in (streamed, expected)]
    assert found[0] == found[1]


@pytest.mark.slow
def test_training_batches_are_decided_by_seed_and_step(log_path: Path) -> None:
    log = write(log_path)
    sequences = ShardedSequences(log, Vocabulary(sorted(log.item_counts)))
    options: dict[str, Any] = {"history_length": 5, "min_history": 1, "batch_size": 32}
    # Blocks of 100 examples: batches span blocks as well as passes.
    assert sequences.num_examples(1) % 100
    assert 4 < sequences.num_examples(1) / 100 < 40 * 32 / 100

    def take(count: int, seed: int = 7, start_step: int = 0) -> list[tuple[Any, ...]]:
        batches = sequences.training_batches(**options, seed=seed, start_step=start_step, shuffle_buffer=100)
        return [hashable(batch) for batch in batches.take(count).as_numpy_iterator()]

    first = take(40)
    assert first == take(40)
    for step in (1, 3, 4, 18, 25):
        assert first[step:] == take(40 - step, start_step=step)
    assert first != take(40, seed=8)
    same = TrainingBatches(sequences, **options, seed=7)
    third, again = (next(same.from_step(2).as_numpy_iterator()) for _ in range(2))
    assert hashable(third) == hashable(again) == hashable(list(same.from_step(0).take(3).as_numpy_iterator())[2])


@pytest.mark.slow
def test_tensorflows_global_seed_changes_no_batch(log_path: Path) -> None:
    log = write(log_path)
    sequences = ShardedSequences(log, Vocabulary(sorted(log.item_counts)))
    found = []
    for seed in (0, 1):
        tf.random.set_seed(seed)
        batches = training_batches(sequences, history_length=5, min_history=1, batch_size=64, seed=7)
        found.append([hashable(batch) for batch in batches.take(3).as_numpy_iterator()])
    assert found[0] == found[1]


def test_starting_late_reads_no_more_than_one_pass_before(log_path: Path) -> None:
    log = write(log_path)
    users_read = 0

    class Counting(ShardedSequences):
        def _parse(self, records: tf.Tensor) -> dict[str, tf.Tensor]:
            return super()._parse(tf.ensure_shape(tf.numpy_function(count, [records], tf.string), [None]))

    def count(records: np.ndarray) -> np.ndarray:
        nonlocal users_read
        users_read += len(records)
        return records

    sequences = Counting(log, Vocabulary(sorted(log.item_counts)))
    examples = sequences.num_examples(1)
    users_in_a_pass, users_read = users_read, 0
    batch_size = 4
    steps_of_99_passes = 99 * examples // batch_size
    next(iter(sequences.training_batches(history_length=5, min_history=1, batch_size=batch_size, seed=7, start_step=steps_of_99_passes)))
    # Its own pass, and one or two read ahead.
    assert users_in_a_pass <= users_read <= 3 * users_in_a_pass


@pytest.mark.slow
@pytest.mark.parametrize("shuffle_buffer", [1, 100, 100_000])
def test_a_pass_of_batches_holds_every_example_once(log_path: Path, shuffle_buffer: int) -> None:
    log = write(log_path)
    sequences = ShardedSequences(log, Vocabulary(sorted(log.item_counts)))
    number = sequences.num_examples(1)
    batches = sequences.training_batches(history_length=5, min_history=1, batch_size=number, seed=1, shuffle_buffer=shuffle_buffer)
    first, second = (list(map(hashable, _rows(batch))) for batch in batches.take(2).as_numpy_iterator())
    assert first != second
    assert sorted(first) == sorted(second) == sorted(map(hashable, sequences.examples(history_length=5, min_history=1).as_numpy_iterator()))


def _rows(batch: dict[str, Any]) -> list[dict[str, Any]]:
    return [{name: values[row] for name, values in batch.items()} for row in range(len(batch["target"]))]


@pytest.mark.slow
def test_parts_are_disjoint_and_exhaustive_and_keyed_by_the_seed(log_path: Path) -> None:
    log = write(log_path)
    vocabulary = Vocabulary(sorted(log.item_counts))

    def users(part: UserPart) -> set[str]:
        return set(by_user(ShardedSequences(log, vocabulary, part=part)))

    low, high = users(UserPart(3, 0.0, 0.3)), users(UserPart(3, 0.3, 1.0))
    assert low
    assert high
    assert not low & high
    assert low | high == users(UserPart())
    assert low != users(UserPart(4, 0.0, 0.3))


def test_the_shard_of_a_user_never_changes() -> None:
    # The first is CRC-32's published check value.
    assert shard_of(pa.array(["123456789", "ю", "123456789"], pa.large_string()), 1 << 32).tolist() == [0xCBF43926, 0xD3FA4886, 0xCBF43926]


def test_finished_shards_are_reused_until_the_log_or_a_rule_changes(log_path: Path) -> None:
    log = write(log_path)
    stamp = log.shards[0].stat().st_mtime_ns
    assert write(log_path).shards[0].stat().st_mtime_ns == stamp
    assert stages(log_path) == ["sequences"]
    assert len(write(log_path, CONFIG.model_copy(update={"shards": 3})).shards) == 3
    with log_path.open("a", encoding="utf-8") as stream:
        stream.write("\nnew,i1,5,1\n")
    assert write(log_path).report["users"] == log.report["users"] + 1
    catalogue = ItemTable(item_ids=["i1"])
    assert write(log_path, catalogue=catalogue).report["events_of_unknown_items"] > 0


def test_a_run_that_dies_leaves_no_half_stage_and_the_next_one_goes_on(log_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tfmi.data.streaming.shard_writing._sequence_records", die)
    with pytest.raises(KeyboardInterrupt):
        write(log_path)
    assert stages(log_path) == ["events"]
    monkeypatch.undo()
    # Stage 1 is not repeated: a reader that cannot read would fail.
    monkeypatch.setattr("tfmi.data.streaming.shard_writing.LogReader.chunks", die)
    assert write(log_path).report["events"] > 0
    assert stages(log_path) == ["sequences"]


class TestSeveralRuns:
    """Several processes that stream one log."""

    # Another process: it stops in the middle of the first stage, says so, and goes on once a line is written to it.
    SCRIPT = """
import sys
import tfmi.data.streaming.shard_writing as tfrecord
from tests.data.streaming.test_tfrecord import CONFIG, write
from pathlib import Path

write_events = tfrecord._write_events

def slowly(*arguments):
    print("writing", flush=True)
    sys.stdin.readline()
    write_events(*arguments)

tfrecord._write_events = slowly
log = write(Path(sys.argv[1]), CONFIG.model_copy(update={"shards": int(sys.argv[2])}))
print("written", flush=True)
sys.stdin.readline()
print(all(shard.exists() for shard in log.shards), flush=True)
"""

    @pytest.fixture
    def start(self, log_path: Path) -> Iterator[Callable[[int], subprocess.Popen[str]]]:
        processes = []

        def start(shards: int) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", self.SCRIPT, str(log_path), str(shards)]
            process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
            processes.append(process)
            assert self.line(process) == "writing"
            return process

        yield start
        for process in processes:
            process.kill()
            process.communicate()

    def line(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()

    def go_on(self, process: subprocess.Popen[str]) -> str:
        assert process.stdin is not None
        process.stdin.write("\n")
        return self.line(process)

    @pytest.mark.slow
    def test_the_second_waits_for_the_first_and_reads_what_it_wrote(
        self,
        log_path: Path,
        start: Callable[[int], subprocess.Popen[str]],
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        first = start(3)
        done: list[str] = []

        def finish_the_first(seconds: float) -> None:
            done.append(self.go_on(first))

        monkeypatch.setattr("tfmi.core.folder_lock.time.sleep", finish_the_first)
        monkeypatch.setattr("tfmi.data.streaming.shard_writing._write_events", None)
        with caplog.at_level(logging.INFO, logger="tfmi"):
            log = write(log_path)
        assert done == ["written"]
        assert f"waiting for process {first.pid} on " in caplog.text
        assert log.report["events"] > 0

    @pytest.mark.slow
    def test_a_killed_one_is_taken_over_and_its_leftovers_go(self, log_path: Path, start: Callable[[int], subprocess.Popen[str]]) -> None:
        for shards in (3, 5):
            process = start(shards)
            process.kill()
            process.wait()
        shards_folder = log_path.parent / "shards"
        assert len(list(shards_folder.glob("*/.events.*"))) == 2
        log = write(log_path)
        assert len(log.shards) == 3
        assert stages(log_path) == ["sequences"]
        assert len(list(shards_folder.iterdir())) == 2  # the folder and its lock

    @pytest.mark.slow
    def test_other_rules_take_nothing_from_one_that_reads(self, log_path: Path, start: Callable[[int], subprocess.Popen[str]]) -> None:
        reader = start(3)
        assert self.go_on(reader) == "written"
        log = write(log_path, CONFIG.model_copy(update={"shards": 5}))
        assert len(log.shards) == 5
        assert stages(log_path) == ["sequences", "sequences"]
        assert self.go_on(reader) == "True"
        reader.wait()
        write(log_path, CONFIG.model_copy(update={"shards": 5}))
        assert stages(log_path) == ["sequences"]
        assert log.shards[0].exists()

    def test_a_first_stage_left_beside_the_second_goes(self, log_path: Path) -> None:
        log = write(log_path)
        (log.shards[0].parents[1] / "events").mkdir()
        write(log_path)
        assert stages(log_path) == ["sequences"]


def test_a_log_with_too_many_rejects_leaves_no_shards(log_path: Path) -> None:
    with pytest.raises(DataError, match="max_reject_share"):
        write(log_path, CONFIG.model_copy(update={"max_reject_share": 0.0}))
    assert stages(log_path) == list((log_path.parent / "shards").iterdir()) == []
    assert len((log_path.parent / "rejects.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_what_is_no_shard_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a folder of sequence shards"):
        open_sharded_log(tmp_path)


def test_records_are_plain_examples(log_path: Path) -> None:
    log = write(log_path)
    record = next(tf.data.TFRecordDataset(str(log.shards[0])).as_numpy_iterator())
    features = tf.train.Example.FromString(record).features.feature
    items = features["items"].bytes_list.value
    times = np.frombuffer(features["timestamps"].bytes_list.value[0], "<f8")
    assert sorted(features) == ["items", "timestamps", "user", "weights"]
    assert len(items) == len(times) == len(features["weights"].float_list.value)
    assert (np.diff(times) >= 0).all()
    manifest = json.loads((log.shards[0].parent / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["report"]["events"] == sum(log.item_counts.values())


def test_without_times_and_with_more_shards_than_users(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item\nu,b\nv,a\nu,a\nu,b\n")
    log = write(path, LogConfig(columns=LogColumns(time=None), shards=8))
    chunks = [(users, [chunk.row(row).tolist() for row in range(len(chunk))]) for users, chunk in _chunks(log)]
    found = {user: items for users, rows in chunks for user, items in zip(users, rows, strict=True)}
    assert found == {"u": [3, 2, 3], "v": [2]}
    assert len(log.shards) == 8


def _chunks(log: Any) -> list[tuple[list[str], Sequences]]:
    return list(ShardedSequences(log, Vocabulary(["a", "b"])).chunks())


@pytest.mark.slow
def test_profiles_follow_their_users(log_path: Path) -> None:
    log = write(log_path)
    users = sorted(by_user(ShardedSequences(log, Vocabulary(log.item_counts))))[:-1]
    table = UserTable(users, {"name": users})
    profiles = build_profiles(users, np.arange(1, len(users) + 1), table)
    sequences = ShardedSequences(log, Vocabulary(sorted(log.item_counts)), profiles=profiles)
    for ids, chunk in sequences.chunks():
        assert [profiles.user_ids[row] for row in chunk.users] == [user if user in users else "" for user in ids]
    loaded = sequences.in_memory()
    options: dict[str, Any] = {"history_length": 5, "min_history": 1}
    number = sequences.num_examples(1)
    batch = next(iter(training_batches(loaded, **options, batch_size=number, seed=0, profiles=profiles)))
    expected = sorted(zip(batch["target"].numpy().tolist(), batch["profile"]["name"].numpy().tolist(), strict=True))
    streamed = ((int(e["target"]), int(e["profile"]["name"])) for e in sequences.examples(**options).as_numpy_iterator())
    assert sorted(streamed) == expected


class TestStreamedDataset:
    def config(self, log_path: Path, split: SplitConfig | None = None, **log: Any) -> DataConfig:
        split = split or SplitConfig(min_user_events=4, min_item_events=3, valid_share=0.2, test_share=0.3)
        rules = CONFIG.model_copy(update={"streaming": True, **log})
        return DataConfig(dataset="log", path=str(log_path), cache=str(log_path.parent / "cache"), log=rules, split=split)

    @pytest.mark.slow
    def test_parts_vocabulary_and_counts(self, log_path: Path) -> None:
        config = self.config(log_path)
        dataset = load_dataset(config)
        train = dataset.train.in_memory()
        assert isinstance(dataset.train, ShardedSequences)
        np.testing.assert_array_equal(np.bincount(train.items, minlength=dataset.catalogue.num_rows), dataset.catalogue.counts)
        counts = dataset.catalogue.counts[FIRST_INDEX:]
        assert (np.diff(counts) <= 0).all()
        assert train.lengths().min() >= 4
        assert dataset.report["train"] == {"sequences": len(train), "events": len(train.items)}
        assert dataset.report["read"]["rejected"] == 2
        memory = load_dataset(config.model_copy(update={"log": config.log.model_copy(update={"streaming": False})}))
        assert set(dataset.catalogue.vocabulary.ids) == set(memory.catalogue.vocabulary.ids)
        streamed_users = len(train) + len(dataset.valid) + len(dataset.test)
        assert streamed_users == memory.report["users"]

    @pytest.mark.slow
    def test_histories_end_before_their_targets(self, log_path: Path) -> None:
        dataset = load_dataset(self.config(log_path))
        for part in (dataset.valid, dataset.test):
            assert part.histories.timestamps is not None
            assert part.targets.timestamps is not None
            last = part.histories.timestamps[part.histories.offsets[1:] - 1]
            first = part.targets.timestamps[part.targets.offsets[:-1]]
            assert (last <= first).all()
            total = part.histories.lengths() + part.targets.lengths()
            np.testing.assert_array_equal(part.histories.lengths(), (0.8 * total).astype(int))

    @pytest.mark.slow
    def test_a_users_file_gives_profiles_and_the_log_cannot(self, log_path: Path) -> None:
        config = self.config(log_path, profile_columns=["region"])
        with pytest.raises(ConfigError, match="must stand in a users file"):
            load_dataset(config)
        (log_path.parent / "users.csv").write_text("user,region\nю1,north\nю2,south\n", encoding="utf-8")
        dataset = load_dataset(config)
        assert dataset.profiles is not None
        batch = next(iter(training_batches(dataset.train, history_length=3, min_history=1, batch_size=8, seed=1)))
        assert batch["profile"]["region"].shape == (8,)

    @pytest.mark.parametrize(
        ("split", "message"),
        [
            (SplitConfig(method="leave_one_out"), "a streamed log is split by_user"),
            (SplitConfig(iterate_core=True), "iterate_core"),
        ],
    )
    def test_what_cannot_stream_is_refused(self, log_path: Path, split: SplitConfig, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            load_dataset(self.config(log_path, split))
        with pytest.raises(ConfigError, match=r"data\.examples"):
            load_dataset(self.config(log_path).model_copy(update={"examples": "random_position"}))

    @pytest.mark.parametrize(
        ("split", "message"),
        [
            (SplitConfig(min_item_events=10_000), "items has 10000 events; lower data.split.min_item_events"),
            (SplitConfig(min_user_events=10_000, min_item_events=1), "training part has no sequence"),
            (SplitConfig(min_user_events=1, min_item_events=1, valid_share=1e-9), "valid part is empty"),
        ],
    )
    def test_an_empty_part_says_what_to_change(self, log_path: Path, split: SplitConfig, message: str) -> None:
        with pytest.raises(DataError, match=message):
            load_dataset(self.config(log_path, split))

"""``training/score_users.py`` and ``training/explain_tags.py``: users in bulk, and reasons."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.export.tags.tag_datasets import NUM_RESULTS, ExportedTags, export_tags
from tests.models.user_tags.user_tag_models import UTPM
from tests.programs import run_program
from tests.storage import room_for
from tfmi.bulk import trained_users
from tfmi.bulk.parts import MANIFEST, claim, parts_folder, write_answers
from tfmi.bulk.tag_answers import TagScorer
from tfmi.bulk.user_file import UserFile
from tfmi.bulk.users import Users, UsersInMemory
from tfmi.cli import evaluate as evaluate_cli
from tfmi.cli import explain_tags as explain_tags_cli
from tfmi.cli import score_users as score_users_cli
from tfmi.core.errors import ConfigError, DataError, StorageError
from tfmi.export.tags.user_fields import UserFields

ROOT = Path(__file__).resolve().parents[2]
FIELDS: list[dict[str, Any]] = [
    {"feature": "age", "kind": "number", "inputs": ["profile_age"]},
    {"feature": "city", "kind": "categorical", "inputs": ["profile_city"]},
    {"feature": "liked tags", "kind": "multi_valued", "inputs": ["profile_liked_tags", "profile_liked_tags_weights"], "width": 2},
]


class Counting:
    """A model that answers with how often it was asked, and fails at the end of its patience."""

    def __init__(self, patience: int = 1000) -> None:
        self.metadata = {
            "widths": {"num_results": 2},
            "tasks": [{"task": "click", "output": "click"}],
            "profile_inputs": FIELDS,
            "created": "now",
        }
        self.asked, self.patience = 0, patience

    def predict(self, signature: str, request: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert signature == "user_tags"
        if self.asked >= self.patience:
            raise KeyboardInterrupt
        self.asked += 1
        cities = request["profile_city"]
        tags = np.array([[city.encode(), b""] for city in cities], dtype=object)
        return {
            "cold_start": np.array([not city for city in cities]),
            "click_tags": tags,
            "click_scores": np.where(tags == b"", -np.inf, 1.5).astype(np.float32),
        }


def scorer(model: Any, batch_size: int = 3, most: int | None = None) -> TagScorer:
    return TagScorer(model, batch_size, most)


def people(count: int) -> UsersInMemory:
    fields = UserFields(FIELDS)
    request = fields.request({"city": [f"city {i}" if i % 5 else "" for i in range(count)]}, count)
    return UsersInMemory("people", Users([f"user {i}" for i in range(count)], request))


def read(path: Path) -> list[dict[str, Any]]:
    parts = sorted(path.glob("part-*.parquet")) if path.is_dir() else [path]
    return [row for part in parts for row in pyarrow.parquet.read_table(part).to_pylist()]


@dataclass(frozen=True)
class Chunked:
    """Users in chunks of odd sizes."""

    source: UsersInMemory

    def chunks(self) -> Iterator[Users]:
        start = 0
        for size in (1, 0, 13, 2, 100):
            yield self.source.users.rows(start, start + size)
            start += size

    def total(self) -> None:
        return None

    def fingerprint(self) -> dict[str, Any]:
        return self.source.fingerprint()


@pytest.mark.parametrize("name", ["tags.parquet", "tags"])
def test_everybody_is_scored_in_order_whatever_the_chunks(tmp_path: Path, name: str) -> None:
    output = tmp_path / name
    assert write_answers(scorer(Counting()), Chunked(people(23)), output, settings={}, part_rows=5, progress=False) == 23
    rows = read(output)
    assert [row["user_id"] for row in rows] == [f"user {i}" for i in range(23)]
    assert rows[1] == {"user_id": "user 1", "cold_start": False, "click_tags": ["city 1"], "click_scores": [1.5]}
    assert rows[5] == {"user_id": "user 5", "cold_start": True, "click_tags": [], "click_scores": []}
    if output.suffix:
        assert pyarrow.parquet.read_metadata(output).num_row_groups >= 5
        assert list(tmp_path.iterdir()) == [output]
    else:
        assert sorted(path.name for path in output.iterdir()) == [MANIFEST, *(f"part-0000{i}.parquet" for i in range(5))]


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    output, settings = tmp_path / "tags.parquet", {"savedmodel": "m"}
    impatient = Counting(patience=5)  # two requests for each part of five users
    with pytest.raises(KeyboardInterrupt):
        write_answers(scorer(impatient), people(23), output, settings=settings, part_rows=5, progress=False)
    parts = tmp_path / "tags.parquet.parts"
    assert sorted(path.name for path in parts.iterdir()) == [MANIFEST, "part-00000.parquet", "part-00001.parquet"]
    model = Counting()
    with pytest.raises(ConfigError, match=r"other settings \(savedmodel\)"):
        write_answers(scorer(model), people(23), output, settings={"savedmodel": "other"}, part_rows=5, progress=False)
    with pytest.raises(ConfigError, match=r"other settings \(part_rows, source\)"):
        write_answers(scorer(model), people(22), output, settings=settings, part_rows=6, progress=False)
    assert write_answers(scorer(model), people(23), output, settings=settings, part_rows=5, progress=False) == 23
    assert model.asked == 5  # the last three parts
    assert [row["user_id"] for row in read(output)] == [f"user {i}" for i in range(23)]
    with pytest.raises(ConfigError, match="exists already"):
        write_answers(scorer(model), people(23), output, settings=settings, part_rows=5, progress=False)


def test_a_run_that_ended_before_its_first_answer_binds_nobody(tmp_path: Path) -> None:
    claim(tmp_path, {"top": 1})
    claim(tmp_path, {"top": 2})
    (tmp_path / "part-00000.parquet").touch()
    claim(tmp_path, {"top": 2})
    with pytest.raises(ConfigError, match=r"other settings \(top\)"):
        claim(tmp_path, {"top": 1})


def test_other_peoples_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds something else"):
        write_answers(scorer(Counting()), people(3), tmp_path, settings={}, part_rows=5, progress=False)


def test_a_second_run_in_the_same_place_is_told_of_the_first(tmp_path: Path) -> None:
    output = tmp_path / "tags.parquet"

    class Second(Counting):
        def predict(self, signature: str, request: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            with pytest.raises(ConfigError, match=rf"tags\.parquet: process {os.getpid()} on .* is working there"):
                write_answers(scorer(Counting()), people(3), output, settings={}, part_rows=5, progress=False)
            return super().predict(signature, request)

    assert write_answers(scorer(Second()), people(3), output, settings={}, part_rows=5, progress=False) == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["tags.parquet"]


@pytest.mark.parametrize("output", ["tags.parquet", "tags"])
def test_leftovers_of_a_killed_run_stop_nobody(tmp_path: Path, output: str) -> None:
    folder = parts_folder(tmp_path / output)
    folder.mkdir()
    for left in (".answers.json.abc123", ".part-00000.parquet.tmp-00000000-1-00000000", ".lock"):
        (folder / left).write_text("half")
    assert write_answers(scorer(Counting()), people(3), tmp_path / output, settings={}, part_rows=5, progress=False) == 3
    assert len(read(tmp_path / output)) == 3


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_same_call_goes_on(tmp_path: Path) -> None:
    output = tmp_path / "tags.parquet"

    def write() -> int:
        return write_answers(scorer(Counting()), people(2000), output, settings={}, part_rows=1000, progress=False)

    with room_for(3000), pytest.raises(StorageError, match=r"part-00000\.parquet: cannot write here, no space left: .* wanted"):
        write()
    assert not [entry for entry in parts_folder(output).iterdir() if "part" in entry.name]
    assert write() == 2000


def test_no_more_tags_than_the_model_has_can_be_asked_for() -> None:
    with pytest.raises(ConfigError, match="--top 3: this model answers with 2 tags"):
        scorer(Counting(), most=3)


# Files

USERS: list[dict[str, Any]] = [
    {"user_id": "ann", "city": " Oslo ", "age": 31, "liked tags": {"jazz": 3.0, "rock": 1.0, "folk": 2.0}},
    {"user_id": "bob", "city": "", "age": None, "liked tags": {}},
    {"user_id": "", "city": "Oslo", "age": 1, "liked tags": {}},
    {"user_id": "eve", "city": "Oslo", "age": "old", "liked tags": {}},
    {"user_id": "dan", "city": "Bergen", "age": 20.5, "liked tags": {"pop": -1.0}},
    {"user_id": "fay", "city": "Bergen", "age": 20.5, "liked tags": {"pop": 1.0}},
]


def write(path: Path) -> Path:
    cells = ["|".join(f"{tag}:{weight}" for tag, weight in row["liked tags"].items()) for row in USERS]
    if path.suffix == ".csv":
        lines = [
            f"{row['user_id']},{row['city']},{'' if row['age'] is None else row['age']},{cell}"
            for row, cell in zip(USERS, cells, strict=True)
        ]
        path.write_text("\n".join(["user_id,city,age,liked tags", *lines]) + "\n")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in USERS))
    else:
        ages = [None if row["age"] is None else str(row["age"]) for row in USERS]
        names = [row["user_id"] for row in USERS]
        columns = {"user_id": names, "city": [row["city"] for row in USERS], "age": ages, "liked tags": cells}
        pyarrow.parquet.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_files_of_every_format_say_the_same_and_bad_rows_are_kept_apart(tmp_path: Path, suffix: str) -> None:
    path, rejects = write(tmp_path / f"users.{suffix}"), tmp_path / "rejects.csv"
    source = UserFile(path, UserFields(FIELDS), user_column="user_id", rejects_path=rejects)
    (users,) = source.chunks()
    assert users.ids == ["ann", "bob", "fay"]
    assert users.request["profile_city"].tolist() == ["Oslo", "", "Bergen"]
    np.testing.assert_array_equal(users.request["profile_age"], np.array([31, np.nan, 20.5], np.float32))
    assert users.request["profile_liked_tags"].tolist() == [["jazz", "folk"], ["", ""], ["pop", ""]]  # the heaviest
    assert users.request["profile_liked_tags_weights"].tolist() == [[3, 2], [0, 0], [1, 0]]
    reasons = [line.split(",")[3] for line in rejects.read_text().splitlines()[1:]]
    assert sorted(reasons) == ["bad_tag_weight", "empty_user", "not_a_number"]
    assert source.total() == (6 if suffix == "parquet" else None)


def test_lists_count_each_value_once_and_missing_columns_are_unknown(tmp_path: Path) -> None:
    path = tmp_path / "users.jsonl"
    path.write_text('{"id": 7, "liked tags": ["jazz", "rock"]}\n')
    (users,) = UserFile(path, UserFields(FIELDS), user_column="id", rejects_path=tmp_path / "r.csv").chunks()
    assert users.ids == ["7"]
    assert users.request["profile_liked_tags_weights"].tolist() == [[1, 1]]
    assert np.isnan(users.request["profile_age"]).all()
    assert users.request["profile_city"].tolist() == [""]


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_text("user,town\nann,Oslo\n")
    with pytest.raises(DataError, match=r"no column 'user_id'.*--user-column"):
        list(UserFile(path, UserFields(FIELDS), user_column="user_id", rejects_path=tmp_path / "r.csv").chunks())
    with pytest.raises(DataError, match="none of the model's fields is there: age, city, liked tags"):
        list(UserFile(path, UserFields(FIELDS), user_column="user", rejects_path=tmp_path / "r.csv").chunks())
    with pytest.raises(DataError, match="'city' is a field of the model"):
        UserFile(path, UserFields(FIELDS), user_column="city", rejects_path=tmp_path / "r.csv")
    path.write_text("user_id,city\n,Oslo\n")
    source = UserFile(path, UserFields(FIELDS), user_column="user_id", rejects_path=tmp_path / "r.csv")
    with pytest.raises(DataError, match="nobody to ask about"):
        write_answers(scorer(Counting()), source, tmp_path / "tags", settings={}, part_rows=5, progress=False)


# The programs


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportedTags:
    widths = {"warmup_batch_sizes": [1], "audience_size": 0}
    return export_tags(UTPM, tmp_path_factory.mktemp("models") / "toy", "exact", widths=widths)


@pytest.fixture
def from_run(exported: ExportedTags, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data that the model names is the one it was made from."""
    names = ("age", "city", "liked")
    features = {name: exported.dataset.states.fields[name] for name in names}
    request = trained_users.profile_values(features, np.asarray(exported.dataset.users.states))
    users = UsersInMemory("toy", Users(list(exported.dataset.users.ids), request))
    monkeypatch.setattr(trained_users, "load_trained_users", lambda *_: users)


@pytest.mark.slow
def test_the_program_writes_what_the_model_answers(exported: ExportedTags, tmp_path: Path) -> None:
    users = tmp_path / "users.csv"
    users.write_text("id,city,liked\nann,city 1,tag 1:2|tag 4\nbob,,\n")
    options = ["--users", str(users), "--user-column", "id", "--top", "3", "--output", str(tmp_path / "tags.parquet")]
    done = run_program(ROOT / "training" / "score_users.py", str(exported.folder.parent), *options)
    assert done.code == 0, done.err
    assert "users" in done.err  # the progress bar
    assert json.loads(done.out.splitlines()[-1])["users"] == 2
    ann, bob = read(tmp_path / "tags.parquet")
    assert (ann["cold_start"], bob["cold_start"]) == (False, True)
    request = UserFields(exported.saved.metadata["profile_inputs"]).request_of({"city": "city 1", "liked": {"tag 1": 2.0, "tag 4": 1.0}})
    answer = exported.saved.predict("user_tags", request)
    for task in ("click", "buy"):
        assert ann[f"{task}_tags"] == [tag.decode() for tag in answer[f"{task}_tags"][0, :3]]
        np.testing.assert_allclose(ann[f"{task}_scores"], answer[f"{task}_scores"][0, :3], rtol=1e-5)
        assert len(bob[f"{task}_tags"]) == 3


@pytest.mark.slow
def test_the_users_of_the_run_and_their_reasons(
    exported: ExportedTags, from_run: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "tags"
    assert score_users_cli.main([str(exported.folder), "--from-run", "--output", str(output), "--part-rows", "7"]) == 0
    rows = read(output)
    assert [row["user_id"] for row in rows] == list(exported.dataset.users.ids)
    assert all(len(row["click_tags"]) == NUM_RESULTS for row in rows)
    plot = tmp_path / "reasons.png"
    capsys.readouterr()
    arguments = [str(exported.folder), "--user-id", "user 2", "--task", "buy", "--top", "2", "--plot", str(plot)]
    assert explain_tags_cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert next(line for line in printed.splitlines() if "score" in line).startswith(f"{rows[2]['buy_tags'][0]} (buy): score ")
    assert "attention" in printed
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--user", "[]", "--tag", "tag 1"], "--user: expected a JSON object"),
        (["--user", "{", "--tag", "tag 1"], "--user: not a JSON object"),
        (["--user", '{"citty": "a"}', "--tag", "tag 1"], "no field 'citty' (did you mean 'city'?)"),
        (["--user", '{"city": 3}', "--tag", "tag 1"], "field 'city' takes a string, got 3"),
        (["--user", '{"age": "3"}', "--tag", "tag 1"], "field 'age' takes a number"),
        (["--user", '{"liked": "tag 1"}', "--tag", "tag 1"], "field 'liked' takes a list of strings"),
        (["--user", "{}", "--tag", "no tag"], "the model does not know 'no tag'"),
        (["--user", "{}", "--task", "clik"], "--task: no task 'clik' (did you mean 'click'?)"),
        (["--user-id", "ann"], "no run configuration"),
    ],
)
def test_what_cannot_be_explained_is_told(
    exported: ExportedTags, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert explain_tags_cli.main([str(exported.folder), *arguments]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_items_are_not_measured_on_a_model_of_tags(exported: ExportedTags, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate_cli.main([str(exported.folder)]) == 1
    assert "answers with tags" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--top", "--batch-size", "--part-rows"])
def test_numbers_below_one_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert score_users_cli.main([str(tmp_path), "--from-run", "--output", str(tmp_path / "out"), option, "0"]) == 1
    assert f"{option}: expected a number of at least 1" in capsys.readouterr().err

"""``training/recommend_users.py`` on retrievers: the served answers, for everybody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.export.conftest import direct_export, exact_export  # noqa: F401 - fixtures
from tests.export.fake_recommenders import AGE, HISTORY_LENGTH, NUM_RESULTS, REGION, Exported
from tests.export.retrieval.test_filtered_requests import PRICE, published_once
from tests.export.retrieval.test_filtered_requests import best as best_items
from tfmi.bulk.asking import answers_of, fields_of
from tfmi.bulk.recommendations import RecommendationAnswers, RetrieverFields
from tfmi.bulk.trained_users import UsersOfTables
from tfmi.bulk.users import Users, in_parts
from tfmi.cli import recommend_users
from tfmi.core.errors import ConfigError, DataError
from tfmi.data.reading.log import LogTables
from tfmi.data.tables import EventTable, UserTable

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loaded_once")]

USERS: list[dict[str, Any]] = [
    {"user_id": "ann", "history": ["item-1", "item-2"], REGION: "nord", AGE: 31.5},
    {"user_id": "bob", "history": [], "exclude": []},
    {"user_id": "cat", "history": [f"item-{i}" for i in range(9)], "exclude": ["item-3", "item-11", "item-12"], "diversity": 0.5},
    {"user_id": "dan", "history": ["never seen"], REGION: "süd"},
    {"user_id": "eve", "history": ["item-39", "never seen", "item-5"]},
]


def _run(exported: Exported, tmp_path: Path, *arguments: str, users: list[dict[str, Any]] = USERS) -> list[dict[str, Any]]:
    path = tmp_path / "users.parquet"
    columns = dict.fromkeys(name for user in users for name in user)  # a table is made of the first row's keys
    pyarrow.parquet.write_table(pa.Table.from_pylist([{name: user.get(name) for name in columns} for user in users]), path)
    output = tmp_path / "out.parquet"
    assert recommend_users.main([str(exported.folder), "--users", str(path), "--output", str(output), *arguments]) == 0
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(output).to_pylist()
    return rows


def _asked(exported: Exported, user: dict[str, Any]) -> dict[str, np.ndarray]:
    """One user, asked through the signature, with nothing of the bulk path."""
    history = user["history"][-HISTORY_LENGTH:]
    padded = np.array([[*history, *[""] * (HISTORY_LENGTH - len(history))]], dtype=object)
    request = {
        "history": padded,
        "profile_home_region": [user.get(REGION, "")],
        "profile__ge": np.array([user.get(AGE, np.nan)], np.float32),
        "profile_genres": np.full([1, 2], "", dtype=object),
        "profile_genres_weights": np.zeros([1, 2], np.float32),
        "exclude": np.array([user.get("exclude", [])], dtype=object).reshape(1, -1),
        "diversity": np.array([user.get("diversity", 0.0)], np.float32),
    }
    return exported.model.predict("recommend", request)


@pytest.mark.parametrize("batch_size", ["1", "2", "100"])
def test_everybody_gets_what_the_signature_answers(exact_export: Exported, tmp_path: Path, batch_size: str) -> None:  # noqa: F811
    rows = _run(exact_export, tmp_path, "--batch-size", batch_size, "--part-rows", "3")
    assert [row["user_id"] for row in rows] == ["ann", "bob", "cat", "dan", "eve"]
    for row, user in zip(rows, USERS, strict=True):
        answer = _asked(exact_export, user)
        assert row["item_ids"] == [item.decode() for item in answer["item_ids"][0]]
        np.testing.assert_allclose(row["scores"], answer["scores"][0], rtol=1e-5)
        assert row["interests"] == answer["interests"][0].tolist()
        assert not set(row["item_ids"]) & set(user.get("exclude", []))
    assert [row["cold_start"] for row in rows] == [False, True, False, True, False]


def test_shorter_answers_and_other_column_names(exact_export: Exported, tmp_path: Path) -> None:  # noqa: F811
    renamed = [{"who": user["user_id"], "clicks": user["history"]} for user in USERS]
    rows = _run(exact_export, tmp_path, "--top", "2", "--user-column", "who", "--column", "history=clicks", users=renamed)
    assert [len(row["item_ids"]) for row in rows] == [2] * len(USERS)
    assert rows[4]["item_ids"] == [item.decode() for item in _asked(exact_export, USERS[4])["item_ids"][0, :2]]


def test_what_users_have_turned_down_is_a_column_of_any_name(exact_export: Exported, tmp_path: Path) -> None:  # noqa: F811
    (before,) = _run(exact_export, tmp_path, users=[{"user_id": "ann", "history": ["item-39", "item-5"]}])
    (tmp_path / "out.parquet").unlink()
    turned_down = before["item_ids"][:3]
    users = [{"user_id": "ann", "history": ["item-39", "item-5"], "negatives": turned_down}]
    (after,) = _run(exact_export, tmp_path, "--column", "exclude=negatives", users=users)
    assert not set(after["item_ids"]) & set(turned_down)
    assert after["item_ids"][:3] == before["item_ids"][3:6]


def test_longer_answers_than_the_signatures_have(exact_export: Exported, tmp_path: Path) -> None:  # noqa: F811
    users = [{"user_id": "eve", "history": ["item-39", "item-5"]}, {"user_id": "bob", "history": [], "exclude": ["item-0"]}]
    eve, bob = _run(exact_export, tmp_path, "--top", "99", users=users)
    assert len(set(eve["item_ids"])) == 40
    assert eve["item_ids"][:NUM_RESULTS] == [item.decode() for item in _asked(exact_export, users[0])["item_ids"][0]]
    assert eve["scores"] == sorted(eve["scores"], reverse=True)
    assert bob["item_ids"] == [f"item-{i}" for i in range(1, 40)]


def test_restrictions_are_columns(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    exported = published_once(tmp_path_factory, "exact")
    users: list[dict[str, Any]] = [
        {"user_id": "all", "history": ["item-3"]},
        {"user_id": "some", "history": ["item-3"], "allow_category": ["category-1"], f"max_{PRICE}": 20.0, "num_results": 4},
        {"user_id": "stock", "history": ["item-3"], "allow_items": ["item-7", "item-9"], "exclude": ["item-9"]},
        {"user_id": "cold", "history": [], "deny_category": ["category-0", "category-1"], f"min_{PRICE}": 10.0},
    ]
    rows = {row["user_id"]: row["item_ids"] for row in _run(exported, tmp_path, "--batch-size", "3", users=users)}
    assert rows["all"] == [f"item-{item}" for item in best_items(exported, lambda *_: True)[0]]
    wanted = best_items(exported, lambda _, item: item % 4 == 1 and item <= 20, 4)[0]
    assert rows["some"] == [f"item-{item}" for item in wanted]
    assert rows["stock"] == ["item-7"]
    assert rows["cold"] == [f"item-{item}" for item in (10, 11, 14, 15, 18, 19)]
    unrestricted = RetrieverFields(exported.model.metadata)  # as the users of a run's own data are asked with
    (answered,) = RecommendationAnswers(exported.model, 2).answer(Users(["all"], unrestricted.request({"history": [["item-3"]]}, 1)))
    assert answered.to_pylist()[0]["item_ids"] == rows["all"]
    fields = fields_of(exported.model)
    for column, value, said in (
        ("num_results", np.array([31.0]), "expected whole numbers up to 30"),
        ("allow_category", [["a"] * 1025], "allow_category: a list of 1,025 entries; a user may have at most 1,024"),
    ):
        with pytest.raises(DataError, match=said):
            fields.request({"history": [[]], column: value}, 1)
    with pytest.raises(ConfigError, match="answers with up to 30 items"):
        answers_of(exported.model, 8, 31)


def test_the_users_of_the_data_that_a_model_was_trained_on(exact_export: Exported) -> None:  # noqa: F811
    events = EventTable(
        user_ids=["ann", "bob", "cat"],
        item_ids=["item-1", "item-2", "item-3"],
        user_codes=np.array([0, 2, 0, 2, 1]),
        item_codes=np.array([0, 1, 1, 2, 0]),
        timestamps=np.array([5.0, 1.0, 2.0, 3.0, 4.0]),
        weights=None,
        negative=np.array([False, False, False, False, True]),
    )
    profiles = UserTable(["cat"], {REGION: ["nord"], AGE: np.array([20.0], np.float32), "genres": [""]})
    fields = RetrieverFields(exact_export.model.metadata)
    source = UsersOfTables("toy", LogTables(events, None, profiles), fields)
    assert source.total() == 2  # of bob nothing is known but what he turned down
    (users,) = source.chunks()
    assert users.ids == ["ann", "cat"]
    assert users.request["history"][:, :3].tolist() == [["item-2", "item-1", ""], ["item-2", "item-3", ""]]
    assert users.request["profile_home_region"].tolist() == ["", "nord"]
    with pytest.raises(DataError, match=r"profile columns .*which the data 'toy' lacks"):
        UsersOfTables("toy", LogTables(events, None, None), fields)


def test_vectors_are_the_active_interests(exact_export: Exported, tmp_path: Path) -> None:  # noqa: F811
    rows = _run(exact_export, tmp_path, "--vectors")
    assert [len(row["interest_vectors"]) for row in rows] == [2, 0, 3, 0, 2]
    expected = exact_export.model.predict(
        "user_interests",
        {
            "history": np.array([["item-39", "item-5", "", "", ""]], dtype=object),
            "profile_home_region": [""],
            "profile__ge": np.array([np.nan], np.float32),
            "profile_genres": np.full([1, 2], "", dtype=object),
            "profile_genres_weights": np.zeros([1, 2], np.float32),
        },
    )
    np.testing.assert_allclose(rows[4]["interest_vectors"], expected["interests"][0, :2], rtol=1e-5)


def test_csv_and_json_lines_say_the_same(exact_export: Exported, tmp_path: Path) -> None:  # noqa: F811
    expected = _run(exact_export, tmp_path, users=[{key: user[key] for key in ("user_id", "history")} for user in USERS])
    csv = tmp_path / "users.csv"
    csv.write_text("user_id,history\n" + "".join(f"{u['user_id']},{'|'.join(u['history'])}\n" for u in USERS), encoding="utf-8")
    lines = tmp_path / "users.jsonl"
    lines.write_text("".join(json.dumps({key: u[key] for key in ("user_id", "history")}) + "\n" for u in USERS), encoding="utf-8")
    for path in (csv, lines):
        output = tmp_path / f"{path.name}.parquet"
        assert recommend_users.main([str(exact_export.folder), "--users", str(path), "--output", str(output)]) == 0
        assert pyarrow.parquet.read_table(output).to_pylist() == expected


def test_a_model_that_ranks_by_itself(direct_export: Exported, tmp_path: Path) -> None:  # noqa: F811
    rows = _run(direct_export, tmp_path, users=[{"user_id": "ann", "history": ["item-3"]}, {"user_id": "bob", "history": []}])
    assert rows[0]["item_ids"] == [f"item-{4 + i}" for i in range(NUM_RESULTS)]
    assert rows[0]["cold_start"] is None
    with pytest.raises(ConfigError, match=r"--vectors: a model of the system 'fake' has no vectors"):
        answers_of(direct_export.model, 8, None, vectors=True)


def test_bad_settings_are_one_message(exact_export: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    path = tmp_path / "users.csv"
    path.write_text("user_id,histori\nann,item-1\n", encoding="utf-8")
    command = [str(exact_export.folder), "--users", str(path), "--output", str(tmp_path / "out.parquet")]
    for extra, said in (
        (["--top", "0"], "--top: expected a number of at least 1"),
        (["--column", "history"], "expected FIELD=NAME"),
        (["--column", "hist=a"], "no field 'hist'"),
        ([], "none of the model's fields is there"),
        (["--batch-size", "0"], "--batch-size: expected a number of at least 1"),
    ):
        assert recommend_users.main([*command, *extra]) == 1
        assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("out.parquet*.parquet"))


class TestFields:
    def fields(self, exported: Exported, **changes: Any) -> RetrieverFields:
        return RetrieverFields({**exported.model.metadata, **changes})

    def test_a_model_that_leaves_out_histories_leaves_out_older_items_too(self, exact_export: Exported) -> None:  # noqa: F811
        fields = self.fields(exact_export, exclude_history=True)
        history = [f"item-{i}" for i in range(HISTORY_LENGTH + 2)]
        request = fields.request({"history": [history, ["item-9"]], "exclude": [["item-20"], []]}, 2)
        assert request["exclude"].tolist() == [["item-20", "item-0", "item-1"], ["", "", ""]]
        assert request["history"][0].tolist() == history[2:]

    def test_times_stand_beside_items(self, exact_export: Exported) -> None:  # noqa: F811
        inputs: dict[str, Any] = {"recommend": {"inputs": {"history": {}, "timestamps": {}}}}
        fields = self.fields(exact_export, signatures=inputs)
        request = fields.request({"history": [["a", "b"], []], "timestamps": [np.array([5.0, 7.0]), np.array([])]}, 2)
        assert request["timestamps"].tolist() == [[5.0, 7.0, 0.0, 0.0, 0.0], [0.0] * 5]
        with pytest.raises(DataError, match="row 1 has 1 times for the 2 items"):
            fields.request({"history": [["a", "b"]], "timestamps": [np.array([5.0])]}, 1)

    def test_chunks_with_other_numbers_of_exclusions_join(self, exact_export: Exported) -> None:  # noqa: F811
        fields = fields_of(exact_export.model)
        chunks = [
            Users([name], fields.request({"history": [["item-1"]], "exclude": [excluded]}, 1))
            for name, excluded in (("a", []), ("b", ["item-2", "item-3"]), ("c", ["item-4"]))
        ]
        (joined,) = in_parts(iter(chunks), 10)
        assert joined.request["exclude"].tolist() == [["", ""], ["item-2", "item-3"], ["item-4", ""]]
        answered = pa.Table.from_batches(RecommendationAnswers(exact_export.model, 2).answer(joined)).to_pylist()
        assert "item-2" not in answered[1]["item_ids"]
        assert "item-4" not in answered[2]["item_ids"]

"""Answers by a cluster are those of ``training/recommend_users.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.export.conftest import exact_export  # noqa: F401 - a fixture
from tests.export.fake_recommenders import AGE, GENRES, REGION, Exported
from tfmi.cli import recommend_users, spark_recommend
from tfmi.spark.session import SparkCluster

USERS: list[dict[str, Any]] = [
    {"user_id": f"user-{n}", "history": [f"item-{(7 * n + k) % 40}" for k in range(n % 6)], "exclude": [f"item-{n % 9}"], REGION: "nord"}
    | {AGE: n if n % 4 else None, GENRES: {"rock": 2.0, "jazz": 0.5} if n % 3 else None, "diversity": 0.3 * (n % 2)}
    for n in range(40)
]


def _write(folder: Path, users: list[dict[str, Any]]) -> Path:
    """Two files, and among the rows two that cannot be used."""
    folder.mkdir()
    # As other writers store what has weights.
    rows = [{**user, GENRES: "|".join(f"{name}:{weight}" for name, weight in (user[GENRES] or {}).items())} for user in users]
    bad = [{**rows[0], "user_id": ""}, {**rows[1], "user_id": "bad", GENRES: "rock:-1"}]
    for number, part in enumerate((rows[:25], [*rows[25:], *bad])):
        pyarrow.parquet.write_table(pa.Table.from_pylist(part), folder / f"part-{number}.parquet")
    return folder


def _by_user(path: Path) -> dict[str, dict[str, Any]]:
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    return {row["user_id"]: row for row in rows}


def _flags(cluster: SparkCluster) -> list[str]:
    return ["--master", str(cluster.master), *(f for key, value in cluster.settings.items() for f in ("--conf", f"{key}={value}"))]


def test_everybody_gets_the_local_answers_and_a_second_run_asks_for_what_is_missing(
    exact_export: Exported,  # noqa: F811
    tmp_path: Path,
    cluster: SparkCluster,
    capfd: pytest.CaptureFixture[str],
) -> None:
    users, output = _write(tmp_path / "users", USERS), tmp_path / "out"
    command = [str(exact_export.folder), "--users", str(users), "--vectors", "--batch-size", "7"]
    assert recommend_users.main([*command, "--output", str(tmp_path / "local.parquet")]) == 0
    flags = [*command, "--output", str(output), "--parts", "3", *_flags(cluster)]
    assert spark_recommend.main(flags) == 0
    expected = _by_user(tmp_path / "local.parquet")
    assert len(expected) == len(USERS)
    assert _close(_by_user(output), expected)
    assert sorted(path.name for path in output.iterdir()) == ["_SUCCESS", "_answers.json", *(f"part-0000{n}.parquet" for n in range(3))]
    assert (tmp_path / "out.rejects.csv").read_text() == (tmp_path / "local.parquet.rejects.csv").read_text()
    items = pyarrow.parquet.read_table(tmp_path / "out.items" / "items.parquet")
    assert items.num_rows == exact_export.model.metadata["items"]
    # A part that is gone is asked for again, and nothing else is touched.
    kept = (output / "part-00000.parquet").stat().st_mtime_ns
    (output / "part-00001.parquet").unlink()
    assert spark_recommend.main(flags) == 0
    assert (output / "part-00000.parquet").stat().st_mtime_ns == kept
    assert _close(_by_user(output), expected)
    capfd.readouterr()
    assert spark_recommend.main([*flags, "--top", "2"]) == 1
    assert "was begun with other settings (top)" in capfd.readouterr().err


def _close(found: dict[str, dict[str, Any]], expected: dict[str, dict[str, Any]]) -> bool:
    assert found.keys() == expected.keys()
    for user, row in expected.items():
        assert {key: value for key, value in found[user].items() if key not in ("scores", "interest_vectors")} == {
            key: value for key, value in row.items() if key not in ("scores", "interest_vectors")
        }
        assert found[user]["scores"] == pytest.approx(row["scores"], rel=1e-5, abs=1e-6)
        assert [v for vector in found[user]["interest_vectors"] for v in vector] == pytest.approx(
            [v for vector in row["interest_vectors"] for v in vector], rel=1e-5, abs=1e-6
        )
    return True


@pytest.mark.long
def test_a_table_of_sparks_gives_the_same_answers(exact_export: Exported, tmp_path: Path, cluster: SparkCluster) -> None:  # noqa: F811
    users = [{key: user[key] for key in ("user_id", "history", AGE)} for user in USERS]
    (tmp_path / "users").mkdir()
    pyarrow.parquet.write_table(pa.Table.from_pylist(users), tmp_path / "users" / "part-0.parquet")
    command = [str(exact_export.folder), "--vectors"]
    assert recommend_users.main([*command, "--users", str(tmp_path / "users"), "--output", str(tmp_path / "local.parquet")]) == 0
    table = f"parquet:{(tmp_path / 'users').as_uri()}"
    assert spark_recommend.main([*command, "--table", table, "--output", str(tmp_path / "out"), "--parts", "2", *_flags(cluster)]) == 0
    assert _close(_by_user(tmp_path / "out"), _by_user(tmp_path / "local.parquet"))


@pytest.mark.long
def test_what_a_table_lacks_is_one_message(
    exact_export: Exported,  # noqa: F811
    tmp_path: Path,
    cluster: SparkCluster,
    capfd: pytest.CaptureFixture[str],
) -> None:
    command = [str(exact_export.folder), "--output", str(tmp_path / "out"), *_flags(cluster)]
    pyarrow.parquet.write_table(pa.table({"id": ["a"], "history": [["item-1"]]}), tmp_path / "users.parquet")
    address = (tmp_path / "users.parquet").as_uri()
    assert spark_recommend.main([*command, "--table", f"parquet:{address}"]) == 1
    assert "no column 'user_id'; it has: id, history" in capfd.readouterr().err
    assert spark_recommend.main([*command, "--table", "nothing"]) == 1
    assert "--table nothing: Spark cannot read it" in capfd.readouterr().err
    assert not (tmp_path / "out" / "_SUCCESS").exists()

"""What users did before a log begins: a column of lists, as in MIND's behaviours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tfmi.config import DataConfig, validate_config
from tfmi.data.dataset import InteractionDataset, Sequences
from tfmi.data.impressions.impression_loading import load_ranking_dataset
from tfmi.data.loading import load_dataset

# a's first row in time is the second one; b comes late, and c has done nothing before.
ROWS = """a,30,x y z,N1-1 N2-0
a,10,p q p,N3-1 N4-0
b,40,q,N1-0 N2-1
c,20,,N4-1
c,50,N4,N1-1 N3-0
"""


def config(folder: Path, *, time: bool = True, copies: int = 1, **data: Any) -> DataConfig:
    cells = [line.split(",") for line in ROWS.splitlines()]
    cells = [[f"{user}{copy or ''}", when, before, shown] for copy in range(copies) for user, when, before, shown in cells]
    rows = "".join(",".join(row if time else [row[0], *row[2:]]) + "\n" for row in cells)
    path = folder / "log.csv"
    path.write_text(("user,time,before,shown\n" if time else "user,before,shown\n") + rows)
    columns = {"item": "shown[].item", "event": "shown[].label", "history": "before[]", "time": "time" if time else None}
    log = {"columns": columns, "element_fields": ["item", "label"], **data.pop("log", {})}
    split = {"method": "auto", "min_user_events": 1, "min_item_events": 1, **data.pop("split", {})}
    return validate_config({"data": {"dataset": "log", "path": str(path), "cache": str(folder), "log": log, "split": split, **data}}).data


def sequences(dataset: InteractionDataset, part: Sequences) -> set[tuple[str, ...]]:
    return {tuple(dataset.catalogue.vocabulary.identifier(int(i)) for i in part.row(row)) for row in range(len(part))}


CLICKS: dict[str, Any] = {"log": {"event_types": ["1"]}}
WHOLE = {("p", "q", "p", "N3", "N1"), ("q", "N2"), ("N4", "N1")}


@pytest.mark.parametrize("time", [True, False])
def test_earlier_items_stand_before_the_log(time: bool, tmp_path: Path) -> None:
    """Of a user's rows the earliest one says what was before, even if that is nothing; without times, the first in the file."""
    dataset = load_dataset(config(tmp_path, time=time, **CLICKS, split={"method": "leave_one_out"}))
    expected = WHOLE if time else {("x", "y", "z", "N1", "N3"), ("q", "N2"), ("N4", "N1")}
    # The last two events of who has three are held out.
    assert sequences(dataset, dataset.train.in_memory()) == {row[:-2] if len(row) > 2 else row for row in expected}
    read = dataset.report["read"]
    assert (read["events"], read["earlier_events"], read["out_of_order"]) == (9, 4, int(time))


def test_their_times_are_the_seconds_before_the_logs_first(tmp_path: Path) -> None:
    """So a split by time never asks for them: b, who comes after the others, has q as a history and not as a target."""
    dataset = load_dataset(config(tmp_path, **CLICKS, split={"method": "by_time", "valid_share": 0.12, "test_share": 0.2}))
    assert sequences(dataset, dataset.test.histories) == {("q",), ("N4",)}
    train = dataset.train.in_memory()
    assert train.timestamps is not None
    longest = train.row(int(train.lengths().argmax()))
    assert [dataset.catalogue.vocabulary.identifier(int(i)) for i in longest] == ["p", "q", "p", "N3"]
    begin = int(train.offsets[train.lengths().argmax()])
    assert train.timestamps[begin : begin + 4].tolist() == [7, 8, 9, 10]


def test_a_streamed_log_has_them_too(tmp_path: Path) -> None:
    shares = {"valid_share": 0.3, "test_share": 0.3, "history_share": 0.5}
    described = config(tmp_path, copies=10, log={"event_types": ["1"], "streaming": True, "shards": 2}, split=shares)
    whole: set[tuple[str, ...]] = set()
    dataset = load_dataset(described)
    whole |= sequences(dataset, dataset.train.in_memory())
    for part in (dataset.valid, dataset.test):
        halves = (
            [[dataset.catalogue.vocabulary.identifier(int(i)) for i in piece.row(row)] for row in range(len(piece))]
            for piece in (part.histories, part.targets)
        )
        whole |= {tuple(history + targets) for history, targets in zip(*halves, strict=True)}
    assert whole == WHOLE
    assert (dataset.report["read"]["events"], dataset.report["read"]["earlier_events"]) == (90, 40)


def test_for_a_ranker_they_are_histories_and_no_impressions(tmp_path: Path) -> None:
    impressions = {"positive_events": ["1"]}
    dataset = load_ranking_dataset(config(tmp_path, impressions=impressions, split={"valid_share": 0.25, "test_share": 0.25}))
    rows = [part.take(part.row_ids >= 0) for part in (dataset.train, dataset.valid, dataset.test)]
    assert sum(map(len, rows)) == 9  # what was shown
    names = dataset.catalogue.vocabulary
    first = dataset.train.take(dataset.train.timestamps == 10)
    starts = dataset.clicks.offsets[first.users]
    histories = [dataset.clicks.items[start:end].tolist() for start, end in zip(starts, first.history_ends, strict=True)]
    assert [[names.identifier(item) for item in history] for history in histories] == [["p", "q", "p"]] * 2

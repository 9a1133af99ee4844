"""How fast a log is read and checked, beside pandas and Arrow, which only cut the same files into columns.

Each form of file holds the same events. ``tfmi`` names every bad row, reads times, encodes ids and drops duplicates; the peers read the
three columns as text, without looking at any of them, and bound from below what that can take. Seconds are processor time, so that other
work on the machine counts little; ``wall`` has those by the clock.
"""

from __future__ import annotations

import gzip
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from benchmarks.common import benchmark_arguments, report
from tfmi.config import LogConfig
from tfmi.data.reading.log import read_log

TARGET_SECONDS = 2.0
TARGET_ROWS = 1_000_000
COLUMNS = ["user", "item", "time"]

# What the configuration of each form is, beside the suffix of its file.
FORMS: dict[str, dict[str, Any]] = {
    "numbers.csv": {},
    "iso.csv": {},
    "quoted.csv": {},
    "zone_by_name.csv": {},
    "offsets.tsv": {},
    "us_dates.csv": {"time_format": "%m/%d/%Y %H:%M:%S"},
    "latin1.csv": {"encoding": "latin-1"},
    "colons.dat": {"header": False, "column_names": COLUMNS},
    "iso.csv.gz": {},
    "iso.jsonl": {},
    "numbers.jsonl": {},
    "array.json": {},
    "iso.parquet": {},
}


def write_forms(folder: Path, rows: int, seed: int) -> None:
    """Write the same events in every form."""
    random = np.random.default_rng(seed)
    users, items = random.integers(0, max(rows // 10, 1), rows), random.zipf(1.3, rows) % 20_000
    seconds = 1_500_000_000 + np.sort(random.integers(0, 30_000_000, rows))
    iso = np.datetime_as_string(seconds.astype("datetime64[s]"))
    ids = list(zip(users.tolist(), items.tolist(), strict=True))

    def table(name: str, line: str, times: Iterable[Any], *, header: str = "user,item,time\n", end: str = "") -> None:
        cells = (line.format(user, item, time) for (user, item), time in zip(ids, times, strict=True))
        content = header + "".join(cells) + end
        data = content.encode("latin-1" if name.startswith("latin1") else "utf-8")
        (folder / name).write_bytes(gzip.compress(data, 1) if name.endswith(".gz") else data)

    table("numbers.csv", "u{},i{},{}\n", seconds.tolist())
    table("iso.csv", "u{},i{},{}Z\n", iso)
    table("quoted.csv", '"u{}","i{}","{}Z"\n', iso, header='"user","item","time"\n')
    table("zone_by_name.csv", "u{},i{},{} UTC\n", iso)
    table("offsets.tsv", "u{}\ti{}\t{}+02:00\n", iso, header="user\titem\ttime\n")
    table("us_dates.csv", "u{},i{},{}\n", (f"{text[5:7]}/{text[8:10]}/{text[:4]} {text[11:]}" for text in iso))
    table("latin1.csv", "ü{},i{},{}Z\n", iso)
    table("colons.dat", "{}::{}::{}\n", seconds.tolist(), header="")
    table("iso.csv.gz", "u{},i{},{}Z\n", iso)
    table("iso.jsonl", '{{"user": "u{}", "item": "i{}", "time": "{}Z"}}\n', iso, header="")
    table("numbers.jsonl", '{{"user": {}, "item": {}, "time": {}}}\n', seconds.tolist(), header="")
    lines = (folder / "iso.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "array.json").write_text(f"[{', '.join(lines)}]", encoding="utf-8")
    columns = {
        "user": [f"u{user}" for user, _ in ids],
        "item": [f"i{item}" for _, item in ids],
        "time": pa.array(seconds, pa.timestamp("s")),
    }
    pyarrow.parquet.write_table(pa.table({**columns, "time": pa.array(seconds, pa.timestamp("s"))}), folder / "iso.parquet")


def peers(path: Path, options: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """What cuts the same file into columns."""
    if path.suffix == ".parquet":
        return {"pyarrow": lambda: pyarrow.parquet.read_table(path), "pandas": lambda: pd.read_parquet(path)}
    if path.suffix == ".json":
        return {"json": lambda: json.loads(path.read_bytes())}
    if path.suffix == ".jsonl":
        return {"pyarrow": lambda: pyarrow.json.read_json(path), "pandas": lambda: pd.read_json(path, lines=True, dtype=False)}
    delimiter = "\t" if path.suffix == ".tsv" else ","
    encoding = options.get("encoding", "utf-8")
    found: dict[str, Callable[[], object]] = {}
    if path.suffix == ".dat":  # their fast readers take delimiters of one character
        return {"pandas": lambda: pd.read_csv(path, sep="::", engine="python", header=None, names=COLUMNS, dtype=str)}
    found["pandas"] = lambda: pd.read_csv(path, sep=delimiter, dtype=str, encoding=encoding)
    text = dict.fromkeys(COLUMNS, pa.string())
    found["pyarrow"] = lambda: pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(use_threads=False, encoding=encoding),
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter),
        convert_options=pyarrow.csv.ConvertOptions(column_types=text),
    )
    return found


def measure(function: Callable[[], object], repeats: int) -> dict[str, float]:
    """Median seconds of the processor and by the clock."""
    times = []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        function()
        times.append((time.process_time() - processor, time.perf_counter() - wall))
    return {"seconds": statistics.median(each[0] for each in times), "wall": statistics.median(each[1] for each in times)}


def main() -> None:
    """Measure every form and report."""
    parser = benchmark_arguments(__doc__ or "", repeats=3)
    parser.add_argument("--rows", type=int, default=TARGET_ROWS, help="events in each file")
    parser.add_argument("--forms", nargs="+", choices=list(FORMS), default=list(FORMS), help="which forms of file")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    pa.set_cpu_count(max(arguments.threads, 1))
    results: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_forms(folder, arguments.rows, arguments.seed)
        for form in arguments.forms:
            contenders: dict[str, Callable[[], object]] = {
                "tfmi": partial(read_log, folder / form, LogConfig(**FORMS[form]), folder / "rejects.jsonl")
            }
            contenders |= peers(folder / form, FORMS[form])
            results[form] = {who: measure(function, arguments.repeats) for who, function in contenders.items()}
            print(form, {who: round(times["seconds"], 2) for who, times in results[form].items()}, flush=True)
    limit = TARGET_SECONDS * arguments.rows / TARGET_ROWS
    text = [form for form in results if not form.endswith(".parquet")]
    slowest = max(text or list(results), key=lambda form: results[form]["tfmi"]["seconds"])
    report(
        "reading_speed",
        {"rows": arguments.rows, "repeats": arguments.repeats, "results": results, "slowest_text_form": slowest},
        {f"at most {TARGET_SECONDS:g} s of processor time per 1,000,000 rows of text": results[slowest]["tfmi"]["seconds"] <= limit},
    )


if __name__ == "__main__":
    main()

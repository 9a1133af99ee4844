"""The tour: train MIND on the embedded data, export it, serve it, and ask for recommendations over REST. ``make demo`` runs it."""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from serving.client import Client, RecommendedItem, ServingError
from tfmi.config import DataConfig
from tfmi.data.datasets import load_dataset
from tfmi.data.structures import FIRST_INDEX, Catalogue, CategoricalFeature, Dataset

ROOT = Path(__file__).resolve().parents[1]
SERVER_START_SECONDS = 120
LISTED_HISTORY, LISTED_ITEMS = 8, 9


def main() -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=3, help="how many users to ask for")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / f"demo-{time.strftime('%Y%m%d-%H%M%S')}", help="run folder")
    options = parser.parse_args()
    started = time.perf_counter()

    _headline("1. Train MIND on the embedded click log, evaluate it, export a SavedModel with a ScaNN index")
    train = [
        sys.executable,
        str(ROOT / "training" / "train.py"),
        "--output",
        str(options.output),
        "--savedmodels",
        str(ROOT / "savedmodels"),
    ]
    if subprocess.run(train, check=False).returncode:
        print("Training failed; its message is above.", file=sys.stderr)
        return 1

    _headline("2. Serve it on this machine")
    dataset = load_dataset(DataConfig())
    with _server() as client:
        _headline(f"3. Ask it for {options.users} users who were held out of training, over REST")
        _show_users(client, dataset, options.users)

    _headline("Where everything lies")
    metrics = json.loads((options.output / "metrics.json").read_text(encoding="utf-8"))
    test = metrics["test"]
    print(f"test recall@50 {test['recall@50']:.4f}, HR@50 {test['hr@50']:.4f}, coverage@50 {test['coverage@50']:.4f}")
    print(f"run folder  {options.output} (config.yaml, metrics.json, curves.json, plots/, tensorboard/)")
    print(f"SavedModel  {ROOT / 'savedmodels' / 'mind'}")
    print(f"Done in {time.perf_counter() - started:.0f} s. Next: your own log, see README.md.")
    return 0


@contextmanager
def _server() -> Iterator[Client]:
    """The local server on the exported model, on a free port; stopped afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(ROOT / "serving" / "local_server.py"), "--model-name", "mind", "--rest-port", str(port), "--port", "0"]
    server = subprocess.Popen([*command, "--model-base-path", str(ROOT / "savedmodels" / "mind")])
    client = Client(f"http://127.0.0.1:{port}", "mind")
    try:
        _wait_until_available(server, client)
        yield client
    except ServingError as error:
        raise SystemExit(f"The server answered with an error: {error}") from None
    finally:
        server.terminate()
        server.wait(timeout=30)


def _wait_until_available(server: subprocess.Popen[bytes], client: Client) -> None:
    deadline = time.monotonic() + SERVER_START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            if any(version.state == "AVAILABLE" for version in client.status()):
                return
        except ServingError:
            pass
        time.sleep(0.3)
    raise SystemExit("The local server did not start; its message is above.")


def _show_users(client: Client, dataset: Dataset, users: int) -> None:
    catalogue = dataset.catalogue
    lengths = dataset.test.histories.lengths()
    # Users with a medium history, so that it fits on a screen and still holds several interests.
    rows = [int(row) for row in abs(lengths - 16).argsort(kind="stable")[:users]]
    histories = [[catalogue.vocabulary.identifier(int(item)) for item in dataset.test.histories.row(row)] for row in rows]
    for row, history, answer in zip(rows, histories, client.recommend(histories), strict=True):
        found = answer.items
        later = {catalogue.vocabulary.identifier(int(item)) for item in dataset.test.targets.row(row)}
        print(f"\nUser {row}: {len(history)} events, the newest {min(len(history), LISTED_HISTORY)}:")
        for item in history[-LISTED_HISTORY:]:
            print(f"    {_describe(catalogue, item)}")
        print("  is recommended:")
        for position, recommendation in enumerate(found[:LISTED_ITEMS], start=1):
            print(_line(catalogue, position, recommendation, later))
        hits = sum(recommendation.item in later for recommendation in found)
        print(f"  Of the {len(later)} items that this user really took next, {hits} are among the {len(found)} recommended.")


def _line(catalogue: Catalogue, position: int, found: RecommendedItem, later: set[str]) -> str:
    mark = "  <- taken next" if found.item in later else ""
    return f"    {position}. interest {found.interest}  {found.score:.3f}  {_describe(catalogue, found.item)}{mark}"


def _describe(catalogue: Catalogue, item_id: str) -> str:
    index = catalogue.vocabulary.index(item_id)
    title = catalogue.titles[index] if catalogue.titles is not None else item_id
    category = catalogue.features.get("category")
    name = (
        category.vocabulary.identifier(int(category.values[index]))
        if isinstance(category, CategoricalFeature) and index >= FIRST_INDEX
        else ""
    )
    return f"{title:<44} {name}"


def _headline(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""The tour: train MIND on the embedded data, export it, serve it, and ask for recommendations over REST. ``make demo`` runs it.

Options that are not its own go to training/train.py, such as ``--system comirec_sa`` or ``--max-steps 100``.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# TensorFlow reads it when it is first imported, which the modules below do.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tfmi.cli.program import quiet_libraries
from tfmi.data.dataset import FIRST_INDEX, Catalogue, CategoricalFeature, Feature, InteractionDataset, MultiValuedFeature
from tfmi.data.loading import load_dataset
from tfmi.export.publishing import published_versions
from tfmi.serving.client import Client, ProfileValue, RecommendedItem, ServingError
from tfmi.training.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
LAST_WORDS = "Ctrl-C stops."  # of the local server's greeting
SERVER_START_SECONDS = 120
LISTED_HISTORY, LISTED_ITEMS, LISTED_CATEGORIES = 8, 9, 3
# A history that fits on a screen and still holds several interests.
SHOWN_HISTORY = 16
TITLE_WIDTH = 46  # a whole line then fits into 100 columns


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=3, help="how many users to ask for (default: 3)")
    parser.add_argument("--output", type=Path, help="run folder (default: runs/demo-<time>)")
    parser.add_argument("--savedmodels", type=Path, help="where the model goes (default: savedmodels)")
    options, training = parser.parse_known_args(arguments)
    quiet_libraries()
    # Relative paths are the shorter ones to read and to type.
    savedmodels = Path(os.path.relpath(options.savedmodels or ROOT / "savedmodels"))
    folder = RunFolder(os.path.relpath(options.output or ROOT / "runs" / f"demo-{time.strftime('%Y%m%d-%H%M%S')}"))
    started = time.perf_counter()

    _headline("1. Train, evaluate on the full catalogue, and export a SavedModel with its index inside")
    train = [sys.executable, str(ROOT / "training" / "train.py"), *training]
    if subprocess.run([*train, "--output", str(folder.path), "--savedmodels", str(savedmodels)], check=False).returncode:
        print("Training failed; its message is above.", file=sys.stderr)
        return 1
    config = folder.stored_config()
    model = savedmodels / (config.export.name or config.system)

    _headline("2. Serve it on this machine")
    dataset = load_dataset(config.data)
    with _server(model, folder.path / "server.log") as client:
        _headline(f"3. Ask it for {options.users} users who were held out of training, over REST")
        _show_users(client, dataset, options.users)

    _headline("Where everything lies")
    _show_places(folder, model)
    print(f"Done in {time.perf_counter() - started:.0f} s. Next: your own log, see README.md.")
    return 0


@contextmanager
def _server(model: Path, log: Path) -> Iterator[Client]:
    """The local server on the exported model, on a free port; stopped afterwards. Its log goes to a file."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = [sys.executable, str(ROOT / "serving" / "local_server.py"), "--rest-port", str(port), "--port", "0"]
    with log.open("w", encoding="utf-8") as stream:
        command = [*program, "--model-name", model.name, "--model-base-path", str(model)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True)
    client = Client(f"http://127.0.0.1:{port}", model.name)
    try:
        _pass_on_greeting(server)
        if not _is_available(server, client):
            raise SystemExit(f"The local server did not start:\n{log.read_text(encoding='utf-8')}")
        yield client
    except ServingError as error:
        raise SystemExit(f"The server answered with an error: {error}") from None
    finally:
        server.terminate()
        server.wait(timeout=30)


def _pass_on_greeting(server: subprocess.Popen[str]) -> None:
    """Show what the server says when it has started, so that it stands before the answers; a server that says nothing is ended."""
    giving_up = threading.Timer(SERVER_START_SECONDS, server.kill)
    giving_up.start()
    for line in server.stdout or ():
        print(line, end="", flush=True)
        if line.rstrip().endswith(LAST_WORDS):
            break
    giving_up.cancel()


def _is_available(server: subprocess.Popen[str], client: Client) -> bool:
    """Wait until the server serves the model; False if it ends before, or takes too long."""
    deadline = time.monotonic() + SERVER_START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            if any(version.state == "AVAILABLE" for version in client.status()):
                return True
        except ServingError:
            pass
        time.sleep(0.3)
    return False


def _show_users(client: Client, dataset: InteractionDataset, users: int) -> None:
    examples, identifier = dataset.test, dataset.catalogue.vocabulary.identifier
    rows = [int(row) for row in abs(examples.histories.lengths() - SHOWN_HISTORY).argsort(kind="stable")[:users]]
    histories = [[identifier(int(item)) for item in examples.histories.row(row)] for row in rows]
    profiles = [_profile(dataset, int(examples.histories.users[row])) for row in rows]
    known = profiles if client.metadata().profile_columns else None
    # What a user already has is no recommendation.
    answers = client.recommend(histories, exclude=histories, profiles=known)
    for row, history, profile, answer in zip(rows, histories, profiles, answers, strict=True):
        described = "".join(f", {name} {value}" for name, value in profile.items())
        print(f"\nUser {row}{described}: {len(history)} events, the newest {min(len(history), LISTED_HISTORY)}:")
        for item in history[-LISTED_HISTORY:]:
            print(f"    {_describe(dataset.catalogue, item)}")
        later = {identifier(int(item)) for item in examples.targets.row(row)} - set(history)
        _show_recommendations(dataset.catalogue, answer.items, later)


def _show_recommendations(catalogue: Catalogue, found: Sequence[RecommendedItem], later: set[str]) -> None:
    print("  has interests, by the categories of what each of them found:")
    for interest in sorted({recommendation.interest for recommendation in found}):
        categories = Counter(_category(catalogue, each.item) for each in found if each.interest == interest)
        listed = ", ".join(f"{name} {count}" for name, count in categories.most_common(LISTED_CATEGORIES))
        print(f"    interest {interest}: {listed}")
    print("  is recommended, of what the user does not have yet:")
    for position, recommendation in enumerate(found[:LISTED_ITEMS], start=1):
        mark = "  <- taken next" if recommendation.item in later else ""
        origin = f"interest {recommendation.interest}"
        print(f"    {position}. {recommendation.score:.3f}  {origin}  {_describe(catalogue, recommendation.item)}{mark}")
    hits = sum(recommendation.item in later for recommendation in found)
    print(f"  Of the {len(later)} new items that this user really took next, {hits} are among the {len(found)} recommended.")


def _profile(dataset: InteractionDataset, row: int) -> dict[str, ProfileValue]:
    """What is known of a user, as a client sends it; what is missing is left out."""
    features = dataset.profiles.features if dataset.profiles is not None else {}
    values = {name: _profile_value(feature, row) for name, feature in features.items()}
    return {name: value for name, value in values.items() if value not in ("", {})}


def _profile_value(feature: Feature, row: int) -> ProfileValue:
    if isinstance(feature, CategoricalFeature):
        return feature.vocabulary.identifier(int(feature.values[row]))
    if isinstance(feature, MultiValuedFeature):
        pairs = zip(feature.values[row], feature.weights[row], strict=True)
        return {feature.vocabulary.identifier(int(value)): float(weight) for value, weight in pairs if value >= FIRST_INDEX}
    return float(feature.values[row])


def _describe(catalogue: Catalogue, item_id: str) -> str:
    title = catalogue.titles[catalogue.vocabulary.index(item_id)] if catalogue.titles is not None else item_id
    shown = title if len(title) <= TITLE_WIDTH else f"{title[: TITLE_WIDTH - 1]}…"
    return f"{shown:<{TITLE_WIDTH}} {_category(catalogue, item_id)}"


def _category(catalogue: Catalogue, item_id: str) -> str:
    category = catalogue.features.get("category")
    if not isinstance(category, CategoricalFeature):
        return ""
    return category.vocabulary.identifier(int(category.values[catalogue.vocabulary.index(item_id)]))


def _show_places(folder: RunFolder, model: Path) -> None:
    test = json.loads(folder.metrics.read_text(encoding="utf-8"))["test"]
    names = [name for name in ("recall", "hr", "ndcg", "coverage") if f"{name}@50" in test]
    print("test       " + ", ".join(f"{name}@50 {test[f'{name}@50']:.4f}" for name in names))
    print(f"run folder {folder.path} (config.yaml, metrics.json, curves.json, server.log)")
    if folder.plots.exists():
        print(f"plots      {folder.plots} ({', '.join(sorted(plot.name for plot in folder.plots.iterdir()))})")
    print(f"curves     tensorboard --logdir {folder.tensorboard}")
    print(f"SavedModel {model / str(published_versions(model)[-1])}")


def _headline(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""Latency of exported models: single requests to ``recommend``, in process, the models taking turns.

    python benchmarks/comparison/latency.py --output latency.json savedmodels/mind/1 savedmodels/item_knn/1

The requests are histories of test users of the first model's data, the same ones for every model. A request's time is that of
``ExportedModel.predict``: strings in, strings out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmarks.common import limit_threads, turn_seconds
from tfmi.cli.program import quiet_libraries, run_program
from tfmi.config import validate_config
from tfmi.core.errors import DataError
from tfmi.core.files import write_json
from tfmi.data.dataset import InteractionDataset
from tfmi.data.loading import load_dataset
from tfmi.data.splitting.slicing import whole_rows
from tfmi.export.exported_model import ExportedModel
from tfmi.export.profile_inputs import profile_values
from tfmi.export.timestamp_inputs import TIMESTAMPS

BATCH_SIZES = (1, 8)
WARM_UP = 10


def recommend_request(model: ExportedModel, dataset: InteractionDataset, users: np.ndarray) -> dict[str, np.ndarray]:
    """The inputs of ``recommend`` for some of the test users (rows), without exclusions and diversity.

    Raises:
        DataError: The model reads times or a profile that the data lacks.
    """
    ids = np.array(["", "", *dataset.catalogue.vocabulary.ids], dtype=object)
    histories = whole_rows(dataset.test.histories, users)
    widths = model.metadata["widths"]
    request = {
        "history": ids[histories.padded(int(widths["history_length"]))],
        "exclude": np.full([len(users), int(widths["exclusion_width"])], "", dtype=object),
        "diversity": np.zeros(len(users), np.float32),
    }
    if TIMESTAMPS in model.metadata["signatures"]["recommend"]["inputs"]:
        times = histories.padded_timestamps(int(widths["history_length"]))
        if times is None:
            raise DataError("this model reads the time of each event, which the data lacks")
        request[TIMESTAMPS] = times
    read = [each["feature"] for each in model.metadata["profile_inputs"]]
    if read and dataset.profiles is None:
        raise DataError(f"this model reads the profile features {read}, which the data lacks")
    features = {name: dataset.profiles.features[name] for name in read} if dataset.profiles is not None else {}
    return request | profile_values(features, histories.users)


def measure(folders: Sequence[Path], repeats: int) -> dict[str, dict[str, dict[str, float]]]:
    """Percentiles of the time of a request in milliseconds, by version folder, by batch size."""
    models = {str(folder): ExportedModel(folder) for folder in folders}
    first = next(iter(models.values()))
    dataset = load_dataset(validate_config(first.metadata["configuration"]).data)
    measured: dict[str, dict[str, dict[str, float]]] = {name: {} for name in models}
    for batch_size in BATCH_SIZES:
        users = np.random.default_rng(0).integers(0, len(dataset.test), [repeats, batch_size])
        contenders = {name: _requests(model, dataset, users) for name, model in models.items()}
        for name, seconds in turn_seconds(contenders, repeats, WARM_UP).items():
            p50, p95 = 1e3 * np.percentile(seconds, [50, 95])
            measured[name][str(batch_size)] = {"p50_ms": round(float(p50), 4), "p95_ms": round(float(p95), 4)}
    return measured


def _requests(model: ExportedModel, dataset: InteractionDataset, users: np.ndarray) -> Callable[[int], Any]:
    requests = [recommend_request(model, dataset, rows) for rows in users]
    return lambda run: model.predict("recommend", requests[run])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    quiet_libraries()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="VERSION", help="savedmodels/<name>/<version>")
    parser.add_argument("--repeats", type=int, default=200, help="requests of each batch size to each model")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    options = parser.parse_args(arguments)
    limit_threads(1)
    return run_program(lambda: _write(options))


def _write(options: argparse.Namespace) -> int:
    write_json(options.output, {"repeats": options.repeats, "milliseconds": measure(options.folders, options.repeats)})
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""This project's MIND: a configuration's model, compiled by its ``Trainer``, fitted on its pipeline."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.contenders.timing import contender_arguments, print_result, stay_on_cores, time_rounds


def main() -> None:
    """Time rounds of ``fit``."""
    parser = contender_arguments(__doc__)
    parser.add_argument("--data", required=True, help="folder of ComiRec's split files")
    parser.add_argument("--config", required=True)
    parser.add_argument("--steps", type=int, default=1000, help="training steps per round")
    options = parser.parse_args()
    stay_on_cores(options.threads)

    import tfmi  # noqa: F401 - selects Keras 2 before TensorFlow is imported
    from benchmarks.common import limit_threads
    from tfmi.data.loading import load_dataset
    from tfmi.kinds.retrieval import InterestsKind
    from tfmi.models.retrieval.build_retriever import build_model
    from tfmi.models.systems import load_config
    from tfmi.training.run_folder import RunFolder
    from tfmi.training.trainer import Trainer

    limit_threads(options.threads)
    config = load_config(options.config, settings=[f"data.path={options.data}", "training.tensorboard=false"])
    dataset = load_dataset(config.data)
    with tempfile.TemporaryDirectory() as folder:
        model = build_model(config, dataset)
        trainer = Trainer(model, InterestsKind().task(model, dataset, config), config, RunFolder(folder))
        batches = trainer.task.batches.from_step(0)
        losses: list[float] = []

        def run_round() -> None:
            history = trainer.model.fit(batches, steps_per_epoch=options.steps, verbose=0)
            losses.append(float(history.history["loss"][-1]))

        timed = time_rounds(run_round, options.rounds)
    print_result({**timed, "work_per_round": options.steps * config.training.batch_size, "losses": losses})


if __name__ == "__main__":
    main()

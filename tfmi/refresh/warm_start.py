"""Training that goes on where another run ended, on newer data: its weights and what its optimizer remembers, row by row."""

from __future__ import annotations

import logging
from pathlib import Path

import tensorflow as tf

from tfmi.config import RunConfig
from tfmi.core.errors import ConfigError, ExportError
from tfmi.data.dataset import InteractionDataset
from tfmi.models.retrieval.interest_retrieval import InterestRetrieval
from tfmi.refresh.stored_state import read_state, untrained_model, write_state
from tfmi.refresh.transplant import Surroundings, moves, transplant, transplant_slots
from tfmi.training.optimizers import build_optimizer
from tfmi.training.run_folder import RunFolder
from tfmi.training.trainer import Trainer

log = logging.getLogger(__name__)

STATE = "state"


def store_for_warm_starts(folder: RunFolder, config: RunConfig, data: InteractionDataset) -> None:
    """Store beside a run's checkpoints what their rows stand for."""
    write_state(folder.path / STATE, config, data)


def start_from(path: Path, trainer: Trainer, data: InteractionDataset) -> None:
    """Give a model that is about to be trained the weights of an earlier run, and its optimizer what the other remembered.

    Rows of items, of features' values and of profile columns' values go with what they stand for. What is new keeps its fresh start, what
    is gone is left behind.

    Args:
        path: The earlier run's folder.
        trainer: Of the new run, nothing trained yet.
        data: What the new run trains on.

    Raises:
        ConfigError: There is no such run, or its model is another one.
    """
    folder = RunFolder(path)
    if not folder.holds_run:
        raise ConfigError(f"training.warm_start: {path} holds no run (no {folder.config.name})")
    progress = folder.read_state()
    if progress is None or not Path(f"{folder.best_weights}.index").exists():
        raise ConfigError(f"training.warm_start: the run in {path} has no trained weights yet; a heuristic baseline never has")
    try:
        state = read_state(path / STATE, f"training.warm_start: {path} was trained by an earlier version of tfmi; train it again")
    except ExportError as error:
        raise ConfigError(str(error)) from None
    old = untrained_model(state.config, state.dataset())
    model: InterestRetrieval = trainer.model
    optimizer = build_optimizer(state.config.optimizer, max(int(progress["step"]), state.config.optimizer.warmup_steps + 1))
    optimizer.build(old.trainable_variables)
    latest = folder.checkpoints / progress["checkpoint"]
    tf.train.Checkpoint(model=old, optimizer=optimizer).restore(str(latest)).expect_partial()
    tf.train.Checkpoint(model=old).restore(str(folder.best_weights)).expect_partial()
    try:
        moved = moves(old, Surroundings(state.catalogue, state.profiles), model, Surroundings(data.catalogue, data.profiles))
    except ConfigError as error:
        raise ConfigError(f"training.warm_start: {path}: {error}") from None
    transplant(moved)
    transplant_slots(moved, optimizer, model.optimizer)
    _report(path, state.catalogue.vocabulary.ids, data)


def _report(path: Path, former: list[str], data: InteractionDataset) -> None:
    ids = data.catalogue.vocabulary.ids
    known = len(set(former) & set(ids))
    log.info("Warm start from %s: %s items known, %s new, %s gone", path, f"{known:,}", f"{len(ids) - known:,}", f"{len(former) - known:,}")
    if not known:
        raise ConfigError(
            f"training.warm_start: none of the {len(ids):,} items was in the run of {path}, such as {ids[0]!r} there {former[0]!r}: it was "
            "trained on other data"
        )

"""Privates of Lightning."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from lightning import Trainer
from lightning.fabric.utilities.load import _METADATA_FILENAME
from lightning.fabric.utilities.logger import _convert_params, _flatten_dict
from lightning.pytorch.loggers import TensorBoardLogger


def leave_signals_alone(trainer: Trainer) -> None:
    """Keep Lightning from handling signals: it would message other ranks from within the signal handler.

    That may be in the middle of a collective operation.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]


def count_steps_for_loggers(trainer: Trainer, steps: int) -> None:
    """Set the step that Lightning logs under: its own count is one too many where it resumes after a validation."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = steps


def batches_done(trainer: Trainer) -> int:
    """Return how many batches of the current epoch have been trained on."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.completed


def allow_steps(trainer: Trainer, more: int) -> None:
    """Let the training run `more` additional steps; fewer where it is negative."""
    trainer.fit_loop.epoch_loop.max_steps += more


def training_progress(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a checkpoint that counts the batches trained on, ``current`` in the epoch and in ``total``."""
    return checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]


def validation_progress(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same for the validation during training."""
    return checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]


def metadata_file() -> str:
    """Return the name of the file in Lightning's sharded checkpoints that holds all but the shards."""
    return _METADATA_FILENAME


def flat_parameters(params: dict[str, Any] | Namespace) -> Mapping[str, Any]:
    """Return a configuration flattened as Lightning's loggers do, with keys ``section/key``."""
    return _flatten_dict(_convert_params(params))


def purge_events_from(logger: TensorBoardLogger, step: int | None) -> None:
    """Have TensorBoard drop the events of `step` and later, before its first event is written."""
    logger._kwargs["purge_step"] = step

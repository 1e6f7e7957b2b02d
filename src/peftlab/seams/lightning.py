"""Privates of Lightning."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any

from lightning import Callback, Trainer
from lightning.fabric.utilities.load import _METADATA_FILENAME
from lightning.fabric.utilities.logger import _convert_params, _flatten_dict
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger
from lightning.pytorch.loops.fetchers import _DataFetcher
from lightning.pytorch.utilities.model_helpers import is_overridden

_WITHIN_STEPS = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")

DONE_HERE: dict[str, Any] = {
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
}
"""The arguments of a Trainer that keep Lightning from what this package does itself."""


def leave_signals_alone(trainer: Trainer) -> None:
    """Keep Lightning from handling signals: it would message other ranks from within the signal handler.

    That may be in the middle of a collective operation.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]


def acts_within_steps(trainer: Trainer) -> bool:
    """Return whether a callback of `trainer` acts between the forward pass of a step and its end."""
    return any(is_overridden(hook, callback, Callback) for hook in _WITHIN_STEPS for callback in trainer.callbacks)  # type: ignore[attr-defined]


def shorten_steps(trainer: Trainer, take: Callable[[Any], dict[str, Any]]) -> None:
    """Have `trainer` take the steps of its training by `take`, instead of its own chain of closures and hooks.

    Of a batch are called: ``on_train_batch_start`` of the callbacks that have it, `take`, the schedulers of learning
    rates, ``on_train_batch_end`` of the callbacks and of the module. Progress is counted as ever, so that a checkpoint
    does not show which way a step was taken. The first batch after a resume still goes Lightning's way.

    Args:
        trainer: a trainer in ``on_fit_start``, for one device, of a module that Lightning optimises, which validates
            after so many batches, whatever the epoch.
        take: takes an optimiser step on a batch, which lies where the loader has put it; returns the outputs that
            callbacks get.
    """
    loop, short = trainer.fit_loop.epoch_loop, _ShortSteps(trainer, take)
    loop.advance, loop.on_advance_end = short.advance, short.on_advance_end  # type: ignore[method-assign]


class _ShortSteps:
    """What Lightning's loop over the batches of an epoch does for a batch, and after it."""

    def __init__(self, trainer: Trainer, take: Callable[[Any], dict[str, Any]]) -> None:
        self.trainer, self.take, self.module = trainer, take, trainer.lightning_module
        self.loop, self.connector = trainer.fit_loop.epoch_loop, trainer._logger_connector
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        self.starts, self.ends = (
            [callback for callback in callbacks if is_overridden(hook, callback, Callback)]
            for hook in ("on_train_batch_start", "on_train_batch_end")
        )
        self.whole, self.whole_end = (
            getattr(type(self.loop), name).__get__(self.loop) for name in ("advance", "on_advance_end")
        )
        self.schedules = trainer.lr_scheduler_configs
        self.attributes = vars(self.module)  # setting one of a torch module takes longer than many a callback

    @property
    def each_step(self) -> bool:
        """Whether all schedules go on at each step; a callback may have put others in their place."""
        return all(it.interval == "step" and it.frequency == 1 and not it.reduce_on_plateau for it in self.schedules)

    def advance(self, data_fetcher: _DataFetcher) -> None:
        loop, connector, logged = self.loop, self.connector, self.loop._results
        if loop.restarting:
            self.whole(data_fetcher)
            return
        if loop.val_loop.restarting:  # the loop's own first batch left it so if its validation was over
            loop.val_loop.restarting = False
        batch, _, _ = next(data_fetcher)
        number, progress = loop.batch_idx + 1, loop.batch_progress
        progress.is_last_batch = data_fetcher.done
        progress.increment_ready()
        connector._first_loop_iter = connector._first_loop_iter is None
        logged.batch, logged.batch_size, logged.dataloader_idx = batch, None, None
        self.attributes["_current_fx_name"] = "on_train_batch_start"  # for a callback that logs
        for callback in self.starts:
            callback.on_train_batch_start(self.trainer, self.module, batch, number)
        progress.increment_started()
        outputs = self._stepped(batch)
        progress.increment_processed()
        self._schedule()
        self.attributes["_current_fx_name"] = "on_train_batch_end"
        for callback in self.ends:
            callback.on_train_batch_end(self.trainer, self.module, outputs, batch, number)
        self.module.on_train_batch_end(outputs, batch, number)
        self.attributes["_current_fx_name"] = None
        if logged:
            connector.on_batch_end()
        logged.batch = None
        progress.increment_completed()
        if logged:
            connector.update_train_step_metrics()

    def on_advance_end(self, data_fetcher: _DataFetcher) -> None:
        every = self.trainer.val_check_batch
        validates = not isinstance(every, int) or self.loop.batch_progress.total.ready % every == 0
        if validates or self.trainer.should_stop or self.loop._skip_next_val or not self.each_step:
            self.whole_end(data_fetcher)
        else:
            self.loop._batches_that_stepped += 1

    def _stepped(self, batch: Any) -> dict[str, Any]:
        done = self.loop.automatic_optimization.optim_progress.optimizer
        done.step.increment_ready()
        outputs = self.take(batch)
        done.zero_grad.increment_ready()
        done.zero_grad.increment_started()
        done.zero_grad.increment_completed()
        done.step.increment_completed()
        return outputs

    def _schedule(self) -> None:
        loop = self.loop
        if self.each_step:
            for schedule in self.schedules:
                loop.scheduler_progress.increment_ready()
                schedule.scheduler.step()  # type: ignore[call-arg]  # not by a metric
                loop.scheduler_progress.increment_completed()
            return
        loop.update_lr_schedulers("step", update_plateau_schedulers=False)
        if loop._num_ready_batches_reached():
            loop.update_lr_schedulers("epoch", update_plateau_schedulers=False)


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


def go_on_in_mlflow(logger: MLFlowLogger, run_id: str) -> None:
    """Have Lightning's logger continue an MLflow run that the store has, before it logs anything."""
    logger._run_id = run_id

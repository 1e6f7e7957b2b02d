"""Write checkpoints during a run, and resume from one as if the run had never stopped."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError
from torch import Tensor

from peftlab.devices.processes import gathered, over_ranks
from peftlab.seams.lightning import allow_steps, count_steps_for_loggers, training_progress, validation_progress
from peftlab.storage import trees
from peftlab.storage.checkpoints import LAST, beside, path_of, prune, put_in_place, remove, step_of

SECONDS = 30.0
"""Seconds between two checkpoints by default."""
SHARE = 0.01
"""The largest share of the time that checkpoints may take; slow ones are made more rarely."""


class Checkpointing(Callback):
    """Makes a checkpoint after an optimiser step and the validation that follows it.

    A checkpoint holds all that decides the rest of the training: the trained parameters, the state of optimiser and
    schedule, the position in the plan of batches, and the state of every callback, logger and random generator on every
    rank. This callback comes after all callbacks with a state, so that every state is that of the same moment.

    Args:
        folder: the folder of the checkpoints.
        run: the identity of the run, which its checkpoints hold.
        every: optimiser steps; None: every `SECONDS`, or more rarely to stay below `SHARE` of the time.
        keep_every: optimiser steps; checkpoints at its multiples are made too, and never removed.
        sharded: whether the model is sharded, so that each rank writes its shard.
    """

    def __init__(
        self, folder: Path, run: str, every: int | None = None, keep_every: int | None = None, sharded: bool = False
    ) -> None:
        self.folder, self.run, self.every, self.keep_every, self.sharded = folder, run, every, keep_every, sharded
        self._saved: int | None = None
        self._since = time.perf_counter()
        self._took = 0.0
        self._reopen = False
        """Whether the checkpoint was made during the validation after the last step."""
        self._generators: list[dict[str, Any]] = []
        self.begun = False
        """Whether the training has begun, from a checkpoint or without one."""

    def save(self, trainer: L.Trainer) -> None:
        """Make a checkpoint, unless nothing has been trained since the last one; all ranks must call it."""
        if trainer.global_step in (0, self._saved):
            return
        began = time.perf_counter()
        path = path_of(self.folder, trainer.global_step, self.sharded)
        trainer.save_checkpoint(beside(path) if self.sharded else path)  # all ranks take the path from rank 0
        if trainer.is_global_zero:
            if self.sharded:
                put_in_place(path)
            prune(self.folder, LAST, self.keep_every)
        self._saved, self._since = trainer.global_step, time.perf_counter()
        self._took = self._since - began

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Have Lightning repeat a validation interrupted after the last step: it would consider the fit finished."""
        if self._reopen:
            allow_steps(trainer, 1)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Undo that: the validation has begun."""
        if self._reopen:
            allow_steps(trainer, -1)
            self._reopen = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore the random generators: nothing draws from them between here and the first step."""
        self._since = time.perf_counter()
        if trainer.global_rank < len(self._generators):  # a run may be resumed on more devices than it began on
            set_generators(self._generators[trainer.global_rank])
        self._generators = []
        self.begun = True

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Make a checkpoint if one is due: the previous step and the validation after it are over."""
        count_steps_for_loggers(trainer, trainer.global_step)
        if self._due(trainer.global_step):
            self.save(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Make the last checkpoint: a run interrupted from here on need not train again."""
        self.save(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not save, and set its counters back to the last step boundary."""
        progress = training_progress(checkpoint)
        progress["is_last_batch"] = False
        for counter in (progress["total"], progress["current"]):
            counter["ready"] = counter["completed"]  # the batch already fetched is fetched again
        if trainer.validating:  # interrupted: Lightning then repeats it from the start
            validation = validation_progress(checkpoint)
            validation["total"] = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            validation["current"] = dict.fromkeys(validation["total"], 0)
        checkpoint |= {
            "run": self.run,
            "validated": not trainer.validating,
            "accumulate": 1,  # Lightning's batches in one step: in older versions each part was one
            "should_stop": trainer.should_stop,
            "generators": gathered([generators()]),
            "loggers": {logger.label: logger.state_dict() for logger in _loggers(trainer)},
        }

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore what `on_save_checkpoint` added."""
        progress = training_progress(checkpoint)
        for counter in (progress["total"], progress["current"]):
            for name in counter:
                counter[name] //= checkpoint["accumulate"]
        trainer.should_stop = checkpoint["should_stop"]
        self._generators = checkpoint["generators"]
        step, validated = checkpoint["global_step"], checkpoint["validated"]
        self._saved = step if validated else None
        self._reopen = not validated and step == trainer.max_steps
        if trainer.optimizers:  # a sharded model is loaded after `on_fit_start`
            self.on_fit_start(trainer, pl_module)
        for logger in _loggers(trainer):
            logger.load_state_dict(checkpoint["loggers"].get(logger.label, {}))

    def _due(self, step: int) -> bool:
        if self.keep_every is not None and step % self.keep_every == 0:
            return True
        if self.every is not None:
            return step % self.every == 0
        waited = time.perf_counter() - self._since
        (due,) = over_ranks([waited >= max(SECONDS, self._took / SHARE)], "max")  # the ranks' clocks differ
        return bool(due)


def has_begun(trainer: L.Trainer) -> bool:
    """Return whether the training has begun; a checkpoint has been restored by then."""
    return any(isinstance(callback, Checkpointing) and callback.begun for callback in trainer.callbacks)  # type: ignore[attr-defined]


_FORM: dict[str, Any] = {
    "epoch": int,
    "global_step": int,
    "state_dict": dict,
    "loops": {"fit_loop": {"epoch_loop.batch_progress": {"total": dict, "current": dict}}},
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "validated": bool,
    "accumulate": int,
    "should_stop": bool,
    "generators": list,
    "loggers": dict,
}
"""The entries that every checkpoint has, with their types."""


def fault_of(path: Path, unfit: Callable[[Any, int], str | None] | None = None) -> str | None:
    """Return why a run cannot resume from the checkpoint file `path`; None where no fault is seen.

    Args:
        path: the file.
        unfit: checks the tree in it against the optimiser steps in its name, see `unfit`.
    """
    try:
        tree = trees.read(path)
        return None if unfit is None else unfit(tree, step_of(path) or 0)
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return f"it holds no checkpoint ({type(error).__name__}: {error})"


def unfit(tree: Any, step: int, run: str, weights: Mapping[str, Tensor]) -> str | None:
    """Return why a run cannot resume from a checkpoint; None where no fault is seen.

    Args:
        tree: the content of the checkpoint.
        step: the optimiser steps in its name.
        run: the identity of the run.
        weights: the trained parameters, by name.
    """
    if (lacking := _lacking(tree, _FORM, "tree")) is not None:
        return lacking
    if tree.get("run", run) != run:  # checkpoints of older versions lack it
        return "it is another run's"
    if len(tree["optimizer_states"]) != 1:
        return "it has not the state of one optimiser"
    if tree["global_step"] != step:
        return f"it was made after {tree['global_step']} steps"
    forms = {f"model.{name}": (tensor.shape, tensor.dtype) for name, tensor in weights.items()}
    kept = {name: (getattr(it, "shape", None), getattr(it, "dtype", None)) for name, it in tree["state_dict"].items()}
    odd = next((name for name in forms | kept if forms.get(name) != kept.get(name)), None)
    return None if odd is None else f"{odd} is not as in the model that is trained"


def _lacking(value: Any, form: Any, where: str) -> str | None:
    """Return where `value` departs from `form`; None where it does not."""
    if not isinstance(form, dict):
        return None if type(value) is form else f"{where} is no {form.__name__}"
    if not isinstance(value, dict):
        return f"{where} is no dict"
    inner = (_lacking(value.get(key), part, f"{where}['{key}']") for key, part in form.items())
    return next((lacking for lacking in inner if lacking is not None), None)


class _KeepsState(Protocol):
    """A logger of `peftlab.training.tracking`."""

    label: str

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None: ...


def _loggers(trainer: L.Trainer) -> list[_KeepsState]:
    return cast(list[_KeepsState], trainer.loggers)


def generators() -> dict[str, Any]:
    """Return the state of every random generator that this process uses; of a GPU, only where it is on one."""
    return {
        "python": random.getstate(),
        "numpy": _plain(np.random.get_state(legacy=False)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,  # type: ignore[no-untyped-call]
    }


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of NumPy's generator without arrays, which the sharded formats would pickle."""
    return state | {"state": {"key": state["state"]["key"].tolist(), "pos": int(state["state"]["pos"])}}


def set_generators(states: dict[str, Any]) -> None:
    """Set every random generator to the state that `generators` returned."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


class TreeFiles(CheckpointIO):
    """Has Lightning store checkpoints as `peftlab.storage.trees`. Only rank 0 reads; it broadcasts to the others."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint; Lightning calls this on rank 0 only."""
        trees.write(checkpoint, Path(path))

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return the checkpoint in `path`, on every rank."""
        several = dist.is_initialized() and dist.get_world_size() > 1
        checkpoints = [trees.read(Path(path)) if not several or dist.get_rank() == 0 else None]
        if several:
            dist.broadcast_object_list(checkpoints)
        assert checkpoints[0] is not None
        return checkpoints[0]

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint."""
        remove(Path(path))

"""Whether compiling a model pays: the seconds that it takes against those that it saves in each step."""

from __future__ import annotations

import logging
import math
import statistics
import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from peftlab.errors import OutOfMemoryError
from peftlab.runs.record import RunRecord
from peftlab.seams.pytorch import compile_seconds
from peftlab.tasks.batch import Batch
from peftlab.training.micro_batches import MicroBatches
from peftlab.training.step import Step
from peftlab.training.tuner import Tuner

log = logging.getLogger("peftlab")

TURNS = 5
"""How often each of the two is timed, in turn, after a first time that does not count."""


class BreakEven(Callback):
    """Compares, when the training of a compiled model is over, its last step compiled and not compiled.

    Only gradients are computed, which nobody uses any more. The record's ``cost.compile`` has the seconds spent on
    compiling, the seconds that a step saves, and the number of steps from which on it pays. One device is enough to
    tell; with several, the ranks would have to take these steps together, and nothing is compared.
    """

    def __init__(self, record: RunRecord) -> None:
        self.record = record
        self._before = compile_seconds()
        self._parts: list[Batch] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: list[Batch], batch_idx: int
    ) -> None:
        """Keep the batch."""
        self._parts = batch

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare, and say what came out."""
        spent = round(compile_seconds() - self._before, 3)
        if trainer.world_size > 1 or not self._parts:
            return
        assert isinstance(pl_module, Tuner)
        try:
            saved = round(saved_seconds(pl_module, self._parts), 6)
        except OutOfMemoryError:  # only the compiled step fits in memory
            return
        steps = break_even(spent, saved)
        self.record.update(
            cost={"compile": {"seconds": spent, "saved_seconds_a_step": saved, "break_even_steps": steps}}
        )
        if steps is None:
            log.info("compile: it never pays: %.1f s to compile, and a step takes %.1f ms longer", spent, -1e3 * saved)
        else:
            log.info(
                "compile: it pays from %s steps on: %.1f s to compile, %.1f ms saved a step; this run had %s",
                f"{steps:,}",
                spent,
                1e3 * saved,
                f"{trainer.global_step:,}",
            )


def break_even(spent: float, saved: float) -> int | None:
    """Return the steps after which `saved` seconds a step make up for those `spent`; None: never."""
    return math.ceil(spent / saved) if saved > 0 else None


def saved_seconds(tuner: Tuner, parts: list[Batch]) -> float:
    """Return the seconds by which the gradient of a step takes longer if it is not compiled: medians, in turns.

    The random state stays as it is.

    Raises:
        OutOfMemoryError: the step does not fit in memory uncompiled.
    """
    trained = [parameter for parameter in tuner.model.parameters() if parameter.requires_grad]
    pieces = MicroBatches("training", None, lambda *args, **details: None)
    step = Step(parts, trained, pieces, tuner.trainer.precision_plugin.forward_context)
    device = tuner.device

    def seconds(stance: str) -> float:
        with torch.compiler.set_stance(stance):
            began = time.perf_counter()
            tuner.take_gradient(step)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            return time.perf_counter() - began

    stances = ("force_eager", "default")
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        turns = [[seconds(stance) for stance in stances] for _ in range(TURNS + 1)][1:]
    eager, compiled = (statistics.median(column) for column in zip(*turns, strict=True))
    return eager - compiled

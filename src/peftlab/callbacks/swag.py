"""Collects the moments of the weights over the last part of a training, which SWAG draws models from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from peftlab.storage.tensors import save
from peftlab.training.tuner import Tuner

log = logging.getLogger("peftlab")

MOMENTS = "swag.safetensors"
"""The file beside the record: for each trained tensor NAME ``mean.NAME``, ``squares.NAME`` (the sum of the squared
deviations from the mean) and ``deviations.NAME`` (columns, newest last), and ``snapshots``, how many there were."""


class Swag(Callback):
    """Takes snapshots of the trained weights, and keeps their mean, variance and last deviations (Maddox et al. 2019).

    This is algorithm 1, with snapshots that are spread evenly over the last part of the training in place of one an
    epoch. Their spread is what the ensemble lives from: at a learning rate that falls to zero the last ones are nearly
    alike, so that ``scheduler=constant`` suits it, or an earlier `start`. The training itself is the same bit for bit.

    Mean and variance follow Welford's recurrence: the difference of two raw moments in fp32, equation 2 of the paper,
    would be rounding where weights hardly move. Snapshots are kept on the CPU.

    Args:
        start: the share of the training before the first snapshot.
        snapshots: how many are taken, at most one a step.
        rank: how many of the last deviations are kept, the columns of the matrix D (K in the paper).
    """

    def __init__(self, start: float = 0.75, snapshots: int = 40, rank: int = 20) -> None:
        if not 0 <= start < 1:
            raise ValueError(f"start = {start}: should be at least 0 and less than 1")
        if not 2 <= rank <= snapshots:
            raise ValueError(f"rank = {rank}: should be at least 2, and at most the number of snapshots, {snapshots}")
        self.start, self.snapshots, self.rank = start, snapshots, rank
        self.count = 0
        """The number of snapshots so far."""
        self.mean: dict[str, Tensor] = {}
        self.squares: dict[str, Tensor] = {}
        self.deviations: list[dict[str, Tensor]] = []

    def is_due(self, step: int, steps: int) -> bool:
        """Return whether a snapshot is taken after a step, from 1, of all `steps`; the last one always is."""
        first = int(self.start * steps)
        now, before = ((place - first) * self.snapshots // (steps - first) for place in (step, step - 1))
        return step > first and now > before

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take a snapshot where one is due."""
        assert isinstance(pl_module, Tuner)
        if self.is_due(trainer.global_step, int(trainer.estimated_stepping_batches)):
            pl_module.settle()
            self.take(pl_module.weights())

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Add a snapshot of `weights`; whole numbers, such as counters, have no part in it."""
        self.count += 1
        newest = {}
        for name, weight in weights.items():
            if not weight.is_floating_point():
                continue
            snapshot = weight.detach().to("cpu", torch.float32, copy=True)
            if name not in self.mean:
                self.mean[name], self.squares[name] = torch.zeros_like(snapshot), torch.zeros_like(snapshot)
            before = snapshot - self.mean[name]
            self.mean[name] += before / self.count
            newest[name] = snapshot - self.mean[name]
            self.squares[name] += before * newest[name]
        self.deviations = [*self.deviations, newest][-self.rank :]

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the moments beside the run's record."""
        if not trainer.is_global_zero:
            return
        if self.count < 2:
            log.warning(
                "callbacks.swag: training ended before two snapshots were taken, after %d of %s steps: there are no "
                "moments to draw models from. Lower callbacks.swag.start",
                trainer.global_step,
                trainer.estimated_stepping_batches,
            )
            return
        tensors = {"snapshots": torch.tensor(self.count)}
        for name in self.mean:
            tensors[f"mean.{name}"], tensors[f"squares.{name}"] = self.mean[name], self.squares[name]
            tensors[f"deviations.{name}"] = torch.stack([deviation[name] for deviation in self.deviations])
        save(tensors, Path(trainer.default_root_dir) / MOMENTS)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: all of it, so that a resumed training ends with the same moments."""
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        for name in _STATE:
            setattr(self, name, state_dict[name])


_STATE = ("count", "mean", "squares", "deviations")

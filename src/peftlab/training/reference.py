"""Computes the reference values of a task once, see `peftlab.tasks.reference`, and keeps them on disk."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from peftlab.data.batches import Batches
from peftlab.data.encoded_cache import keep, kept
from peftlab.data.module import DataModule, Split
from peftlab.devices.hardware import launcher
from peftlab.devices.processes import from_rank_0, gathered, rank
from peftlab.devices.rounding import rounding_of
from peftlab.devices.spec import AUTOCAST, TrainerSpec
from peftlab.storage.tensors import sha256_of
from peftlab.tasks.batch import Batch
from peftlab.tasks.reference import REFERENCE, with_reference
from peftlab.tasks.task import Encoded
from peftlab.training.micro_batches import MicroBatches

log = logging.getLogger("peftlab")

FORMAT = 1
"""Version of the stored values; increase it when their meaning changes."""


class Reference:
    """The model that training starts from, and what it makes of the splits of `data`.

    The values are those of an evaluation: the same batches, in the precision of the run. The ranks divide the batches,
    and all of them get the values of all.

    Args:
        begin: loads the model.
        about: all that decides which model that is, as JSON values.
        data: the loaded data; the encoded examples of its splits get the values.
        trainer: the hardware and its precision.
        pieces: cuts batches that do not fit in memory.
        let_through: is called between batches, and may raise to end the run.
    """

    def __init__(
        self,
        begin: Callable[[], nn.Module],
        about: Sequence[Any],
        data: DataModule,
        trainer: TrainerSpec,
        pieces: MicroBatches,
        let_through: Callable[[], None] = lambda: None,
    ) -> None:
        self.begin, self.about, self.data, self.trainer = begin, about, data, trainer
        self.pieces, self.let_through = pieces, let_through
        self.device = device_of(trainer)
        self._model: nn.Module | None = None

    def add(self, splits: Iterable[str]) -> list[str]:
        """Add the values to the encoded examples of `splits`, and return those that had to be computed."""
        computed = []
        for split in splits:
            members = self.data.splits[split]
            if REFERENCE in members.encoded.arrays:  # the same examples, as the validation split of an overfitted run
                continue
            name = self.fingerprint(members)
            values = from_rank_0(kept(name) if rank() == 0 else None)
            if values is None:
                computed.append(split)
                values = from_rank_0(self._computed(split, members))
                assert values is not None
                if rank() == 0:
                    keep(name, values)
            members.encoded.arrays[REFERENCE] = values.arrays[REFERENCE]
        self._model = None
        return computed

    def fingerprint(self, members: Split) -> str:
        """Return a digest of everything that the bits of the values of a split depend on."""
        task, static = self.data.task, self.data.static
        on_gpu = self.device.type == "cuda"
        parts = [
            f"reference {FORMAT}",
            f"{type(task).__module__}.{type(task).__qualname__}",
            *self.about,
            sha256_of({name: torch.from_numpy(array) for name, array in members.encoded.arrays.items()}),
            self.data.spec.eval_batch_size,
            None if static is None else static.most,
            [self.trainer.precision, self.trainer.tf32, on_gpu and self.trainer.cudnn_attention],
            *rounding_of(self.device),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _computed(self, split: str, members: Split) -> Encoded | None:
        """Return the values of a split on rank 0, of whose batches each rank computes its own; None on the others."""
        log.info("computing once what the model before training makes of the %s split", split)
        data = self.data
        batches = Batches(data.task, members.examples, members.encoded, split, data.seed, None, static=data.static)
        values: list[tuple[int, np.ndarray]] = []
        dtype = AUTOCAST.get(self.trainer.precision)
        with torch.inference_mode(), torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            for part in data.division.of_evaluation(data.evaluation_batches(split)):
                if part.examples:
                    self.let_through()
                    self._take(batches[part], values)
        of_all = dict(gathered(values))
        return with_reference(Encoded({}, members.encoded.lengths, 0, {}), of_all) if rank() == 0 else None

    def _take(self, batch: Batch, values: list[tuple[int, np.ndarray]]) -> None:
        """Add the values of a batch by example, in pieces where it does not fit in memory."""
        for piece in self.pieces.pieces(batch):
            done = self.pieces.attempt(self._of_batch, piece)
            if done is None:
                self._take(piece, values)
            else:
                assert piece.part is not None
                values += zip(piece.part.examples, done[0], strict=True)

    def _of_batch(self, batch: Batch) -> list[np.ndarray]:
        batch = batch.to(self.device)
        return self.data.task.reference_by_example(self.model, batch)

    @property
    def model(self) -> nn.Module:
        """The model on its device, in evaluation mode; loaded when it is first needed."""
        if self._model is None:
            with torch.random.fork_rng(devices=[]):  # a run is the same whether the values are kept or computed
                self._model = self.begin().eval().to(self.device)
        return self._model


def device_of(trainer: TrainerSpec) -> torch.device:
    """Return the device of this process."""
    if trainer.accelerator != "gpu":
        return torch.device("cpu")
    environment = launcher()
    return torch.device("cuda", environment.local_rank() if environment else rank())

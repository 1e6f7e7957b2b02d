"""Write the predictions of a split, one example a line."""

from __future__ import annotations

import json
import tempfile
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback

from peftlab.devices.processes import gathered
from peftlab.storage.atomic import replacing
from peftlab.storage.disk import writing
from peftlab.storage.entries import own_folder
from peftlab.tasks.batch import Batch
from peftlab.training.scoring import is_last_validation

HELD = 2**25
"""Bytes of predictions that are kept in memory; more of them are kept in a file until all are made."""


class _Lines(Sequence[tuple[int, bytes]]):
    """Lines of text, each with the number of its example, in the order of the numbers.

    Args:
        folder: where a file is made if they are many, nameless and gone with the process; None: among temporary files.
    """

    def __init__(self, folder: Path | None) -> None:
        place = None if folder is None else str(folder)
        self._file = tempfile.SpooledTemporaryFile(HELD, dir=place)  # noqa: SIM115 - open as long as this object lives
        self._numbers, self._ends = array("q"), array("q", [0])
        self._order: np.ndarray | None = None

    def add(self, number: int, line: bytes) -> None:
        """Add the line of example `number`."""
        self._file.seek(self._ends[-1])
        self._file.write(line)
        self._numbers.append(number)
        self._ends.append(self._ends[-1] + len(line))
        self._order = None

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: Any) -> Any:
        """Return the number and the line at `place`."""
        if self._order is None:
            self._order = np.argsort(np.asarray(self._numbers), kind="stable")
        n = int(self._order[place])
        self._file.seek(self._ends[n])
        return self._numbers[n], self._file.read(self._ends[n + 1] - self._ends[n])


class Predictions(Callback):
    """Collects the predictions of the evaluation steps and writes ``<split>.jsonl``, in the order of the data files.

    Rank 0 gathers the predictions of all ranks and writes the file.
    Of the validations during training, only the one after the last step writes a file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._kept: _Lines | None = None
        """The predictions so far of an evaluation, by the index of their example in the split."""

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Keep the predictions of the batch."""
        if is_last_validation(trainer):
            self._keep(trainer, outputs, batch)

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Keep the predictions of the batch."""
        self._keep(trainer, outputs, batch)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the file."""
        if is_last_validation(trainer):
            self._write(trainer, "validation")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the file."""
        self._write(trainer, "test")

    def _keep(self, trainer: L.Trainer, predictions: list[dict[str, Any]], batch: Batch) -> None:
        assert batch.part is not None
        with writing(self.folder):
            # only rank 0 has the folder of the run
            self._kept = self._kept or _Lines(own_folder(self.folder) if trainer.is_global_zero else None)
            for number, prediction in zip(batch.part.examples, predictions, strict=True):
                self._kept.add(number, json.dumps(prediction, ensure_ascii=False).encode() + b"\n")

    def _write(self, trainer: L.Trainer, split: str) -> None:
        kept: Sequence[tuple[int, bytes]] = self._kept or []
        if dist.is_initialized():
            kept = sorted(gathered(list(kept)))
        self._kept = None
        if not trainer.is_global_zero:
            return
        path, needed = own_folder(self.folder) / f"{split}.jsonl", sum(len(line) for _, line in kept)
        with replacing(path, needed) as temporary, temporary.open("wb") as file:
            file.writelines(line for _, line in kept)

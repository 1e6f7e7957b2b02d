"""Write the predictions of a split, one example a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from peftlab.devices.processes import gathered
from peftlab.storage.atomic import replacing
from peftlab.storage.entries import own_folder
from peftlab.tasks.batch import Batch
from peftlab.training.scoring import is_last_validation


class Predictions(Callback):
    """Collects the predictions of the evaluation steps and writes ``<split>.jsonl``, in the order of the data files.

    Rank 0 gathers the predictions of all ranks and writes the file.
    Of the validations during training, only the one after the last step writes a file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._kept: list[tuple[int, dict[str, Any]]] = []
        """Predictions, each with the index of its example in the split."""

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Keep the predictions of the batch."""
        if is_last_validation(trainer):
            self._keep(outputs, batch)

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Keep the predictions of the batch."""
        self._keep(outputs, batch)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the file."""
        if is_last_validation(trainer):
            self._write(trainer, "validation")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the file."""
        self._write(trainer, "test")

    def _keep(self, predictions: list[dict[str, Any]], batch: Batch) -> None:
        assert batch.part is not None
        self._kept += zip(batch.part.examples, predictions, strict=True)

    def _write(self, trainer: L.Trainer, split: str) -> None:
        kept = sorted(gathered(self._kept), key=lambda one: one[0])
        self._kept = []
        if not trainer.is_global_zero:
            return
        text = "".join(json.dumps(prediction, ensure_ascii=False) + "\n" for _, prediction in kept).encode()
        with replacing(own_folder(self.folder) / f"{split}.jsonl", needed=len(text)) as temporary:
            temporary.write_bytes(text)

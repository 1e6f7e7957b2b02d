"""Predictions of a split, one example a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from peftlab.atomic_files import replacing
from peftlab.processes import gathered


class Predictions(Callback):
    """Collects what the evaluation steps return and writes ``<split>.jsonl``, in the order of the data's files.

    The predictions of all ranks are gathered on rank 0, which alone writes.
    Validations on the way, while training, leave no file, but for the one after the last step.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._found: list[dict[str, Any]] = []

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Keep the predictions of the batch."""
        if is_last_validation(trainer):
            self._found += outputs

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Keep the predictions of the batch."""
        self._found += outputs

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the file."""
        if is_last_validation(trainer):
            self._write(trainer, "validation")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the file."""
        self._write(trainer, "test")

    def _write(self, trainer: L.Trainer, split: str) -> None:
        found = sorted(gathered(self._found), key=lambda prediction: _position(prediction["id"]))
        self._found = []
        if not trainer.is_global_zero:
            return
        text = "".join(json.dumps(prediction, ensure_ascii=False) + "\n" for prediction in found).encode()
        with replacing(self.folder / f"{split}.jsonl", needed=len(text)) as temporary:
            temporary.write_bytes(text)


def is_last_validation(trainer: L.Trainer) -> bool:
    """Return whether a validation is one after training, or the one after the last step of the budget."""
    return trainer.state.fn != "fit" or trainer.global_step == trainer.estimated_stepping_batches


def _position(example_id: str) -> tuple[str, int]:
    split, _, number = example_id.partition(":")
    return split, int(number)

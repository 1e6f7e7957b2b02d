"""Predictions of a split, one example a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback


class Predictions(Callback):
    """Collects what the evaluation steps return and writes ``<split>.jsonl``, in the order of the data's files.

    Validations on the way, while training, leave no file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._found: list[dict[str, Any]] = []

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Keep the predictions of the batch."""
        if trainer.state.fn != "fit":
            self._found += outputs

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the file."""
        if trainer.state.fn != "fit":
            self._write("validation")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the file."""
        self._write("test")

    def _write(self, split: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._found.sort(key=lambda prediction: _position(prediction["id"]))
        with (self.folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for prediction in self._found:
                file.write(json.dumps(prediction, ensure_ascii=False) + "\n")
        self._found = []


def _position(example_id: str) -> tuple[str, int]:
    split, _, number = example_id.partition(":")
    return split, int(number)

"""Keep the best checkpoint, and record which one it is."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from peftlab.runs.record import RunRecord
from peftlab.storage.digests import file_sha256
from peftlab.storage.entries import own_folder
from peftlab.storage.tensors import save
from peftlab.tasks.task import Selection
from peftlab.training.tuner import Tuner

log = logging.getLogger("peftlab")


class KeepBest(Callback):
    """Writes the trained parameters to `path` after each validation better than all before, and records their digest.

    A validation whose loss is NaN or infinite is never the best. An equal score does not count as better: the earlier
    checkpoint stays, with less training. Scores are over all ranks, so that every rank decides alike. With `last`,
    every validation counts as better, even one whose score is NaN, so that the last weights stay and no label of the
    split has chosen them.
    """

    def __init__(self, selection: Selection, path: Path, record: RunRecord, last: bool = False) -> None:
        self.selection, self.path, self.record, self.last = selection, path, record, last
        self.value: float | None = None
        self.validated_step = -1
        self.is_last, self.is_here = False, False
        """Whether the last validation was the best so far, and whether this process made it."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"value": self.value, "validated_step": self.validated_step, "is_last": self.is_last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self.value, self.validated_step = state_dict["value"], state_dict["validated_step"]
        self.is_last = state_dict.get("is_last", False)  # older versions did not keep it

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare, and write the checkpoint and the record."""
        assert isinstance(pl_module, Tuner)
        self.validated_step, self.is_last, self.is_here = trainer.global_step, False, True
        value = float(trainer.callback_metrics[f"validation/{self.selection.metric}"])
        loss = float(trainer.callback_metrics["validation/loss"])
        if not math.isfinite(loss):  # scores of NaN predictions may still be finite
            self.record.event("not finite", step=trainer.global_step, kind="validation loss")
            log.warning("step %d: the validation loss is not finite: no candidate for the best", trainer.global_step)
        elif self._better(value):
            self.value, self.is_last = value, True
            weights = pl_module.weights()
            if trainer.is_global_zero:
                own_folder(self.path.parent)
                save(weights, self.path)
                self.record.update(selection={"sha256": file_sha256(self.path)})
            self.record.update(
                selection={
                    "metric": self.selection.metric,
                    "split": "validation",
                    "mode": self.selection.mode,
                    "value": value,
                    "epoch": trainer.current_epoch,
                    "step": trainer.global_step,
                }
            )
        if trainer.state.fn == "fit":
            steps = int(trainer.estimated_stepping_batches)
            self.record.event("validated", step=trainer.global_step, of=steps, **{self.selection.metric: value})
        self.record.write()

    def _better(self, value: float) -> bool:
        if self.last:
            return True
        if math.isnan(value):
            return False
        if self.value is None:
            return True
        return value > self.value if self.selection.mode == "max" else value < self.value

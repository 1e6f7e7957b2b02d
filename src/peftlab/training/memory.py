"""Remember which batches were too large for memory: across a resume, and in the record for every rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from peftlab.devices.processes import gathered, rank
from peftlab.runs.record import RunRecord
from peftlab.training.micro_batches import MicroBatches


class Memory(Callback):
    """Stores in every checkpoint the batch size from which each rank computes in pieces.

    Events that other ranks noted in their records, which are never written, are added to the record of rank 0.

    Args:
        pieces: the objects that cut batches, always in the same order.
        record: the run's record; on ranks other than 0 one that is never written.
    """

    def __init__(self, pieces: Sequence[MicroBatches], record: RunRecord) -> None:
        self.pieces, self.record = pieces, record
        self._reported = 0

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, by rank."""
        return {"too_large": gathered([[pieces.too_large for pieces in self.pieces]])}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it; a rank that is new has nothing to restore."""
        for of_rank in state_dict["too_large"][rank() : rank() + 1]:
            for pieces, too_large in zip(self.pieces, of_rank, strict=True):
                if pieces.halve is not None:
                    pieces.too_large = too_large

    def on_validation_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Add the other ranks' events to the record of rank 0."""
        if trainer.world_size == 1:
            return
        noted = self.record.events("out of memory") if rank() > 0 else []
        for event in gathered([event | {"rank": rank()} for event in noted[self._reported :]]):
            self.record.data["history"].append(event)
        self._reported = len(noted)

    on_test_end = on_train_end = on_validation_end

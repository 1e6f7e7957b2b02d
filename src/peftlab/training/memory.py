"""Remember which batches were too large for memory: over a resume, and in the record whichever rank it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from peftlab.devices.processes import gathered, rank
from peftlab.runs.record import RunRecord
from peftlab.training.micro_batches import MicroBatches


class Memory(Callback):
    """Keeps in every checkpoint from which size on each rank computes batches in pieces, so that it does so again.

    What ranks other than 0 have noted in their records, which no file holds, it adds to that of rank 0.

    Args:
        pieces: what cuts batches, always in the same order.
        record: of the run; on ranks other than 0 the one that nobody writes.
    """

    def __init__(self, pieces: Sequence[MicroBatches], record: RunRecord) -> None:
        self.pieces, self.record = pieces, record
        self._told = 0

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, by rank."""
        return {"too_large": gathered([[pieces.too_large for pieces in self.pieces]])}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from it; a rank that was not there before knows nothing yet."""
        for of_rank in state_dict["too_large"][rank() : rank() + 1]:
            for pieces, too_large in zip(self.pieces, of_rank, strict=True):
                if pieces.halve is not None:
                    pieces.too_large = too_large

    def on_validation_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Have rank 0 note what the others have noted."""
        if trainer.world_size == 1:
            return
        noted = self.record.events("out of memory") if rank() > 0 else []
        for event in gathered([event | {"rank": rank()} for event in noted[self._told :]]):
            self.record.data["history"].append(event)
        self._told = len(noted)

    on_test_end = on_train_end = on_validation_end

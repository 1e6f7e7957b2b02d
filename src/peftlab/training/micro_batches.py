"""Batches in halves, quarters, ... where the whole does not fit in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from lightning.pytorch.utilities.memory import garbage_collection_cuda, is_oom_error

from peftlab.errors import OutOfMemoryError
from peftlab.tasks.batch import Batch

log = logging.getLogger("peftlab")

T = TypeVar("T")

Halve = Callable[[Batch], list[Batch]]
Note = Callable[..., None]


class MicroBatches:
    """Cuts batches into pieces that fit in memory.

    A size that failed once is not tried again: from then on, every batch with at least as many positions is cut.

    Args:
        stage: the purpose of the batches, for messages: ``training`` or ``evaluation``.
        halve: splits a batch of several examples in two; None: batches are never cut.
        note: called with an event and its details when a batch is too large.
    """

    def __init__(self, stage: str, halve: Halve | None, note: Note) -> None:
        self.stage, self.halve, self.note = stage, halve, note
        self.too_large: int | None = None
        """The smallest number of positions, padding included, that ran out of memory."""

    def fits(self, batch: Batch) -> bool:
        """Return whether `batch` may be computed whole, as far as is known."""
        return self.too_large is None or batch.positions < self.too_large or len(batch.examples) < 2

    def pieces(self, batch: Batch) -> Iterator[Batch]:
        """Yield `batch`, or pieces of it that are small enough as far as is known, in order."""
        if self.fits(batch):
            yield batch
            return
        assert self.halve is not None
        for half in self.halve(batch):
            yield from self.pieces(half)

    def attempt(
        self, act: Callable[[Batch], T], batch: Batch, let_go: Callable[[], object] = lambda: None
    ) -> tuple[T] | None:
        """Return the result of `act` on `batch`; None where it ran out of memory and smaller pieces can be tried.

        By then nothing is left of the attempt, and its memory is back with the device.

        Args:
            act: computes a batch.
            batch: the batch.
            let_go: drops what `act` keeps elsewhere, such as gradients.

        Raises:
            OutOfMemoryError: no smaller pieces can be tried.
        """
        try:
            return (act(batch),)
        except (RuntimeError, MemoryError) as error:
            if not isinstance(error, MemoryError) and not is_oom_error(error):
                raise
            reason = str(error).strip().split("\n")[0]
        # outside the handler: inside, the error keeps alive every tensor of the frames it passed through
        let_go()
        garbage_collection_cuda()
        if self.halve is None or len(batch.examples) < 2:
            raise OutOfMemoryError(self._advice(batch, reason))
        self.too_large = batch.positions
        size: dict[str, Any] = {"examples": len(batch.examples), "positions": self.too_large}
        log.warning(
            "out of memory in %s on %d examples (%d positions): from now on, so large a batch is computed in pieces",
            self.stage,
            *size.values(),
        )
        self.note("out of memory", stage=self.stage, **size, reason=reason)
        return None

    def _advice(self, batch: Batch, reason: str) -> str:
        many = len(batch.examples) > 1
        less = (
            "compute it in parts with trainer.accumulate=2 or more"
            if self.stage == "training"
            else "set a smaller data.eval_batch_size"
        )
        rows = len(batch.rows) - batch.copies
        if many:
            choices = [less]
        elif rows > 1:  # of a long text, a smaller data.max_tokens would only make more
            choices = [
                f"this example has {rows} rows, which are computed together. If they are parts of a long text, set "
                "data.long=truncate or divide it in the data; if they are choices, set a smaller data.max_tokens"
            ]
        else:
            choices = ["set a smaller data.max_tokens"]
        choices += ["set trainer.gradient_checkpointing=true"] if self.stage == "training" else []
        return (
            f"out of memory in {self.stage} on {len(batch.examples)} examples ({batch.positions} positions): "
            f"{', or '.join(choices)} ({reason})"
        )

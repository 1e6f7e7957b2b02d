"""Batches in halves, quarters, ... where memory does not suffice for the whole."""

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
    """Cuts batches into pieces that memory suffices for.

    What was too large once is not tried again: from then on, every batch with at least as many positions is cut at
    once.

    Args:
        stage: what the batches are for, in messages: ``training`` or ``evaluation``.
        halve: makes the two halves of a batch of several examples; None: not to be done.
        note: called with an event and its details when a batch turns out to be too large.
    """

    def __init__(self, stage: str, halve: Halve | None, note: Note) -> None:
        self.stage, self.halve, self.note = stage, halve, note
        self.too_large: int | None = None
        """The smallest number of positions, padding included, that memory has run out on."""

    def fits(self, batch: Batch) -> bool:
        """Return whether nothing is known against computing `batch` as a whole."""
        return self.too_large is None or batch.positions < self.too_large or len(batch.examples) < 2

    def pieces(self, batch: Batch) -> Iterator[Batch]:
        """Yield `batch`, or the pieces of it that are small enough as far as is known by then, in its order."""
        if self.fits(batch):
            yield batch
            return
        assert self.halve is not None
        for half in self.halve(batch):
            yield from self.pieces(half)

    def attempt(self, act: Callable[[Batch], T], batch: Batch) -> tuple[T] | None:
        """Return what `act` makes of `batch`; None where memory ran out on it, and smaller pieces can be tried.

        Raises:
            OutOfMemoryError: they cannot.
        """
        try:
            return (act(batch),)
        except (RuntimeError, MemoryError) as error:
            if not isinstance(error, MemoryError) and not is_oom_error(error):
                raise
            reason = str(error).strip().split("\n")[0]
        # outside of the handler: until then, the error holds every tensor of the frames that it came through
        garbage_collection_cuda()
        if self.halve is None or len(batch.examples) < 2:
            raise OutOfMemoryError(self._advice(batch, reason))
        self.too_large = batch.positions
        known: dict[str, Any] = {"examples": len(batch.examples), "positions": self.too_large}
        log.warning(
            "out of memory in %s on %d examples (%d positions): from now on, so large a batch is computed in pieces",
            self.stage,
            *known.values(),
        )
        self.note("out of memory", stage=self.stage, **known, reason=reason)
        return None

    def _advice(self, batch: Batch, reason: str) -> str:
        many = len(batch.examples) > 1
        less = (
            "compute it in parts with trainer.accumulate=2 or more"
            if self.stage == "training"
            else "set a smaller data.eval_batch_size"
        )
        choices = [less] if many else ["set a smaller data.max_tokens"]
        choices += ["set trainer.gradient_checkpointing=true"] if self.stage == "training" else []
        return (
            f"out of memory in {self.stage} on {len(batch.examples)} examples ({batch.positions} positions): "
            f"{', or '.join(choices)} ({reason})"
        )

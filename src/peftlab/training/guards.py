"""What a run does about a step that is not finite and a batch that does not fit in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from peftlab.training.micro_batches import Halve, MicroBatches, Note
from peftlab.training.non_finite import FiniteGuard


class Guards:
    """Keeps a run going, or ends it, when numbers go wrong or memory runs out.

    Args:
        on_nan: whether a step with NaN or infinities ends the run or is left out.
        halve: splits a batch that does not fit in memory; None: the run ends. It must be None for a sharded model,
            because the forward pass of a piece would wait for the other ranks.
        note: called with an event and its details whenever a guard acts.
        unread: the most steps whose check may wait to be read, see `UNREAD`.
    """

    def __init__(
        self,
        on_nan: Literal["stop", "skip_batch"] = "stop",
        halve: Halve | None = None,
        note: Note = lambda event, **details: None,
        unread: int = 1,
    ) -> None:
        self.finite = FiniteGuard(on_nan, note, unread)
        self.training = MicroBatches("training", halve, note)
        self.evaluation = MicroBatches("evaluation", halve, note)

    @contextmanager
    def noting(self, note: Note) -> Iterator[None]:
        """Have `note` called in this context."""
        guards: list[FiniteGuard | MicroBatches] = [self.finite, self.training, self.evaluation]
        before = [guard.note for guard in guards]
        for guard in guards:
            guard.note = note
        try:
            yield
        finally:
            for guard, own in zip(guards, before, strict=True):
                guard.note = own

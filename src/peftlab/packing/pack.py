"""Packs of runs: each goes through its own story in a thread, and they meet at the gradients of their steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from peftlab.packing.run_context import RunContext
from peftlab.packing.turns import Turns
from peftlab.runs.record import RunRecord
from peftlab.terminal.signals import Interrupted, Signals
from peftlab.training.step import Step
from peftlab.training.tuner import Tuner


class Answer(Enum):
    """What a run is told that asks for the gradient of its step."""

    ALONE = "alone"
    """It computes the gradient itself."""
    JOINED = "joined"
    """The gradient is there: it was computed together with those of other runs."""


class Seat:
    """The place of one run in a pack.

    Args:
        pack: the pack.
        number: the number of the run in it, from 0.
        work: runs the run.
        output: a descriptor for what the run prints; None: that of the process.
    """

    def __init__(self, pack: Pack, number: int, work: Work, output: int | None) -> None:
        self.pack, self.number = pack, number
        self.turns: Turns[Step, Answer] = Turns(lambda _: work(self), RunContext(output))
        self.tuner: Tuner | None = None

    def take(self, tuner: Tuner, record: RunRecord) -> Callback:
        """Let the other runs take part in the steps of `tuner`; return the callback that its trainer needs.

        The `record` tells what became of it.
        """
        self.tuner = tuner
        tuner.seat = self
        self.pack.share_weights(tuner)
        record.extend("packing", {"runs": len(self.pack.seats)})
        return _Packed(self.pack)

    def gradient(self, step: Step, alone: Callable[[], None]) -> None:
        """Set the parameters' gradients to that of `step`, which `alone` would do."""
        if self.turns.ask(step) is Answer.ALONE:
            alone()


Work = Callable[[Seat], object]
"""Runs one run of a pack; see `peftlab.one_run.run`."""


class Pack:
    """Several runs in one process.

    Each run has a thread of its own, and one thread runs at a time: up to the gradient of its next step, or to its end.
    What fails or ends in one run concerns no other.

    Args:
        works: the runs.
        outputs: for each a descriptor for what it prints; None: that of the process.
    """

    def __init__(self, works: Sequence[Work], outputs: Sequence[int | None] | None = None) -> None:
        outputs = [None] * len(works) if outputs is None else outputs
        both = zip(works, outputs, strict=True)
        self.seats = [Seat(self, number, work, output) for number, (work, output) in enumerate(both)]
        self._shared: dict[tuple[str, torch.device], Tensor] = {}

    def run(self, ended: Callable[[Seat], object] = lambda seat: None) -> list[Seat]:
        """Run all runs to their ends, and return their seats, whose `turns` hold results and errors.

        A signal is held back for every run to act on at its next step.

        Args:
            ended: called when a run has ended, in that run's context.
        """
        with Signals() as signals:
            signals.hold = True
            answers = dict.fromkeys(self.seats, Answer.ALONE)
            while answers:
                for seat, answer in answers.items():
                    turns = seat.turns
                    if signals.pending is not None and not turns.begun:
                        turns.cancel(Interrupted(signals.pending))
                    else:
                        turns.take(answer)
                    if turns.over:
                        seat.tuner = None  # lets go of its model
                        with turns.context.current():
                            ended(seat)
                answers = self._gradients([seat for seat in answers if not seat.turns.over])
        return self.seats

    def share_weights(self, tuner: Tuner) -> None:
        """Replace frozen weights of `tuner` by equal ones of another run of the pack: these then exist only once.

        What a checkpoint holds may change in training, and is never shared.
        """
        own = {id(tensor) for tensor in tuner.trained().values()}
        for name, parameter in tuner.model.named_parameters():
            if parameter.requires_grad or id(parameter) in own:
                continue
            shared = self._shared.setdefault((name, parameter.device), parameter.data)
            if shared.data_ptr() != parameter.data_ptr() and _is_same(shared, parameter.data):
                parameter.data = shared

    def _gradients(self, asking: Sequence[Seat]) -> dict[Seat, Answer]:
        """Return the answer to each run that asks for a gradient."""
        return dict.fromkeys(asking, Answer.ALONE)


class _Packed(Callback):
    """Has a model share its weights again once Lightning has moved it to a device."""

    def __init__(self, pack: Pack) -> None:
        self.pack = pack

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Share them."""
        assert isinstance(pl_module, Tuner)
        self.pack.share_weights(pl_module)

    on_validation_start: Any = on_fit_start
    on_test_start: Any = on_fit_start


def _is_same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)

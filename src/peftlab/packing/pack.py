"""Packs of runs: each goes through its own story in a thread, and they meet at the gradients of their steps."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.memory import garbage_collection_cuda, is_oom_error
from torch import Tensor

from peftlab.packing import joint_step
from peftlab.packing.joint_model import JointModel
from peftlab.packing.rows import NeverJoinableError, NotJoinableError
from peftlab.packing.run_context import RandomStates, RunContext
from peftlab.packing.turns import Turns
from peftlab.runs.record import RunRecord
from peftlab.terminal.signals import Interrupted, Signals
from peftlab.training.step import Step, forget_failed_pass
from peftlab.training.tuner import Tuner

log = logging.getLogger("peftlab")

TOLERANCE = {"32-true": 1e-3, "bf16-mixed": 5e-2}
"""By precision, the largest difference of a joint gradient from that of a run alone, over the norm of the latter; see
`joint_step.difference`. Roundings stay far below, and wrong masks of dropout far above."""


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
        self.alone: str | None = None
        """Why all its steps are computed alone from now on; None: they are not, as far as is known."""
        self.checked = False
        """Whether a joint gradient has been found equal to its own."""
        self.group: int | None = None
        """The number of the group of runs whose steps can be computed with its own."""
        self.threads = 1
        """Of torch, in the run's own thread."""
        self.joint_steps = self.own_steps = 0
        self.seconds = 0.0
        """That its turns have taken, and its share of joint steps."""
        self._began = self._turn_began = 0.0
        self._before: dict[str, Any] = {}
        """What the record has of the run's time in other packs, before it was resumed."""
        self._expected: list[Tensor | None] | None = None
        """The joint gradient that the next one of its own has to equal."""

    def take(self, tuner: Tuner, record: RunRecord, alone: str | None = None) -> Callback:
        """Let the other runs take part in the steps of `tuner`; return the callback that its trainer needs.

        The section ``packing`` of the `record` tells what becomes of it.

        Args:
            tuner: the run's.
            record: the run's.
            alone: why none of its steps can be computed with those of others; None: nothing is known against it.
        """
        self.tuner, self.alone, self.threads = tuner, alone, torch.get_num_threads()
        tuner.seat = self
        self._before = dict(record.extensions.get("packing", {}))
        return _Packed(self, record)

    def turn(self, answer: Answer) -> None:
        """Let the run go on to the gradient of its next step, or to its end."""
        self._turn_began = time.monotonic()
        self._began = self._began or self._turn_began
        self.turns.take(answer)
        self.seconds += time.monotonic() - self._turn_began

    def gradient(self, step: Step, alone: Callable[[], None]) -> None:
        """Set the parameters' gradients to that of `step`, which `alone` would do.

        The first step is taken in one turn: what counts its arithmetic must not count that of others.
        """
        if self.own_steps and self.turns.ask(step) is Answer.JOINED:
            self.joint_steps += 1
            return
        alone()
        self.own_steps += 1
        if self._expected is not None:
            self._check(step)

    def expect(self, gradients: list[Tensor | None]) -> None:
        """Have the next gradient of its own compared with a joint one."""
        self._expected = gradients

    def facts(self) -> dict[str, Any]:
        """Return the section of the record, from within a turn.

        ``seconds`` are the run's own of the ``clock_seconds`` that its packs have taken so far.
        """
        now = time.monotonic()
        counted = {
            "joint_steps": self.joint_steps,
            "own_steps": self.own_steps,
            "seconds": self.seconds + now - self._turn_began,
            "clock_seconds": now - self._began,
        }
        added = {key: value + self._before.get(key, 0) for key, value in counted.items()}
        return {"runs": len(self.pack.seats), **added, "alone": self.alone}

    def _check(self, step: Step) -> None:
        assert self._expected is not None
        assert self.tuner is not None
        difference = joint_step.difference(self._expected, step)
        self._expected = None
        self.checked = difference <= TOLERANCE.get(str(self.tuner.trainer.precision), 0.0)
        if not self.checked and not math.isnan(difference):
            self.alone = f"its joint gradient differs by {difference:.1e} of the norm"
            log.info("packing: this run computes its steps alone: %s", self.alone)


Work = Callable[[Seat], object]
"""Runs one run of a pack; see `peftlab.one_run.run`."""


class Pack:
    """Several runs in one process.

    Each run has a thread of its own, and one thread runs at a time: up to the gradient of its next step, or to its end.
    Where several ask for gradients, those that can be are computed together. A run's first step never is, and the next
    one only to see that the joint gradient is the same. What fails or ends in one run concerns no other.

    Args:
        works: the runs.
        outputs: for each a descriptor for what it prints; None: that of the process.
    """

    def __init__(self, works: Sequence[Work], outputs: Sequence[int | None] | None = None) -> None:
        outputs = [None] * len(works) if outputs is None else outputs
        both = zip(works, outputs, strict=True)
        self.seats = [Seat(self, number, work, output) for number, (work, output) in enumerate(both)]
        self._shared: dict[tuple[str, torch.device], Tensor] = {}
        self._models: dict[tuple[int, ...], JointModel] = {}
        """By the numbers of the seats whose runs they run."""
        self._most = len(works)
        """The largest number of runs whose steps fit in memory together, as far as is known."""

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
                    if signals.pending is not None and not seat.turns.begun:
                        seat.turns.cancel(Interrupted(signals.pending))
                    else:
                        seat.turn(answer)
                    if seat.turns.over:
                        self._leave(seat)
                        with seat.turns.context.current():
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

    def _leave(self, seat: Seat) -> None:
        """Let go of the model of a run that has ended."""
        seat.tuner = None
        self._models.clear()

    def _gradients(self, asking: Sequence[Seat]) -> dict[Seat, Answer]:
        """Compute what can be computed together; return the answer to each run that asks for a gradient."""
        began = time.monotonic()
        answers = dict.fromkeys(asking, Answer.ALONE)
        groups: dict[int, list[Seat]] = {}
        for seat in asking:
            step = seat.turns.asked
            if seat.alone is None and step is not None and joint_step.fits(step):
                groups.setdefault(self._group(seat), []).append(seat)
        for group in groups.values():
            for first in range(0, len(group), self._most):
                answers |= dict.fromkeys(self._joined(group[first : first + self._most]), Answer.JOINED)
        for seat in asking:
            seat.seconds += (time.monotonic() - began) / len(asking)
        return answers

    def _group(self, seat: Seat) -> int:
        """Return the number of the group of runs whose models run as one with that of `seat`."""
        for other in self.seats:
            if seat.group is None and other.group is not None and other.tuner is not None:
                with suppress(Exception):  # whatever it is, each run can do without the others
                    self._model([other, seat])
                    seat.group = other.group
        if seat.group is None:
            seat.group = seat.number
        return seat.group

    def _model(self, seats: Sequence[Seat]) -> JointModel:
        models = [seat.tuner.model for seat in seats if seat.tuner is not None]
        return JointModel(models, [seat.turns.context.randoms for seat in seats])

    def _joined(self, group: Sequence[Seat]) -> list[Seat]:
        """Compute the gradients of a group together; return the runs that need not compute their own."""
        if len(group) < 2:
            return []
        randoms = [seat.turns.context.randoms for seat in group]
        before = [replace(own) for own in randoms]
        others = RandomStates.of_the_process()
        too_large = False
        try:
            key = tuple(seat.number for seat in group)
            if key not in self._models:
                self._models[key] = self._model(group)
            steps = [seat.turns.asked for seat in group if seat.turns.asked is not None]
            tuners = [seat.tuner for seat in group if seat.tuner is not None]
            if torch.get_num_threads() != group[0].threads:  # each thread has its own number
                torch.set_num_threads(group[0].threads)
            joint_step.compute(self._models[key], tuners, steps, randoms)
            done = [seat for seat in group if seat.checked]
            for seat, step in zip(group, steps, strict=True):
                if not seat.checked:
                    seat.expect(joint_step.gradients(step))
        except Exception as error:  # noqa: BLE001  # whatever it is, each run can do without the others
            done, too_large = [], isinstance(error, MemoryError) or is_oom_error(error)
            reason = None if too_large else _forever(error)
            for seat in group:
                seat.alone = reason
        for seat, states in zip(group, before, strict=True):
            if seat not in done:
                seat.turns.context.randoms.__dict__ |= states.__dict__
        others.put_torch()
        if too_large:  # outside the handler, where the error keeps tensors alive
            forget_failed_pass()
            garbage_collection_cuda()
            self._most = (len(group) + 1) // 2
            log.warning("packing: out of memory with the steps of %d runs; now of %d at most", len(group), self._most)
            done = [seat for half in (group[: self._most], group[self._most :]) for seat in self._joined(half)]
        return done


class _Packed(Callback):
    """Tells a seat how far its run is, and the record what became of its steps."""

    def __init__(self, seat: Seat, record: RunRecord) -> None:
        self.seat, self.record = seat, record

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Share weights: the model is made, and on its device."""
        assert isinstance(pl_module, Tuner)
        self.seat.pack.share_weights(pl_module)

    on_validation_start: Any = on_fit_start
    on_test_start: Any = on_fit_start

    def on_train_end(self, *args: Any) -> None:
        """Note what became of the steps."""
        self.record.extend("packing", self.seat.facts())

    on_train_start: Any = on_train_end
    on_exception: Any = on_train_end


def _forever(error: Exception) -> str | None:
    """Return why the runs of a joint step that failed stay alone; None: it was only this step."""
    if isinstance(error, NotJoinableError):
        return str(error) if isinstance(error, NeverJoinableError) else None
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _is_same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)

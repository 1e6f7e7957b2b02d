"""A light trail of the training, so that a repetition can name the first step and tensor that differ."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.distributed.tensor import DTensor

from peftlab.devices.processes import over_ranks
from peftlab.storage.atomic import append, replacing
from peftlab.training.tuner import Tuner

log = logging.getLogger("peftlab")

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integer types by the bytes of an element."""
_PIECE, _PIECE_OF_A_GPU = 2**14, 2**20
"""Elements hashed at once: as many as fit in a cache, or keep a GPU busy."""
_ODD = (0x9E3779B97F4A7C15 - 2**64, 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
"""The constants of SplitMix64, as signed numbers."""


class Trail(Callback):
    """Writes a point before the first step, after steps 1, 2, 4, 8, ..., after every `every` steps, and after the last.

    The first line names the trained tensors. Each point is one line, on disk before the next step: ``step``, ``loss``
    (of that step, over all ranks, exact to the bit as Python writes a float; null before the first), and ``hashes``,
    one for each tensor in that order. For a sharded model they are of rank 0's shard.

    A resumed run continues after the last point that its checkpoint had reached.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every
        self._last = -1
        self._lines: list[str] = []
        """The lines of the file."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Drop the points after the step that this training starts from, and write the first point."""
        assert isinstance(pl_module, Tuner)
        names = list(pl_module.trained())
        trail = (read(self.path) if trainer.global_step else None) or TrailOf(names, [])
        if trail.tensors != names:
            trail = TrailOf(names, [], trail.damage or "it is of other tensors")
        points = [point for point in trail.points if point["step"] <= trainer.global_step]
        self._last = trainer.global_step  # on every rank, although only rank 0 has the file
        if trail.damage and trainer.is_global_zero:
            after = f"goes on behind its point of step {points[-1]['step']}" if points else "begins anew"
            log.warning("%s is damaged (%s): it %s", self.path, trail.damage, after)
        self._lines = [json.dumps(line) + "\n" for line in ({"tensors": names}, *points)]
        if trainer.is_global_zero:
            with replacing(self.path) as temporary:
                temporary.write_text(self._text(), encoding="utf-8")
        if not points and trainer.global_step == 0:
            self._write(trainer, pl_module, loss=None)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a point where one is due: runs that differ mostly do so early.

        The last point comes before the validation: that may be interrupted and repeated, when the loss of the step is
        no longer known.
        """
        step = trainer.global_step
        if step % self.every == 0 or step & (step - 1) == 0 or step == trainer.estimated_stepping_batches:
            self.on_train_end(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the last point."""
        assert isinstance(pl_module, Tuner)
        if trainer.global_step > self._last:
            pl_module.settle()
            (loss,) = over_ranks([float(pl_module.step_loss)], "sum")
            self._write(trainer, pl_module, loss)

    def _write(self, trainer: L.Trainer, tuner: Tuner, loss: float | None) -> None:
        self._last = trainer.global_step
        if trainer.is_global_zero:
            point = {
                "step": self._last,
                "loss": None if loss is None else repr(loss),
                "hashes": hashes(tuner.trained().values()),
            }
            self._lines.append(json.dumps(point) + "\n")
            append(self.path, self._lines[-1], self._text)

    def _text(self) -> str:
        return "".join(self._lines)


@dataclass(frozen=True)
class TrailOf:
    """The trail of one run."""

    tensors: list[str]
    """Names of the trained tensors."""
    points: list[dict[str, Any]]
    """The points, in order of their steps."""
    damage: str | None = None
    """The damage to the file after the last point; None: none."""


@dataclass(frozen=True)
class Fork:
    """Where two trails diverge."""

    step: int
    """The first step after which something differs."""
    same_until: int | None
    """The step of the last point that is equal in both; None: there is none."""
    tensor: str | None
    """The first tensor that differs; None: only the loss does."""
    loss: tuple[str | None, str | None]
    """The loss of that step, in both."""


def read(path: Path) -> TrailOf | None:
    """Return the trail in `path` up to any damage; None where there is no file, or not even its first line.

    A line that was being written when the run died is not damage.
    """
    if not path.is_file():
        return None
    *lines, last = path.read_bytes().split(b"\n")
    if b"\0" in last:  # as after a power cut
        lines.append(last)
    if not lines:
        return None
    tensors: list[str] = []
    points: list[dict[str, Any]] = []
    try:
        tensors += _texts(json.loads(lines[0].decode())["tensors"])
        for line in lines[1:]:
            points.append(_point(json.loads(line.decode()), len(tensors), points[-1]["step"] if points else -1))
    except (ValueError, LookupError, TypeError, RecursionError):
        number = len(points) + (2 if tensors else 1)
        return TrailOf(tensors, points, f"line {number} of {len(lines)}")
    return TrailOf(tensors, points)


def _point(point: Any, tensors: int, before: int) -> dict[str, Any]:
    """Return `point`, checked to have `tensors` hashes and a step after `before`.

    Raises:
        ValueError, LookupError, TypeError: it has not.
    """
    if not (isinstance(point["loss"], str | None) and len(_texts(point["hashes"])) == tensors):
        raise ValueError("no point of this training")
    if type(point["step"]) is not int or point["step"] <= before:
        raise ValueError("out of order")
    return dict(point)


def _texts(value: Any) -> list[str]:
    if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
        raise TypeError("no list of texts")
    return value


def in_both(one: TrailOf, other: TrailOf) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return pairs of points, one for each step that both trails have."""
    others = {point["step"]: point for point in other.points}
    return [(point, others[point["step"]]) for point in one.points if point["step"] in others]


def fork(one: TrailOf, other: TrailOf) -> Fork | None:
    """Return where two trails diverge; None where they do not, as far as both go."""
    same_until: int | None = None
    for point, its in in_both(one, other):
        mine, theirs = (
            dict(zip(trail.tensors, at["hashes"], strict=True)) for trail, at in ((one, point), (other, its))
        )
        odd = next((name for name in mine | theirs if mine.get(name) != theirs.get(name)), None)
        if odd is not None or point["loss"] != its["loss"]:
            return Fork(point["step"], same_until, odd, (point["loss"], its["loss"]))
        same_until = point["step"]
    return None


def hashes(tensors: Iterable[Tensor]) -> list[str]:
    """Return a hash of 16 hex digits for each of `tensors`, which changes with any bit of its elements.

    Hashes are computed on the tensors' devices and fetched together: a GPU sends no weights. A hash is the sum of the
    elements' bits, each times an odd number given by its position, modulo 2**64: it detects rounding, and is no
    cryptographic digest.
    """
    numbers = [_hash(tensor.detach()) for tensor in tensors]
    return [f"{number % 2**64:016x}" for number in torch.stack(numbers).tolist()] if numbers else []


def _hash(tensor: Tensor) -> Tensor:
    own = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    bits = own.contiguous().view(-1).view(_BITS[own.element_size()])
    factors = _factors(own.device)
    total = torch.zeros((), dtype=torch.int64, device=own.device)
    for piece in bits.split(len(factors)):  # type: ignore[no-untyped-call]
        total = total * _ODD[0] + (piece * factors[: len(piece)]).sum()
    return total


@cache
def _factors(device: torch.device) -> Tensor:
    """Return an odd number for each position of a piece: SplitMix64 (Steele et al. 2014), on signed numbers."""
    number = torch.arange(1, (_PIECE if device.type == "cpu" else _PIECE_OF_A_GPU) + 1, device=device) * _ODD[0]
    for shift, odd in ((30, _ODD[1]), (27, _ODD[2])):
        number = (number ^ (number >> shift)) * odd
    return number | 1

"""What a run costs: time, throughput, memory, arithmetic, energy."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from peftlab.devices.energy import Energy
from peftlab.devices.peak_memory import peak_memory
from peftlab.devices.processes import over_ranks
from peftlab.seams.pytorch import uncompiled
from peftlab.tasks.batch import Batch
from peftlab.training.arithmetic import Arithmetic

if TYPE_CHECKING:
    from peftlab.training.objective import Objective


@runtime_checkable
class InRounds(Protocol):
    """A module whose steps are rounds of clients."""

    flops_a_position: float
    """The arithmetic of a client's first step, forward and backward, over its positions; 0: it was counted before."""


@runtime_checkable
class HasTerms(Protocol):
    """A module whose steps may be of more arithmetic once a term of its objective begins."""

    objective: Objective


class Cost(Callback):
    """Counts samples, tokens and seconds of training over all ranks, validation excluded.

    A resumed run adds to the cost in its checkpoint; work lost after the checkpoint is not counted.

    Until the training ends, every rank is assumed to have done as much as this one.

    ``train_flops`` is counted on the first step, and on each with which a term of the objective begins, forward and
    backward, and scaled by the tokens of all steps until the next of these, padding included: an estimate, since
    attention grows with the square of the length. ``token_share`` is the share of tokens in them that are no padding,
    and ``shapes`` the number of different (rows, tokens) of this rank's passes.

    ``energy_joules`` is counted from the set-up of the training to the last evaluation, see `peftlab.devices.energy`.
    """

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.wall_seconds_before = 0.0
        self.train_seconds = 0.0
        self.samples = self.tokens = self.positions = self.padded = self.steps = 0
        self.shapes: set[tuple[int, int]] = set()
        self.epochs = 0.0
        self._ranks = 1
        self._on_gpu = torch.cuda.is_available()
        self._peak_memory_gib = 0.0
        self._flops: list[tuple[float, int]] = []
        """The arithmetic a position, from each step on that it was counted in, and the positions until the next."""
        self.energy = Energy()
        self._joules: float | None = None
        self._resumed: float | None = None
        self._counter: Arithmetic | None = None
        self._counting = ExitStack()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # by an earlier run of this process
            torch.cuda.reset_peak_memory_stats()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        running = 0.0 if self._resumed is None else time.perf_counter() - self._resumed
        return {
            "wall_seconds": self._wall_seconds(),
            "train_seconds": self.train_seconds + running,
            "peak_memory_gib": max(self._peak_memory_gib, peak_memory_gib(self._on_gpu)),
            "flops": list(self._flops),
            "counts": (self.samples, self.tokens, self.positions, self.steps, self.epochs),
            "shapes": (self.padded, sorted(self.shapes)),
            "energy_joules": self.energy.total(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self.wall_seconds_before = state_dict["wall_seconds"]
        self.train_seconds = state_dict["train_seconds"]
        self._peak_memory_gib = state_dict["peak_memory_gib"]
        self.samples, self.tokens, self.positions, self.steps, self.epochs = state_dict["counts"]
        older = [(state_dict["flops_a_position"], self.positions)] if "flops_a_position" in state_dict else []
        self._flops = list(state_dict.get("flops", older))
        self.padded, shapes = state_dict.get("shapes", (self.positions, ()))  # older checkpoints lack them
        self.shapes = {(rows, tokens) for rows, tokens in shapes}
        self.energy.resume(state_dict.get("energy_joules"))  # checkpoints of before it was counted have none

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Start counting energy, and the memory of the device."""
        self._on_gpu = trainer.strategy.root_device.type == "cuda"
        self.energy.start(trainer.strategy.root_device, counts_host=trainer.local_rank == 0)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._resumed = time.perf_counter()
        self._ranks = trainer.world_size

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Count the arithmetic of the first step, and where terms begin; rounds of clients count that of their own."""
        first = self.positions == 0
        more = not first and isinstance(pl_module, HasTerms) and pl_module.objective.begins(trainer.global_step + 1)
        if (first or more) and not isinstance(pl_module, InRounds):
            self._counter = Arithmetic()
            self._counting.enter_context(uncompiled(pl_module))
            self._counting.enter_context(self._counter)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: list[Batch], batch_idx: int
    ) -> None:
        """Count the parts of the step."""
        positions = sum(part.positions for part in batch)
        if isinstance(pl_module, InRounds) and pl_module.flops_a_position:
            self._flops = [(pl_module.flops_a_position, self.positions)]
        if self._counter is not None:
            self._counting.close()
            self._flops.append((self._counter.operations / positions, 0))
            self._counter = None
        if self._flops:
            of_position, before = self._flops.pop()
            self._flops.append((of_position, before + positions))
        self.positions += positions
        self.samples += sum(len(part.examples) for part in batch)
        self.tokens += sum(part.tokens for part in batch)
        padded = [part for part in batch if part.padding]
        self.padded += sum(part.positions for part in padded)
        self.shapes.update(part.shape for part in padded)
        self.steps = trainer.global_step
        self.epochs = trainer.current_epoch + (batch_idx + 1) / trainer.num_training_batches
        self.energy.keep_up()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        if self._resumed is not None:
            self.train_seconds += time.perf_counter() - self._resumed
            self._resumed = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restart the clock, unless this validation is not part of the training."""
        (self._peak_memory_gib,) = over_ranks([max(self._peak_memory_gib, peak_memory_gib(self._on_gpu))], "max")
        self._joules = self.energy.total()
        if trainer.training or trainer.state.fn == "fit":
            self._resumed = time.perf_counter()

    on_test_end = on_validation_end

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock, and add the counts of the other ranks."""
        self.on_validation_start(trainer, pl_module)
        own = [self.samples, self.tokens, self.positions, self.padded, *(positions for _, positions in self._flops)]
        counts = [int(count) for count in over_ranks(own, "sum")]
        self.samples, self.tokens, self.positions, self.padded = counts[:4]
        self._flops = [(of_position, of_all) for (of_position, _), of_all in zip(self._flops, counts[4:], strict=True)]
        self._ranks = 1

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Stop the clock, and stop counting."""
        self.on_validation_start(trainer, pl_module)
        self._counting.close()
        self._counter = None

    def totals(self) -> dict[str, Any]:
        """Return the ``cost`` section of the record."""
        seconds, ranks = self.train_seconds, self._ranks
        padding = {}  # none where inputs are not made of tokens
        if self.padded:
            padding = {"token_share": round(self.tokens / self.padded, 4), "shapes": len(self.shapes)}
        return {
            "wall_seconds": round(self._wall_seconds(), 3),
            "train_seconds": round(seconds, 3),
            "steps": self.steps,
            "epochs": round(self.epochs, 4),
            "samples_per_second": round(ranks * self.samples / seconds, 2) if seconds else 0.0,
            "tokens_per_second": round(ranks * self.tokens / seconds, 1) if seconds else 0.0,
            "peak_memory_gib": round(max(self._peak_memory_gib, peak_memory_gib(self._on_gpu)), 3),
            "train_flops": sum((of_position * ranks * own for of_position, own in self._flops), 0.0),
            **padding,
            "energy_joules": None if self._joules is None else round(self._joules, 1),
            "energy_counted": [] if self._joules is None else self.energy.counted,
        }

    def _wall_seconds(self) -> float:
        return self.wall_seconds_before + time.perf_counter() - self.began


def peak_memory_gib(on_gpu: bool) -> float:
    """Return the peak memory so far in GiB: of the GPU for a run that is on one, else of this process."""
    if on_gpu:
        return torch.cuda.max_memory_allocated() / 2**30
    return peak_memory() / 2**30

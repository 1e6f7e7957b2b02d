"""What a run is about to do and to need: said before its first step, and after a few of them."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from peftlab.data.module import DataModule
from peftlab.data.shapes import training_shapes
from peftlab.devices import openmp
from peftlab.devices.hardware import describe_hardware
from peftlab.devices.processes import threads_each
from peftlab.devices.spec import TrainerSpec
from peftlab.runs.record import RunRecord
from peftlab.tasks.batch import Batch
from peftlab.terminal.console import clock
from peftlab.training.footprint import Activations, of_optimizer, of_parameters
from peftlab.training.preflight import advice, expected, free_gib, largest_batch
from peftlab.training.tuner import Tuner

log = logging.getLogger("peftlab")

FEWEST_STEPS, FEWEST_SECONDS = 3, 2.0
"""How much of the training is timed before the rest is estimated; the first step does more than others."""


class Outlook(Callback):
    """Says what lies ahead, and measures what the first step needs of memory, by purpose.

    Before the first step: steps, batches, lengths of rows, device, and the memory of weights and gradients. After a
    few steps: the time of the training, from the tokens that they took, and the memory of the rest. Of a language model
    that writes, the memory of all is foretold, see `peftlab.training.preflight`. The record's ``cost.memory`` has the
    memory of this rank.

    Args:
        spec: the hardware.
        data: the data; its batches lie ahead.
        record: the run's record.
        counts_activations: whether the memory of activations is measured, see `Activations`: not of a sharded model,
            nor where classes of the user's own may compute with transforms of ``torch.func``, which refuse it.
    """

    def __init__(self, spec: TrainerSpec, data: DataModule, record: RunRecord, counts_activations: bool) -> None:
        self.spec, self.data, self.record = spec, data, record
        self.counts_activations = counts_activations
        self._measures = False
        """Whether the next step is the first, and measured."""
        self._counting: Activations | None = None
        self._memory: dict[str, float] = {}
        self._expected: float | None = None
        """The GiB that were foretold for the peak of a step."""
        self._first: int | None = None
        """The step that this training starts from."""
        self._since: float | None = None
        """When the first step was over; None: before, or all is said."""
        self._tokens = self._samples = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say what is known before the first step."""
        self._first = trainer.global_step
        self._measures = self.counts_activations
        self._memory = dict(of_parameters(pl_module))
        for line in ahead(self.spec, self.data, trainer.global_step, int(trainer.estimated_stepping_batches)):
            log.info("%s", line)
        if self.counts_activations and isinstance(pl_module, Tuner) and pl_module.task.generates:
            self._foretell(trainer, pl_module)
        else:
            log.info("memory: %s; activations and the optimizer come on top", memory_text(self._memory))

    def _foretell(self, trainer: L.Trainer, tuner: Tuner) -> None:
        """Say what a language model's largest step will need of memory, and what to do if there is less."""
        all_logits = any(term.of_distributions for term in tuner.objective.terms.values())
        batch, autocast = largest_batch(self.data), trainer.precision_plugin.forward_context
        memory = expected(tuner.model, tuner.task, batch, trainer.optimizers[0], autocast, all_logits)
        self._expected = sum(memory.values())
        log.info("memory: %.2f GiB expected at the peak of a step: %s", self._expected, memory_text(memory))
        if (what := advice(memory, free_gib(tuner.device), tuner.device, self.spec.gradient_checkpointing)) is not None:
            log.warning("memory: %s", what)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Measure the first step."""
        if self._measures:
            self._measures = False
            self._counting = Activations((*pl_module.parameters(), *pl_module.buffers()))
            self._counting.__enter__()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: list[Batch], batch_idx: int
    ) -> None:
        """Note the memory after the first step, and say after a few what is to be expected."""
        if self._first is None:
            return
        if "optimizer_gib" not in self._memory:
            self._memory |= {"optimizer_gib": of_optimizer(trainer.optimizers[0]), **self._counted()}
            foretold = {} if self._expected is None else {"expected_gib": self._expected}
            memory = self._memory | foretold
            self.record.update(cost={"memory": {key: round(gib, 6) for key, gib in memory.items()}})
            self._since = time.perf_counter()
            return
        self._tokens += sum(part.tokens for part in batch) * trainer.world_size
        self._samples += sum(len(part.examples) for part in batch) * trainer.world_size
        assert self._since is not None
        seconds = time.perf_counter() - self._since
        done = trainer.global_step - self._first
        if done > FEWEST_STEPS and seconds >= FEWEST_SECONDS and self._tokens:
            log.info(
                "expected: %s of training at %.0f samples/s, and the validations; memory: %s",
                clock(self._left(trainer) * seconds / self._tokens),
                self._samples / seconds,
                memory_text(self._memory),
            )
            self._first = None

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say nothing of a time with a validation in it."""
        if trainer.state.fn == "fit" and "optimizer_gib" in self._memory:
            self._first = None

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Stop measuring."""
        self._counted()

    def _counted(self) -> dict[str, float]:
        """Return the GiB of activations, if they were measured, and measure no more."""
        counting, self._counting = self._counting, None
        if counting is None:
            return {}
        counting.__exit__()
        return {"activations_gib": counting.gib}

    def _left(self, trainer: L.Trainer) -> float:
        """Return the tokens of the steps from the first on."""
        assert self._first is not None
        steps = int(trainer.estimated_stepping_batches) - self._first
        return float(self.data.splits["train"].encoded.lengths.sum()) * steps / self.data.steps_of_epoch()


def ahead(spec: TrainerSpec, data: DataModule, step: int, steps: int) -> Iterator[str]:
    """Yield lines on the training from `step` on, of `steps` in all."""
    batch = f"at most {most:,} tokens" if (most := data.spec.batch_tokens) else f"{data.spec.batch_size} examples"
    epoch, lengths = data.steps_of_epoch(), data.splits["train"].encoded.lengths
    after = f" after step {step:,}" if step else ""
    what = f"steps{after} of {batch}, {steps / epoch:.3g} epochs of {epoch:,}"
    if data.clients:
        what = f"rounds{after} of {len(data.clients):,} clients, in steps of {batch}"
    yield (
        f"training: {steps - step:,} {what}; rows of "
        f"{int(lengths.min())} to {int(lengths.max())} tokens, {float(lengths.mean()):.0f} on average"
    )
    if data.static is not None:
        yield f"shapes: {shapes_text(training_shapes(data))}, in the first epoch"
    names = Counter(describe_hardware(spec)["accelerators"])
    device = ", ".join(f"{number} x {name}" for name, number in names.items()) or _cpu(spec)
    yield f"device: {device}; precision {spec.precision}"


def shapes_text(shapes: Mapping[tuple[int, int], int]) -> str:
    """Return (rows, tokens) as text: how many, and between which sizes."""
    sizes = [sorted(set(of_all)) for of_all in zip(*shapes, strict=True)]
    rows, tokens = (f"{of[0]} to {of[-1]}" if len(of) > 1 else f"{of[0]}" for of in sizes)
    return f"{len(shapes)} of {rows} rows and {tokens} tokens"


def _cpu(spec: TrainerSpec) -> str:
    threads = threads_each(spec)
    text = f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    if spec.world_size > 1:
        text += f" in each of {spec.world_size} processes"
    waiting = openmp.waiting(os.environ)
    return text if waiting == "default" or threads == 1 else f"{text} ({waiting})"


def memory_text(memory: Mapping[str, float]) -> str:
    """Return the GiB by purpose as text."""
    return ", ".join(f"{key.removesuffix('_gib')} {gib:.2f} GiB" for key, gib in memory.items())

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
from peftlab.training.preflight import advice, expected, free_gib, kept_by_largest, largest_batch, peak_gib
from peftlab.training.tuner import Tuner

log = logging.getLogger("peftlab")

FEWEST_STEPS, FEWEST_SECONDS = 3, 2.0
"""How much of the training is timed before the rest is estimated; the first step does more than others."""

PROBED_SHARE = 0.01
"""The part of a training's tokens that may be computed before it on a CPU, to measure what activations take."""


class Outlook(Callback):
    """Says what lies ahead, and measures what the first step needs of memory, by purpose.

    Before the first step: steps, batches, lengths and shapes of rows, device, and the memory that is expected at the
    peak, see `peftlab.training.preflight`. After a few steps: the time of the training, from the tokens that they took,
    and the memory by purpose. The record's ``cost.memory`` has the memory of this rank, and what was expected: an
    ``estimate``, or a ``lower bound`` where not all activations are known beforehand.

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
        self._expected: dict[str, Any] = {}
        """What was foretold for the peak, as the record has it."""
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
        self._foretell(trainer, pl_module)

    def _foretell(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Say what the training will need of memory at its peak."""
        memory = dict(self._memory)
        if isinstance(module, Tuner):
            memory |= self._in_a_step(trainer, module)
        unknown = list(self._unknown(module, memory))
        peak, others = peak_gib(module.device, memory, not unknown, of_optimizer(trainer.optimizers[0]))
        self._expected = {"expected_gib": round(peak, 6), "expected_is": "lower bound" if unknown else "estimate"}
        log.info(
            "memory: %s%.2f GiB expected at the peak; a step: %s%s",
            "at least " if unknown else "",
            peak,
            memory_text(memory | {"others_gib": others}),
            f". On top come: {', '.join(unknown)}" if unknown else "",
        )
        if isinstance(module, Tuner) and module.task.generates and "activations_gib" in memory:
            free, checkpoints = free_gib(module.device), self.spec.gradient_checkpointing
            if (what := advice(memory, free, module.device, checkpoints)) is not None:
                log.warning("memory: %s", what)

    def _unknown(self, module: L.LightningModule, memory: Mapping[str, float]) -> Iterator[str]:
        """Yield what of a step's memory is not known before."""
        if "activations_gib" not in memory:
            yield "activations"
        if isinstance(module, Tuner) and module.objective.terms:
            yield "passes of regularisers"
        if self.data.augmenter is not None or self.data.keeps_rest:
            yield "changed and further texts"
        if module.device.type == "cpu" and self.spec.precision != "32-true":
            yield "kernels for each new shape, which a CPU keeps in low precision"

    def _in_a_step(self, trainer: L.Trainer, tuner: Tuner) -> dict[str, float]:
        """Return the GiB that the largest step needs by purpose; without activations where they are not measured."""
        share, autocast = tuner.optimizer_spec.state_share(tuner.device), trainer.precision_plugin.forward_context
        if self.counts_activations and tuner.task.generates:
            all_logits = any(term.of_distributions for term in tuner.objective.terms.values())
            return expected(tuner.model, tuner.task, largest_batch(self.data), share, autocast, all_logits)
        memory = {"optimizer_gib": share * self._memory["gradients_gib"]}
        few = 3 * int(self.data.splits["train"].encoded.tokens.max())  # one example, and two
        is_cheap = tuner.device.type == "cuda" or few <= PROBED_SHARE * self._left(trainer)
        if self.counts_activations and is_cheap:
            memory["activations_gib"] = kept_by_largest(tuner.model, tuner.task, self.data, autocast)
        return memory

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
            memory = {key: round(gib, 6) for key, gib in self._memory.items()}
            self.record.update(cost={"memory": memory | self._expected})
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
        if self.data.clients and self._tokens:  # a round is of some clients, and of as many epochs as they train
            return self._tokens * steps / (trainer.global_step - self._first - 1)
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
    if not (data.clients or data.task.packs):  # which the plan of batches does not tell of
        yield f"shapes: {shapes_text(training_shapes(data))}, in the first epoch"
    names = Counter(describe_hardware(spec)["accelerators"])
    device = ", ".join(f"{number} x {name}" for name, number in names.items()) or _cpu(spec)
    yield f"device: {device}; precision {spec.precision}"


def shapes_text(shapes: Mapping[tuple[int, int], int]) -> str:
    """Return (rows, tokens), padding included, as text: how many, and between which sizes."""
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

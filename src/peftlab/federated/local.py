"""What one client does in one round: it trains from the shared weights, on its own examples."""

from __future__ import annotations

import hashlib
import math
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Sampler
from typing_extensions import override

from peftlab.data.module import DataModule
from peftlab.devices.spec import TrainerSpec
from peftlab.federated.proximal import Proximal
from peftlab.federated.spec import FederatedSpec
from peftlab.federated.split import drawn
from peftlab.seams.lightning import DONE_HERE, leave_signals_alone
from peftlab.seams.pytorch import uncompiled
from peftlab.storage import trees
from peftlab.storage.atomic import digest_file
from peftlab.tasks.batch import Batch, Part
from peftlab.training.arithmetic import Arithmetic
from peftlab.training.checkpointing import set_generators
from peftlab.training.effects import Effects
from peftlab.training.step import Step
from peftlab.training.tuner import Tuner

FEDPROX = "fedprox"
"""The name of FedProx among the regularisers of a client."""


@dataclass(frozen=True)
class Order:
    """A client to train in a round."""

    client: str
    """Its name."""
    number: int
    """Its number among all clients."""
    round: int
    """From 0."""
    rounds: int
    """Of the whole run."""
    first: bool
    """Whether it is the first client of the first round: it begins as a central training would."""
    pending: tuple[str, ...]
    """The regularisers whose action is to be told, see `Effects`."""
    start: Path
    """The file of the shared weights, see `Start`."""
    result: Path
    """The file for what it has learnt, see `Update`."""


@dataclass(frozen=True)
class Start:
    """What a round begins with."""

    weights: dict[str, Tensor]
    """The shared weights, by name."""
    generators: dict[str, Any] | None = None
    """The state of the random generators that a central training would begin with; None: not of the first round."""

    def write(self, path: Path) -> None:
        """Write it to `path`."""
        trees.write({"weights": self.weights, "generators": self.generators}, path)

    @classmethod
    def read(cls, path: Path) -> Start:
        """Return what `write` wrote to `path`."""
        return cls(**trees.read(path))


@dataclass(frozen=True)
class Update:
    """What a client has made of the shared weights, and what that took."""

    weights: dict[str, Tensor]
    """Its weights, by name."""
    loss: float
    """The mean loss of its steps but for those that were left out; NaN: all were."""
    steps: int
    examples: int
    """Examples that it trained on, as often as it did."""
    tokens: int
    positions: int
    """Tokens, padding included."""
    flops: float
    """Floating-point operations of the run's first step over its positions; 0 of another."""
    effects: dict[str, Any]
    """What each regulariser did in the first step, see `Effects`."""
    began: str
    """The digest of the file that it began with."""
    events: list[dict[str, Any]] = field(default_factory=list)
    """What the record is to have of its training and has not yet, such as steps that were left out."""

    def write(self, path: Path) -> None:
        """Write it to `path`, atomically, and its digest after it."""
        trees.write(dict(vars(self)), path)

    @classmethod
    def read(cls, path: Path) -> Update:
        """Return what `write` wrote to `path`."""
        return cls(**trees.read(path))


class Steps(Sampler[list[Part]]):
    """A client's steps in one round: its stream of batches, cut at the rounds.

    The stream is that of a training on its examples alone, epoch after epoch; a round goes on where the one before
    ended, whether or not the client took part in that.

    Args:
        data: the data of all clients.
        members: the positions of the client's examples.
        spec: says how much of the stream a round is.
        round_: the round, from 0.
    """

    def __init__(self, data: DataModule, members: np.ndarray, spec: FederatedSpec, round_: int) -> None:
        self.data, self.members = data, members
        self.of_epoch = len(data.plan_of(0, members))
        self.number = spec.local_steps or self.of_epoch * (spec.local_epochs or 1)
        self.before = round_ * self.number
        """The steps of the client in all rounds before."""

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[list[Part]]:
        division = self.data.training_division
        plans: dict[int, Any] = {}
        for step in range(self.before, self.before + self.number):
            epoch, place = divmod(step, self.of_epoch)
            if epoch not in plans:
                plans = {epoch: self.data.plan_of(epoch, self.members)}
            yield division.of_training_batch(self.members[plans[epoch][place]].tolist(), epoch)


def trained_on(data: DataModule, spec: FederatedSpec, rounds: int) -> Iterator[int]:
    """Yield the position of each training example as often as a client has trained on it in so many rounds."""
    clients = list(data.clients)
    for round_ in range(rounds):
        for number in drawn(clients, spec, round_, data.seed, data.sampling_of_clients):
            for parts in Steps(data, data.clients[clients[number]], spec, round_):
                yield from parts[0].batch


class LocalData(L.LightningDataModule):
    """The batches of a client in a round."""

    def __init__(self, data: DataModule, steps: Steps) -> None:
        super().__init__()
        self.data, self.steps = data, steps

    def train_dataloader(self) -> DataLoader[list[Batch]]:
        """Return its training steps."""
        return self.data.loader_of(self.steps)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation batches, which Lightning asks for; a client does not validate."""
        return self.data.val_dataloader()

    def transfer_batch_to_device(self, batch: list[Batch], device: torch.device, dataloader_idx: int) -> list[Batch]:
        """Leave the parts of a step on the host until each is computed."""
        return batch


class LocalTuner(Tuner):
    """Trains the model of the whole run for one client.

    The optimiser begins anew in each round. The learning rate goes on from round to round, as in one training of all
    the client's steps.

    Args:
        shared: the run's own module, with the model.
        steps: the client's steps.
        of_all: its steps in all rounds.
        mu: the strength of FedProx.
        begin: sets the random generators before the first step.
    """

    def __init__(self, shared: Tuner, steps: Steps, of_all: int, mu: float, begin: Callable[[], None]) -> None:
        begin()
        rules = dict(shared.rules.chosen) | ({FEDPROX: Proximal(mu=mu)} if mu else {})
        what = (shared.model, shared.task, shared.method, shared.context, shared.optimizer_spec, shared.schedule)
        super().__init__(*what, rules)
        self.objective, self.guards = shared.objective, shared.guards
        self.steps_before, self.of_all, self._begin_at = steps.before, of_all, begin

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return a new optimiser, and the schedule from the place that the client has come to."""
        configured = super().configure_optimizers()
        scheduler = configured["lr_scheduler"]["scheduler"]  # type: ignore[index]
        if self.steps_before:
            assert isinstance(scheduler, LambdaLR), "a schedule is a factor on the highest learning rate"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # it takes us for one that skips the first rate
                resumed = LambdaLR(scheduler.optimizer, scheduler.lr_lambdas, last_epoch=self.steps_before - 1)
            configured["lr_scheduler"]["scheduler"] = resumed  # type: ignore[index]
        return configured

    @property
    def planned_steps(self) -> int:
        """The optimiser steps of the client in all rounds."""
        return self.of_all

    @override
    def _begin(self, parts: list[Batch]) -> Step:
        step = super()._begin(parts)
        assert step.number is not None
        step.number += self.steps_before
        return step

    def on_train_start(self) -> None:
        """Set the random generators last: nothing draws from them between here and the first step."""
        super().on_train_start()
        self._begin_at()


class Tally(Callback):
    """Counts what a client's training takes.

    Args:
        let_through: called before each step; may raise to end the run.
        counts_flops: whether the arithmetic of the first step is counted.
    """

    def __init__(self, let_through: Callable[[], None], counts_flops: bool) -> None:
        self.let_through, self.counts_flops = let_through, counts_flops
        self.steps = self.taken = self.examples = self.tokens = self.positions = 0
        self.loss = torch.zeros((), dtype=torch.float64)
        self.flops = 0.0
        self._counter: Arithmetic | None = None
        self._counting = ExitStack()

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Count the arithmetic of the first step."""
        self.let_through()
        if self.counts_flops and not self.steps:
            self._counter = Arithmetic()
            self._counting.enter_context(uncompiled(pl_module))
            self._counting.enter_context(self._counter)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: list[Batch], batch_idx: int
    ) -> None:
        """Count a step."""
        positions = sum(part.positions for part in batch)
        if self._counter is not None:
            self._counting.close()
            self.flops, self._counter = self._counter.operations / positions, None
        self.steps += 1
        loss = outputs["loss"].detach().double().cpu()
        if loss.isfinite():  # else the step is left out, or ends the run
            self.taken, self.loss = self.taken + 1, self.loss + loss
        self.examples += sum(len(part.examples) for part in batch)
        self.tokens += sum(part.tokens for part in batch)
        self.positions += positions

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Stop counting."""
        self._counting.close()


class LocalTraining:
    """Trains clients in this process, one after another.

    Args:
        shared: the run's own module, whose model each client gets in turn.
        data: the data of all clients.
        spec: the federation.
        hardware: of the run.
        let_through: called before each step; may raise to end the run.
        note: adds an event and its details to the record; None: there is none here, and the `Update` has them.
    """

    def __init__(
        self,
        shared: Tuner,
        data: DataModule,
        spec: FederatedSpec,
        hardware: TrainerSpec,
        let_through: Callable[[], None] = lambda: None,
        note: Callable[..., None] | None = None,
    ) -> None:
        self.shared, self.data, self.spec, self.hardware = shared, data, spec, hardware
        self.let_through, self.note = let_through, note

    def __call__(self, orders: Sequence[Order]) -> None:
        """Train the clients of `orders` in turn, and write the `Update` of each."""
        for order in orders:
            self.train(order)

    def train(self, order: Order) -> None:
        """Train a client, and write its `Update`; the model is left with its weights."""
        start, shared = Start.read(order.start), self.shared
        steps = Steps(self.data, self.data.clients[order.client], self.spec, order.round)
        put(start.weights, shared.trained())
        device = next(iter(shared.trained().values())).device
        effects: dict[str, Any] = {}

        def begin() -> None:
            if order.first and start.generators is not None:
                set_generators(start.generators)
            else:
                seed_of(self.data.seed, order)

        tuner = LocalTuner(shared, steps, order.rounds * len(steps), self.spec.mu, begin)
        tuner.effects = Effects({name: shared.rules.chosen[name] for name in order.pending}, {}, effects.update)
        tally = Tally(self.let_through, order.first)
        trainer = trainer_of(self.hardware, len(steps), [tally], order.result.parent)
        events: list[dict[str, Any]] = []

        def note(event: str, **details: Any) -> None:
            """Note an event of the client's own step as one of the round, which is a step of the run."""
            own = {"client_step": details.pop("step")} if "step" in details else {}
            noted = {"event": event, "step": order.round + 1, "client": order.client, **own, **details}
            events.append(noted) if self.note is None else self.note(noted.pop("event"), **noted)

        with shared.guards.noting(note):
            trainer.fit(tuner, LocalData(self.data, steps))
        shared.to(device)  # Lightning leaves a model on the CPU
        weights = {name: tensor.detach().cpu() for name, tensor in shared.trained().items()}
        counts = (tally.examples, tally.tokens, tally.positions)
        began = digest_of(order.start)
        loss = float(tally.loss) / tally.taken if tally.taken else math.nan
        update = Update(weights, loss, len(steps), *counts, tally.flops, effects, began, events)
        update.write(order.result)


def trainer_of(hardware: TrainerSpec, steps: int, callbacks: list[Callback], folder: Path) -> L.Trainer:
    """Return a Lightning trainer for the steps of a client, which validates, logs and keeps nothing."""
    trainer = L.Trainer(
        default_root_dir=folder,
        accelerator=hardware.accelerator,
        devices=hardware.devices,
        precision=hardware.precision,  # type: ignore[arg-type]  # never auto here
        gradient_clip_val=hardware.clip_norm,
        deterministic=hardware.deterministic,
        max_epochs=1,
        max_steps=steps,
        val_check_interval=steps + 1,
        check_val_every_n_epoch=None,
        limit_val_batches=0,
        log_every_n_steps=steps + 1,
        callbacks=callbacks,
        logger=False,
        **DONE_HERE,
    )
    leave_signals_alone(trainer)
    return trainer


def put(weights: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    """Copy `weights` into `tensors` of the same names.

    Raises:
        ValueError: the names differ.
    """
    if odd := sorted(weights.keys() ^ tensors.keys()):
        raise ValueError(f"{len(odd)} tensors are only among the shared weights or only in the model, first {odd[0]}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(weights[name])


def seed_of(seed: int, order: Order) -> None:
    """Seed every random generator for a client in a round, a function of the run's seed alone."""
    digest = hashlib.sha256(f"{seed} {order.round} {order.number}".encode()).digest()
    number = int.from_bytes(digest[:4], "big")
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def digest_of(path: Path) -> str:
    """Return the digest that was written beside a tree, see `peftlab.storage.trees`."""
    return digest_file(path).read_text(encoding="utf-8").partition(" ")[0]

"""The run's own module where clients train: a step of it is a round of theirs, and the average of what they send."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import SGD
from typing_extensions import override

from peftlab.data.module import DataModule
from peftlab.federated.averaging import Average
from peftlab.federated.local import Order, Start, Update, digest_of, put
from peftlab.federated.private import ClientPrivacy, NoisyMean
from peftlab.federated.spec import FederatedSpec
from peftlab.federated.split import drawn, shares
from peftlab.runs.record import RunRecord
from peftlab.seams.lightning import shorten_steps
from peftlab.storage.checkpoints import damage_of
from peftlab.training.checkpointing import generators, set_generators
from peftlab.training.tuner import Tuner

log = logging.getLogger("peftlab")

SECTION = "federated"
"""The section of the record."""

Result = tuple[dict[str, Tensor], dict[str, Any]]
"""The new shared weights, by name, and what the record says of how they came about."""


class Trains(Protocol):
    """Trains clients, and has each write its `Update`."""

    def __call__(self, orders: Sequence[Order]) -> None:
        """Train the clients of `orders`, in any order."""


@dataclass(frozen=True)
class Federation:
    """The clients of a run, and the ways between them and the coordinator."""

    spec: FederatedSpec
    data: DataModule
    folder: Path
    """Where rounds lie while they are under way."""
    record: RunRecord
    train: Trains


@dataclass(frozen=True)
class Seen:
    """What a client has trained on in a round, in the form of a batch, for who counts it."""

    examples: range
    tokens: int
    positions: int
    padding: tuple[()] = ()


class Coordinator(Tuner):
    """Takes rounds for steps: clients train from the shared weights, and these move to the mean of what they send.

    A client's share in the mean is that of its examples (McMahan et al. 2017, algorithm 1). The mean is of what weights
    do, see `Average`. What a client has learnt lies in a file until the next round: a run that is killed loses, of the
    clients of its round, those that were training.
    """

    flops_a_position = 0.0

    client_privacy: ClientPrivacy | None = None
    """What is promised to each client; None: nothing."""

    def join(self, federation: Federation) -> None:
        """Set the federation that the rounds are of."""
        self.federation = federation
        self._loss = torch.tensor(0.0)

    @property
    @override
    def step_loss(self) -> Tensor:
        """The mean loss of the clients' steps in the last round, each client with its share; NaN if none was taken."""
        return self._loss

    @override
    def on_fit_start(self) -> None:
        """Have rounds taken in the place of steps."""
        self.train()
        shorten_steps(self.trainer, self.take_step)

    @override
    def on_train_start(self) -> None:
        """Leave the beginning of a training to the clients."""

    @override
    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return an optimiser that takes no step, for Lightning to have one."""
        return SGD(list(self._trainable()), lr=self.federation.spec.server_lr)  # type: ignore[return-value]

    @override
    def training_step(self, parts: list[Any], batch_idx: int) -> Tensor:
        """Take a round as Lightning asks for a step, which it does of the first one after a resume."""
        self.take_step(parts)
        return torch.zeros((), device=self.device, requires_grad=True)

    @override
    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the round is over."""

    @override
    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: clients clip."""

    @override
    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Let Lightning count the step; no parameter has a gradient."""
        L.LightningModule.optimizer_step(self, *args, **kwargs)

    @override
    def take_step(self, parts: list[Any]) -> dict[str, Tensor]:
        """Take a round, put what its clients have trained on into `parts`, and return its loss."""
        federation, round_ = self.federation, self.trainer.global_step
        orders = self._orders(round_)
        before = generators()
        began = self._open(self._start(round_), round_, before)
        missing = [order for order in orders if not _is_done(order, began)]
        if found := len(orders) - len(missing):
            log.info("round %d: %d of %d clients had trained before", round_ + 1, found, len(orders))
        federation.train(missing)
        set_generators(before)
        members = [len(federation.data.clients[order.client]) for order in orders]
        add, result = self._mean(round_)
        parts[:], told, sent = [], list[tuple[float, int]](), 0
        for order, own in zip(orders, members, strict=True):
            update = Update.read(order.result)
            add(update.weights, own / sum(members))
            if not math.isnan(update.loss):
                told.append((update.loss, own))
            sent += _bytes(update.weights)
            self.flops_a_position = self.flops_a_position or update.flops
            parts.append(Seen(range(update.examples), update.tokens, update.positions))
            self._note_effects(update.effects)
            for event in update.events:
                log.warning("round %d, client %s: %s", round_ + 1, order.client, event["event"])
                federation.record.event(event.pop("event"), **event)
        weights, facts = result()
        put(weights, self.trained())
        if not orders:  # a round that nobody was drawn for
            parts.append(Seen(range(0), 0, 0))
        loss = sum(each * own / sum(own for _, own in told) for each, own in told) if told else None
        self._loss = torch.tensor(math.nan if loss is None else loss, dtype=torch.float32)
        if loss is not None:
            self.step_log.show({"train/loss": self._loss})
        sizes = {"bytes_up": sent, "bytes_down": _bytes(weights) * len(orders)}
        shown = None if loss is None else round(loss, 6)
        self._note(round_, {"clients": [order.client for order in orders], "loss": shown, **sizes, **facts})
        return {"loss": self._loss}

    @override
    def on_validation_end(self) -> None:
        """Add the score to the round in the record."""
        super().on_validation_end()
        if self.trainer.state.fn == "fit" and (rounds := self._rounds()):
            name = self.task.selection.metric
            rounds[-1]["validation"] = {name: float(self.trainer.callback_metrics[f"validation/{name}"])}

    @override
    def on_train_end(self) -> None:
        """Do nothing: no step is unread."""

    def leave(self) -> None:
        """Remove what the clients of the last round have sent."""
        shutil.rmtree(self.federation.folder, ignore_errors=True)

    def _trainable(self) -> Sequence[torch.nn.Parameter]:
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def _mean(self, round_: int) -> tuple[Callable[[dict[str, Tensor], float], None], Callable[[], Result]]:
        """Return what takes the weights of a client with its share, and what then returns the new shared weights."""
        rate, start = self.federation.spec.server_lr, self._start(round_)
        if self.client_privacy is not None:
            moving = [name for name, parameter in self.model.named_parameters() if parameter.requires_grad]
            noisy = NoisyMean(Start.read(start).weights, moving, self.client_privacy, round_, rate)
            return lambda weights, share: noisy.add(weights), lambda: (noisy.result(), {"clipped": noisy.clipped})
        average = Average(self.method.factors(self.model))
        if rate != 1:
            average.add(Start.read(start).weights, 1 - rate)

        def result() -> Result:
            weights, lost = average.result()
            return weights, {"lost": round(lost, 6)} if average.factors else {}

        return lambda weights, share: average.add(weights, rate * share), result

    def _start(self, round_: int) -> Path:
        """Return the file of what a round begins with."""
        return self.federation.folder / f"round-{round_ + 1}" / "start.safetensors"

    def _orders(self, round_: int) -> list[Order]:
        federation = self.federation
        names, data = list(federation.data.clients), federation.data
        start = self._start(round_)
        return [
            Order(
                client=names[number],
                number=number,
                round=round_,
                rounds=self.planned_steps,
                first=round_ == place == 0,
                pending=tuple(self.effects.pending),
                start=start,
                result=start.with_name(f"client-{number}.safetensors"),
            )
            for place, number in enumerate(drawn(names, federation.spec, round_, data.seed, data.sampling_of_clients))
        ]

    def _open(self, start: Path, round_: int, random: dict[str, Any]) -> str:
        """Write what a round begins with, remove the rounds before it, and return its digest."""
        for folder in self.federation.folder.glob("round-*"):
            if folder != start.parent:
                shutil.rmtree(folder, ignore_errors=True)
        weights = {name: tensor.detach().cpu() for name, tensor in self.trained().items()}
        Start(weights, None if round_ else random).write(start)
        return digest_of(start)

    def _note_effects(self, effects: dict[str, Any]) -> None:
        """Note what the regularisers of the run did in a client's first step."""
        for name in [name for name in effects if name in self.effects.pending]:
            self.effects.keep({name: effects[name]})
            del self.effects.pending[name]

    def _rounds(self) -> list[dict[str, Any]]:
        rounds: list[dict[str, Any]] = self.federation.record.extensions.get(SECTION, {}).get("rounds", [])
        return rounds

    def _note(self, round_: int, entry: dict[str, Any]) -> None:
        """Add a round to the record, in the place of what a resumed run has repeated."""
        entry = {"round": round_ + 1, **entry}
        rounds = [*(each for each in self._rounds() if each["round"] <= round_), entry]
        totals = {f"bytes_{way}": sum(each[f"bytes_{way}"] for each in rounds) for way in ("up", "down")}
        self.federation.record.extend(SECTION, {"rounds": rounds, **totals})
        self.federation.record.write()


def described(data: DataModule, tuner: Tuner) -> dict[str, Any]:
    """Return what the record's section says of a federation before its first round."""
    examples, task = data.splits["train"].examples, data.task
    products = bool(tuner.method.factors(tuner.model))
    private = data.sampling_of_clients is not None
    return {
        "clients": [
            {"name": name, "examples": len(members), "classes": shares(members, examples, task)}
            for name, members in data.clients.items()
        ],
        "aggregation": "noisy mean of clipped changes"
        if private
        else "mean of products, projected to the rank"
        if products
        else "mean of weights",
        "sent": "all trained tensors, up by each client of a round and down to it",
    }


def _is_done(order: Order, began: str) -> bool:
    """Return whether a client has trained from the start with this digest."""
    return order.result.is_file() and damage_of(order.result) is None and Update.read(order.result).began == began


def _bytes(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())

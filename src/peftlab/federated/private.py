"""Differential privacy for clients: what each sends is scaled down to a norm, and their sum gets noise."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from typing_extensions import override

from peftlab.data.poisson import Poisson
from peftlab.federated.spec import FederatedSpec
from peftlab.methods.method import Method
from peftlab.privacy.clipping import gaussian, generator_of
from peftlab.privacy.guarantee import Guarantee
from peftlab.runs.record import RunRecord
from peftlab.training.private import KeepGuarantee


@dataclass(frozen=True)
class ClientPrivacy:
    """What a federation promises each of its clients."""

    guarantee: Guarantee
    secret: bytes
    """What the noise is drawn from."""


class NoisyMean:
    """The shared weights, moved by the noisy mean of what clients have changed (McMahan et al. 2018, algorithm 1).

    The change of each client, over all tensors together, is scaled down to a norm; one that is not finite counts as
    none. Clients count alike, whatever they have of examples, and the sum is divided by the number expected in a round,
    for the number of those that came is private too.

    Args:
        start: the weights that the round begins with, by name.
        moving: the names of those that clients train. The others stay, whatever is sent.
        privacy: the norm, the noise, and the number of clients expected.
        round_: the round, from 0, which the noise is a function of.
        rate: how far the shared weights go.
    """

    def __init__(
        self, start: Mapping[str, Tensor], moving: Collection[str], privacy: ClientPrivacy, round_: int, rate: float
    ) -> None:
        self.start, self.privacy, self.round, self.rate = start, privacy, round_, rate
        self.sums = {name: torch.zeros_like(start[name], dtype=torch.float64) for name in sorted(moving)}
        self.clipped = 0
        """Clients whose change was longer than the norm, or not finite."""

    def add(self, weights: Mapping[str, Tensor]) -> None:
        """Add what a client has made of the weights."""
        changes = {name: weights[name].double() - self.start[name].double() for name in self.sums}
        norm = float(torch.stack([change.square().sum() for change in changes.values()]).sum().sqrt())
        limit = self.privacy.guarantee.max_grad_norm
        self.clipped += not norm <= limit
        if norm < float("inf"):  # not of one that is infinite, or no number
            for name, change in changes.items():
                self.sums[name] += change * min(1.0, limit / max(norm, 1e-30))

    def result(self) -> dict[str, Tensor]:
        """Return the new shared weights, by name."""
        guarantee = self.privacy.guarantee
        random = generator_of(self.privacy.secret, self.round)
        weights = dict(self.start)
        for name, total in self.sums.items():
            noise = gaussian(total, guarantee.noise_multiplier * guarantee.max_grad_norm, random)
            moved = self.start[name].double() + self.rate * (total + noise) / guarantee.expected
            weights[name] = moved.to(self.start[name].dtype)
        return weights


class KeepClientPrivacy(KeepGuarantee):
    """Keeps the privacy section of the record of a federation.

    Args:
        privacy: the promise.
        record: the run's record.
        facts: other entries of the section.
    """

    def __init__(self, privacy: ClientPrivacy, record: RunRecord, facts: Mapping[str, Any]) -> None:
        super().__init__(privacy.guarantee, record, facts)

    @override
    def found(self, trainer: L.Trainer) -> dict[str, Any]:
        rounds = self.record.extensions["federated"]["rounds"]
        seen = sum(len(each["clients"]) for each in rounds)
        return {"clipped": sum(each["clipped"] for each in rounds) / max(1, seen)}


def sampling(clients: Mapping[str, Any], spec: FederatedSpec) -> Poisson:
    """Return the sampling of clients: in each round, each takes part with a probability of its own."""
    assert spec.rounds is not None
    return Poisson(torch.arange(len(clients)).numpy(), spec.fraction, spec.rounds)


def freeze_factors(method: Method, model: nn.Module) -> None:
    """Have a method that trains products BA train B alone (FFA-LoRA, Sun et al. 2024).

    Clients' changes of a weight are then linear in what they send, and have the same A: the mean of the Bs is that of
    the products, and noise on B is noise on the weights, not on both factors of a product.
    """
    parameters = dict(model.named_parameters())
    for pair in method.factors(model):
        parameters[pair.down].requires_grad_(False)

"""InfLoRA: the update of each task is zero on the inputs of earlier ones."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.methods.adapter_files import read_tensors
from peftlab.methods.continued import ContinuedLora, lora_layers, new_part
from peftlab.methods.layer_inputs import sums_of_products
from peftlab.methods.method import BESIDE_THE_FUNCTION, MethodContext
from peftlab.storage.tensors import save

log = logging.getLogger("peftlab")

SUBSPACES = "input_subspaces.safetensors"
"""The file beside an adapter with an orthonormal basis of the inputs of each layer, of its training and of all before,
shape (directions, inputs)."""
_LEAST = 1e-6
"""The share of a layer's inputs, by squared length, below which a direction counts as unused: sums in fp32 are off by
more than a tenth of it, by processor."""


@dataclass(kw_only=True, config=ConfigDict(extra="allow"))
class InfLora(ContinuedLora):
    """Trains B alone: the rows of A are the directions in which the inputs of the new task vary most, outside the
    subspace of the earlier inputs, and frozen (Liang & Li 2024, section 3.2).

    So the update ``B A x`` of an earlier input x is zero, up to the directions that `energy` leaves out. The subspaces
    grow as in gradient projection memory (Saha et al. 2021): those of a run are found after its training, and stand
    beside its adapter. The rows of A have the length that those of LoRA have on average at the start, so that its
    learning rates suit. The head is trained whole, and is not kept out of anything.
    """

    initialisations: ClassVar[tuple[bool | str, ...]] = (True,)  # A is designed, and B begins with zeros
    needed: ClassVar[tuple[str, ...]] = (SUBSPACES,)

    not_averaged: ClassVar[str | None] = (
        "A is made of the inputs of each run, and is not trained: the mean of several B has no A of its own"
    )

    batches: Annotated[int, BESIDE_THE_FUNCTION] = Field(default=32, gt=0)
    """Number of training batches whose inputs are looked at, before the training and after it."""
    energy: Annotated[float, BESIDE_THE_FUNCTION] = Field(default=0.99, gt=0, le=1)
    """The share of the inputs' squared length that the kept directions hold; 1 keeps all."""

    @override
    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        wrapped = super().apply(model, context)
        for _, layer in lora_layers(wrapped):
            new_part(layer.lora_A["default"]).requires_grad_(False)
        return wrapped

    @override
    def trained(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the trained tensors and the new part of each A, which `calibrate` has set."""
        chosen = {id(new_part(layer.lora_A["default"])) for _, layer in lora_layers(model)}
        own = {name: parameter for name, parameter in model.named_parameters() if id(parameter) in chosen}
        return super().trained(model) | own

    @override
    def calibrate(self, model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> None:
        """Set the rows of A, by the inputs of some of `batches`.

        Raises:
            ConfigError: the inputs of no layer leave the subspaces of the earlier ones.
        """
        earlier, found, full = self._earlier(), self._covariances(model, batches), []
        for name, layer in lora_layers(model):
            rows = new_part(layer.lora_A["default"])
            directions, shares = outside(found[name], earlier.get(name))
            usable = directions[shares > _LEAST][: len(rows)]
            if len(usable) < len(rows):
                full.append(name)
            rows.data.zero_()
            rows.data[: len(usable)] = (usable / math.sqrt(3)).to(rows)
        if not any(new_part(layer.lora_A["default"]).any() for _, layer in lora_layers(model)):
            raise ConfigError(
                f"peft={self.name}: the inputs of every layer lie in the subspaces of the earlier ones, so that "
                f"nothing could be learnt. Lower peft.energy={self.energy:g}, in the earlier runs too"
            )
        if full:
            log.warning(
                "peft=%s: fewer than peft.r new directions in %d layers, first %s", self.name, len(full), full[0]
            )

    @override
    def conclude(self, model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> None:
        if not (found := self._covariances(model, batches)):  # of no batch
            return
        earlier = self._earlier()
        vars(model)["input_subspaces"] = {
            name: grown(earlier.get(name), covariance, self.energy) for name, covariance in found.items()
        }

    @override
    def save(self, model: nn.Module, folder: Path, context: MethodContext) -> int:
        size = super().save(model, folder, context)
        if (subspaces := vars(model).get("input_subspaces")) is None:
            return size
        save(subspaces, folder / SUBSPACES)
        return size + (folder / SUBSPACES).stat().st_size

    def _earlier(self) -> dict[str, Tensor]:
        """Return the subspace of the earlier inputs of each layer, by name."""
        return {} if self.previous is None else read_tensors(self.previous.path, SUBSPACES)

    def _covariances(self, model: Any, batches: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return the sum of ``x x^T`` over the inputs x of each layer, without padding, (inputs, inputs) each."""
        return sums_of_products(model, dict(lora_layers(model)), islice(batches, self.batches))[0]


def outside(covariance: Tensor, basis: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return orthonormal directions outside the span of an orthonormal `basis`, by the variance of inputs in them.

    Args:
        covariance: of the inputs, shape (size, size).
        basis: shape (directions, size); None: it is empty.

    Returns:
        the directions, shape (size, size), the largest variance first, and the share of each in the whole; those
        inside the span come last, with the share 0.
    """
    whole = covariance.double()
    projector = torch.eye(len(whole), dtype=whole.dtype, device=whole.device)
    if basis is not None:
        projector = projector - basis.to(whole).T @ basis.to(whole)
    variances, directions = torch.linalg.eigh(projector @ whole @ projector)
    shares = (variances / whole.trace().clamp(min=1e-30)).clamp(min=0).flip(0)
    return directions.T.flip(0), shares


def grown(basis: Tensor | None, covariance: Tensor, energy: float) -> Tensor:
    """Return an orthonormal `basis` with as many directions more as it needs to hold the share `energy` of the inputs.

    Args:
        basis: shape (directions, size); None: it is empty.
        covariance: of the inputs, shape (size, size).
        energy: the share of their squared length, up to 1, which takes every direction that they use.
    """
    directions, shares = outside(covariance, basis)
    used = shares > _LEAST
    missing = energy - (1 - shares.sum())
    before = shares.cumsum(0) - shares
    added = directions[used & ((before < missing) | (energy == 1))].to(covariance.dtype)
    return added if basis is None else torch.cat([basis.to(added), added])

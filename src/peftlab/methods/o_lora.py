"""O-LoRA: the update of each task is kept out of the subspaces that earlier ones read."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.methods.continued import ContinuedLora, lora_layers
from peftlab.methods.method import BESIDE_THE_FUNCTION, MethodContext


@dataclass(kw_only=True, config=ConfigDict(extra="allow"))
class OLora(ContinuedLora):
    """Trains A and B beside frozen earlier updates, with the rows of A orthogonal to theirs (Wang et al. 2023, section
    3.2).

    The penalty of a layer is the share of the new rows of A, on average, that lies in the span of the earlier rows:
    the squared cosine of the angle, 0 to 1. The authors' code sums the products of the rows themselves, which is
    smaller the smaller the new rows are, whatever their direction; here their length does not matter. As in that code,
    it is about A, the down-projection, which reads the layer's input; the paper writes of the other one. Orthogonal
    parameters do not mean that the update of an old input is zero, see `peftlab.methods.inflora`.
    """

    orthogonal: Annotated[float, BESIDE_THE_FUNCTION] = Field(default=0.5, ge=0, allow_inf_nan=False)
    """The weight of the sum of the penalties of all layers, the paper's lambda_1."""

    @override
    def begin(self, model: nn.Module, context: MethodContext) -> list[str]:
        """Load the earlier updates.

        Raises:
            ConfigError: they do not fit, read nothing, or leave no direction to the new one.
        """
        kept = super().begin(model, context)
        if self.previous is not None and self.orthogonal:
            for name, layer in lora_layers(model):
                matrix = layer.lora_A["default"]
                basis = spanned(matrix.past.detach())
                if not len(basis):
                    raise ConfigError(
                        f"peft.previous: the rows of {name}.lora_A are 0, so that all is orthogonal to them"
                    )
                if len(basis) + len(matrix.new) > matrix.new.shape[1]:
                    raise ConfigError(
                        f"peft.r={len(matrix.new)}: the earlier updates read {len(basis)} of the {matrix.new.shape[1]} "
                        f"directions of {name}, which leaves no room for as many others. Lower peft.r"
                    )
                matrix.register_buffer("basis", basis, persistent=False)
        return kept

    @override
    def penalty(self, model: nn.Module) -> Tensor | None:
        if self.previous is None or not self.orthogonal:
            return None
        matrices = [layer.lora_A["default"] for _, layer in lora_layers(model)]
        return self.orthogonal * torch.stack([share_in(matrix.new, matrix.basis) for matrix in matrices]).sum()


def spanned(rows: Tensor) -> Tensor:
    """Return an orthonormal basis of the span of `rows`, shape (rank, size)."""
    _, values, basis = torch.linalg.svd(rows.double(), full_matrices=False)
    return basis[values > 1e-6 * values.max().clamp(min=1e-12)].to(rows.dtype)


def share_in(rows: Tensor, basis: Tensor) -> Tensor:
    """Return the mean share of `rows`, by squared length, that lies in the span of an orthonormal `basis`, a scalar."""
    return (F.normalize(rows, dim=1) @ basis.T).square().sum(1).mean()

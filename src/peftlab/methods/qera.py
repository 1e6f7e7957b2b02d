"""QERA: LoRA that begins with the best low-rank correction of what quantised layers were rounded by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any, ClassVar

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from typing_extensions import override

from peftlab.methods.continued import lora_layers
from peftlab.methods.layer_inputs import LOOKS_FIRST, sums_of_products
from peftlab.methods.library import INSIDE, LibraryMethod
from peftlab.methods.method import BESIDE_THE_FUNCTION, MethodContext
from peftlab.models.quantizing import QuantizedLinear

_LEAST = 1e-3
"""What is added to the mean square of each input, as a share of the mean over the layer: one that is silent on the
batches that are looked at may speak later, and what is hardly there must not be divided by."""
_SILENT = 1e-12
"""The least of that, for a layer that is silent throughout."""
_SPARE, _ITERATIONS = 2, 16
"""Directions looked at for each that is kept, and iterations, of the randomised decomposition (Halko et al. 2011): the
errors of rounding have nearly as much in each direction as in the next, so that it takes many."""


@dataclass(kw_only=True, config=ConfigDict(extra="allow"))
class Qera(LibraryMethod):
    """B A begins as the matrix of rank r that takes most of the rounding error out of a layer's outputs.

    With the weight W of shape (out, in), its rounded form Q, and R = L L^T, the mean of x x^T over the layer's inputs
    x, B A = SVD_r((W - Q) L) L^-1 has the least mean squared error of (Q + B A) x - W x (Zhang et al. 2024, theorem 1,
    where L may be any square root). The inputs are those of the model before it is rounded. The bits of the rounded
    model stay as they are, so that the adapter fits what any program has rounded alike.

    Without ``model.quantize`` there is no error, and this is LoRA.
    """

    initialisations: ClassVar[Sequence[bool | str]] = (True,)
    not_averaged: ClassVar[str | None] = LOOKS_FIRST
    decided: ClassVar[Mapping[str, str]] = {
        "use_dora": "DoRA begins with the length of the rounded weights, and not with that of the corrected ones"
    }

    batches: Annotated[int, BESIDE_THE_FUNCTION] = Field(default=32, gt=0)
    """Number of training batches whose inputs are looked at."""
    correlated: Annotated[bool, BESIDE_THE_FUNCTION] = True
    """Whether R is measured as a whole, which takes inputs^2 numbers of memory a layer until the training begins; else
    only its diagonal, as of uncorrelated inputs (theorem 2)."""

    @override
    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        wrapped = super().apply(model, context)
        vars(wrapped)["unrounded"] = context.unrounded
        return wrapped

    @override
    def calibrate(self, model: Any, batches: Iterable[Mapping[str, Tensor]]) -> None:
        """Set A and B of each layer that is quantised, by its inputs on some of `batches`, in full precision."""
        if (unrounded := vars(model)["unrounded"]) is None:
            return
        with torch.random.fork_rng(devices=()), torch.no_grad(), torch.autocast("cpu", enabled=False):
            torch.manual_seed(0)  # each process, and each try, draws the same directions
            plain: Any = unrounded()
            layers = {
                name.removeprefix(INSIDE): layer
                for name, layer in lora_layers(model)
                if isinstance(layer.get_base_layer(), QuantizedLinear)
            }
            read = {name: plain.get_submodule(name) for name in layers}
            sums, counts = sums_of_products(plain, read, islice(batches, self.batches), self.correlated)
            for name, layer in layers.items():
                rounded = layer.get_base_layer().weight
                error = read[name].weight.to(rounded.device) - rounded
                moments = (sums[name] / counts[name]).to(error)
                down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
                reduced, back = correction(error / layer.scaling["default"], moments, len(down))
                down[: len(reduced)] = reduced
                up[:, : len(reduced)] = back


def correction(error: Tensor, moments: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return A, (rank, in), and B, (out, rank), whose product is the best of its rank in the place of `error`.

    Both get the same share of each direction. The rank is less where the error has fewer directions.

    Args:
        error: of a layer's weight, (out, in).
        moments: the mean of x x^T over the layer's inputs x, (in, in), or its diagonal, (in,).
        rank: the largest.
    """
    least = (_LEAST * (moments if moments.ndim == 1 else moments.diagonal()).mean()).clamp(min=_SILENT)
    if moments.ndim == 1:
        root = (moments + least).sqrt()
        weighted = error * root
    else:
        whole = moments.double() + least.double() * torch.eye(len(moments)).to(moments.device)
        root = torch.linalg.cholesky(whole).to(error)
        weighted = error @ root
    left, lengths, right = torch.svd_lowrank(weighted, q=min(_SPARE * rank, *weighted.shape), niter=_ITERATIONS)
    kept = int((lengths[:rank] > 0).sum())  # what begins with two zeros would never learn
    roots = lengths[:kept].sqrt()
    reduced = roots[:, None] * right.T[:kept]
    down = reduced / root if root.ndim == 1 else torch.linalg.solve_triangular(root, reduced, upper=False, left=False)
    return down, left[:, :kept] * roots

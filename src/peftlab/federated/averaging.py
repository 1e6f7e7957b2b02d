"""The mean of what clients have made of the shared weights: a mean of weights, not of their factors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from peftlab.methods.factors import Factors


class Average:
    """The mean of several sets of trained tensors, each with its share; shares sum to 1.

    Of a tensor that acts on hidden states as a weight, linearly, that is the mean of the tensors (McMahan et al. 2017,
    algorithm 1). The factors B and A of a weight's change BA are no such tensors, for the mean of products is not the
    product of means: the mean of the products is taken, of a higher rank, and projected to the method's, see
    `projected` (FlexLoRA, Bai et al. 2024, section 3.2).

    Of a single set, the mean is that set, bit for bit. Sums are in double precision.

    Args:
        factors: the names of the factors of each product.
    """

    def __init__(self, factors: Sequence[Factors] = ()) -> None:
        self.factors = list(factors)
        self._apart = {name for pair in self.factors for name in pair}
        self._sums: dict[str, Tensor] = {}
        self._like: dict[str, Tensor] = {}
        self._products: list[list[tuple[float, Tensor, Tensor]]] = [[] for _ in self.factors]

    def add(self, tensors: Mapping[str, Tensor], share: float) -> None:
        """Add a set of tensors, by name, with its share in the mean."""
        for name, tensor in tensors.items():
            if name in self._apart:
                continue
            if not tensor.is_floating_point():  # positions, say, which training does not change
                self._sums.setdefault(name, tensor.detach().clone())
                continue
            part = tensor.detach().double() * share
            self._sums[name] = self._sums[name] + part if name in self._sums else part
        for parts, (up, down) in zip(self._products, self.factors, strict=True):
            parts.append((share, tensors[up].detach(), tensors[down].detach()))
        self._like = self._like or {name: tensor.detach() for name, tensor in tensors.items()}

    def result(self) -> tuple[dict[str, Tensor], float]:
        """Return the mean, by name, and what projecting products has lost of them.

        That is the Frobenius norm of the difference over that of the mean products, of all products together.
        """
        means = dict(self._sums)
        lost = total = 0.0
        for parts, (up, down) in zip(self._products, self.factors, strict=True):
            if len(parts) == 1:
                _, means[up], means[down] = parts[0]
                continue
            means[up], means[down], norms = projected(parts)
            rank = means[down].shape[0]
            lost, total = lost + float(norms[rank:].square().sum()), total + float(norms.square().sum())
        ordered = {name: means[name].to(like.dtype).view_as(like) for name, like in self._like.items()}
        return ordered, math.sqrt(lost / total) if total else 0.0


def projected(parts: Sequence[tuple[float, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the factors of rank r nearest to the sum of products of rank r, and the singular values of that sum.

    Nearest in the Frobenius norm are the first r singular triples U S V^T (Eckart and Young 1936). Any invertible G
    divides them into factors U S G^-1 and G V^T alike; but an optimiser's steps depend on it. Here G V^T is an
    orthogonal matrix times the norm of the clients' mean A, turned to it as near as it can be (the orthogonal
    Procrustes problem, Schoenemann 1966): A stays as large as it was, and B keeps what was learnt, as in the LoRA that
    the clients have trained. An equal division, U S^1/2 and S^1/2 V^T, would shrink A with each round's first steps.

    Args:
        parts: the share of each product, its B, shape (outputs, r), and its A, shape (r, inputs).

    Returns:
        B, A and the singular values, in double precision.
    """
    rank = parts[0][2].shape[0]
    ups = torch.cat([share * up.double() for share, up, _ in parts], 1)
    downs = torch.cat([down.double() for _, _, down in parts])
    left, upper = torch.linalg.qr(ups)
    right, lower = torch.linalg.qr(downs.T)
    u, norms, v = torch.linalg.svd(upper @ lower.T)
    taken = min(rank, len(norms))
    u, s, v = left @ u[:, :taken], norms[:taken], v[:taken] @ right.T
    mean = sum(share * down.double() for share, _, down in parts)
    assert isinstance(mean, Tensor)
    size = float(mean.norm()) / math.sqrt(rank) or 1.0
    first, _, second = torch.linalg.svd(mean @ v.T, full_matrices=False)
    turn = first @ second
    return u * s @ turn.T / size, size * turn @ v, norms

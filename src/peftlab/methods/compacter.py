"""Compacter: bottleneck adapters whose matrices are sums of Kronecker products."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.methods.adapters import Adapters, Bottleneck, TwoAdapters
from peftlab.methods.insertion import Block
from peftlab.methods.method import LARGEST, spec


class PHMLinear(nn.Module):
    """x W^T + b with W = sum_i A_i (x) s_i t_i^T, of rank 1 (Mahabadi et al. 2021, equations 5 and 6).

    All layers of the model share the A_i; s_i and t_i are this layer's own.
    """

    def __init__(self, inputs: int, outputs: int, rules: nn.Parameter, zero: bool) -> None:
        super().__init__()
        n = len(rules)
        self.rules = rules
        """The A_i, shape (n, n, n)."""
        self.left, self.right = (nn.Parameter(torch.empty(n, size // n)) for size in (outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        # gives the weight the variance of Glorot's initialisation: the rules have variance 1 / n
        nn.init.normal_(self.right, std=(2 / (inputs + outputs)) ** 0.25)
        nn.init.zeros_(self.left) if zero else nn.init.normal_(self.left, std=(2 / (inputs + outputs)) ** 0.25)

    @property
    def weight(self) -> Tensor:
        """Return W, shape (outputs, inputs)."""
        product = torch.einsum("iab,ip,iq->apbq", self.rules, self.left, self.right)
        return product.reshape(product.shape[0] * product.shape[1], -1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output of shape (..., outputs) for `x` of shape (..., inputs)."""
        return F.linear(x, self.weight, self.bias)


class PHMBottleneck(Bottleneck):
    """A bottleneck adapter of two such layers; its output is zero at first."""

    def __init__(self, hidden: int, adapters: Adapters, rules: nn.Parameter) -> None:
        super().__init__(hidden, adapters.bottleneck, adapters.activation)
        self.down = PHMLinear(hidden, adapters.bottleneck, rules, zero=False)  # type: ignore[assignment]
        self.up = PHMLinear(adapters.bottleneck, hidden, rules, zero=True)  # type: ignore[assignment]


@spec
class Compacter(TwoAdapters):
    """Adapters in the places of Houlsby et al., with trained normalisations (section 4, figure 2)."""

    n: int = Field(gt=0, le=LARGEST)
    """Number of Kronecker products per sum, and size of their first factors; must divide bottleneck and hidden size."""
    not_averaged: ClassVar[str | None] = "its weights are sums of Kronecker products, and their mean is none"

    @override
    def maker(self, blocks: list[Block]) -> Callable[[Block], nn.Module]:
        """Return a function that makes an adapter; all adapters share their rules.

        Raises:
            ConfigError: `n` does not divide the sizes.
        """
        sizes = {"peft.bottleneck": self.bottleneck, "the model's hidden size": blocks[0].hidden}
        for name, size in sizes.items():
            if size % self.n:
                raise ConfigError(f"peft.n={self.n} must divide {name}, {size}")
        rules = nn.Parameter(torch.randn(self.n, self.n, self.n) / self.n**0.5)
        return lambda block: PHMBottleneck(block.hidden, self, rules)

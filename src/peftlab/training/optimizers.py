"""Build the optimiser: which learning rate and which weight decay each parameter gets."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import nn
from torch.optim import Optimizer

from peftlab.errors import ConfigError
from peftlab.methods.head import is_of_head
from peftlab.seams.pytorch import unscale_before_step
from peftlab.training.footprint import gib_of, of_optimizer


@dataclass(kw_only=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))
class OptimizerSpec:
    """The optimiser and the options that every optimiser has."""

    lr: float = Field(gt=0)
    """The highest learning rate, reached after the warm-up."""
    head_lr: float | None = Field(default=None, gt=0)
    """The highest learning rate of the head's parameters; None: `lr`."""
    weight_decay: float = Field(default=0.0, ge=0)
    """The weight decay of all parameters but biases, norms and other vectors."""
    algorithm: Callable[..., Optimizer]
    """The optimiser class with its own options: a partial that takes parameters, lr and weight_decay."""

    def __post_init__(self) -> None:
        """Build it once on a single parameter, so that a value that the optimiser refuses is reported early.

        Raises:
            ConfigError: the optimiser refuses an option, or would not see it.
        """
        own = getattr(self.algorithm, "keywords", {})
        for name in ("lr", "weight_decay"):
            if name in own:
                raise ConfigError(
                    f"optimizer.algorithm.{name}={own[name]}: optimizer.{name}={getattr(self, name):g} takes its "
                    f"place. Set optimizer.{name} alone"
                )
        try:
            self._make([{"params": [nn.Parameter(torch.zeros(2, 2))]}])
        except (TypeError, ValueError) as error:
            raise ConfigError(f"optimizer.algorithm: {error}") from error

    def attach(
        self, model: nn.Module, head: Collection[str], factor: Callable[[str], float] = lambda name: 1.0
    ) -> Optimizer:
        """Return the optimiser of `model`'s trainable parameters.

        Args:
            model: its parameters with ``requires_grad`` are optimised.
            head: names of the modules that make up the head.
            factor: returns the factor on the learning rate of a parameter, from its name.
        """
        optimizer = self._make(self.param_groups(model, head, factor))
        unscale_before_step(optimizer)
        return optimizer

    def param_groups(
        self, model: nn.Module, head: Collection[str], factor: Callable[[str], float] = lambda name: 1.0
    ) -> list[dict[str, Any]]:
        """Group the trainable parameters by learning rate (head or not, `factor`) and weight decay.

        Vectors (biases, norms, scales) are not decayed, as in the reference recipe of BERT: decay is meant for the
        matrices whose scale the data does not fix.
        """
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                lr = self.head_lr if self.head_lr is not None and is_of_head(name, head) else self.lr
                decay = self.weight_decay if parameter.ndim > 1 else 0.0
                groups.setdefault((lr * factor(name), decay), []).append(parameter)
        return [{"params": group, "lr": lr, "weight_decay": decay} for (lr, decay), group in groups.items()]

    def state_share(self, device: torch.device) -> float:
        """Return the bytes of state for each byte of weights, 2 for Adam's moments: of a small matrix on `device`."""
        weight = nn.Parameter(torch.zeros(256, 256, device=device))
        weight.grad = torch.zeros_like(weight)
        optimizer = self._make([{"params": [weight]}])
        optimizer.step(lambda: 0.0)
        return of_optimizer(optimizer) / gib_of([weight])

    def _make(self, groups: list[dict[str, Any]]) -> Optimizer:
        return self.algorithm(groups, lr=self.lr, weight_decay=self.weight_decay)

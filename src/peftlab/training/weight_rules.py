"""The rules that change the weights of a run after each step, and their state in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from peftlab.regularizers.regularizer import WeightRule


class WeightRules:
    """Applies named rules to the parameters that an optimiser trains in a model."""

    def __init__(self, rules: Mapping[str, WeightRule], model: nn.Module) -> None:
        self.rules, self.model = rules, model

    def begin(self, optimizer: Optimizer) -> None:
        """Show the rules the weights that a training begins with."""
        weights, _ = self._trained(optimizer)
        for rule in self.rules.values():
            rule.begin(weights)

    def after_step(self, optimizer: Optimizer) -> None:
        """Apply the rules after an optimiser step."""
        if not self.rules:
            return
        weights, rates = self._trained(optimizer)
        for rule in self.rules.values():
            rule.after_step(weights, rates)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: nothing where there are no rules."""
        return {"weight_rules": {name: rule.state() for name, rule in self.rules.items()}} if self.rules else {}

    def load_state(self, checkpoint: Mapping[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        state: Mapping[str, Mapping[str, Tensor]] = checkpoint.get("weight_rules", {})
        for name, of_rule in state.items():
            self.rules[name].load_state(of_rule)

    def _trained(self, optimizer: Optimizer) -> tuple[dict[str, nn.Parameter], dict[str, float]]:
        """Return the parameters of the optimiser, by name, and the learning rate of each."""
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        weights = {name: p for name, p in self.model.named_parameters() if id(p) in rates}
        return weights, {name: rates[id(p)] for name, p in weights.items()}

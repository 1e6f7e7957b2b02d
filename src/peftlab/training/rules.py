"""The regularisers of a run that act on passes, learning rates and weights, and their state in a checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from peftlab.regularizers.regularizer import PassRule, RateRule, Regularizer, StepRule, WeightAverage, WeightRule
from peftlab.tasks.batch import Batch


class Rules:
    """Applies named rules to a model in training.

    Args:
        chosen: the regularisers of the run; of terms, only their state is handled here.
        model: the model to train.
        trained: returns the tensors that a checkpoint holds.
    """

    def __init__(
        self, chosen: Mapping[str, Regularizer], model: nn.Module, trained: Callable[[], dict[str, Tensor]]
    ) -> None:
        self.chosen, self.model, self.trained = chosen, model, trained
        self.of_passes = {name: each for name, each in chosen.items() if isinstance(each, PassRule)}
        self.of_rates = {name: each for name, each in chosen.items() if isinstance(each, RateRule)}
        self.of_weights = {name: each for name, each in chosen.items() if isinstance(each, WeightRule)}
        self.averages = {name: each for name, each in chosen.items() if isinstance(each, WeightAverage)}
        self.of_step = next((each for each in chosen.values() if isinstance(each, StepRule)), None)
        self.seed = torch.initial_seed()
        self._kept: dict[str, Tensor] | None = None
        """The weights that training continues with, while an average is in their place."""

    @property
    def act_on_steps(self) -> bool:
        """Whether a rule acts on the weights or their gradients in a step."""
        return bool(self.of_weights or self.averages)

    @contextmanager
    def passing(self, batch: Batch) -> Iterator[None]:
        """Change forward passes over `batch` in this context."""
        with ExitStack() as stack:
            for rule in self.of_passes.values():
                stack.enter_context(rule.applied(self.model, batch))
            yield

    def factor(self, head: Collection[str], own: Callable[[str], float]) -> Callable[[str], float]:
        """Return the function from a parameter's name to the factor on its learning rate, `own` included."""
        if not self.of_rates:
            return own
        factors = [rule.factors(self.model, head) for rule in self.of_rates.values()]

        def product(name: str) -> float:
            factor = own(name)
            for of_rule in factors:
                factor *= of_rule.get(name, 1.0)
            return factor

        return product

    def begin(self, optimizer: Optimizer) -> None:
        """Show the rules the weights that a training begins with."""
        weights, _ = self._optimized(optimizer)
        for of_weights in self.of_weights.values():
            of_weights.begin(weights)
        for of_passes in self.of_passes.values():
            of_passes.begin(self.model, weights)
        for average in self.averages.values():
            average.begin(self.trained())

    def before_step(self, optimizer: Optimizer, step: int) -> None:
        """Let the rules change the gradients of optimiser step `step`."""
        if not self.of_weights:
            return
        weights, _ = self._optimized(optimizer)
        for name, rule in self.of_weights.items():
            rule.before_step(weights, step, self._generator(name, step))

    def after_step(self, optimizer: Optimizer, step: int, steps: int) -> None:
        """Apply the rules after optimiser step `step` of `steps`."""
        if self.of_weights:
            weights, rates = self._optimized(optimizer)
            for rule in self.of_weights.values():
                rule.after_step(weights, rates)
        for average in self.averages.values():
            average.after_step(self.trained(), step, steps)

    def use_average(self) -> bool:
        """Put the average, if a rule keeps one, in the place of the weights; return whether one does."""
        for average in self.averages.values():
            averaged, weights = average.averaged(), self.trained()
            self._kept = {name: weight.detach().clone() for name, weight in weights.items()}
            with torch.no_grad():
                for name, value in averaged.items():
                    weights[name].copy_(value)
        return bool(self.averages)

    def restore(self) -> None:
        """Put the weights back in their place."""
        if self._kept is not None:
            with torch.no_grad():
                for name, weight in self.trained().items():
                    weight.copy_(self._kept[name])
            self._kept = None

    def end(self) -> None:
        """Keep averages no longer: training is over."""
        self.restore()
        self.averages = {}

    @property
    def in_training(self) -> dict[str, Tensor]:
        """The tensors that a checkpoint holds, as training continues with them."""
        return self.trained() if self._kept is None else self._kept

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: nothing where no regulariser has a state."""
        states = {name: state for name, each in self.chosen.items() if (state := each.state())}
        return {"weight_rules": states} if states else {}

    def load_state(self, checkpoint: Mapping[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        states: Mapping[str, Mapping[str, Tensor]] = checkpoint.get("weight_rules", {})
        for name, state in states.items():
            self.chosen[name].load_state(state)

    def _optimized(self, optimizer: Optimizer) -> tuple[dict[str, nn.Parameter], dict[str, float]]:
        """Return the parameters of the optimiser, by name, and the learning rate of each."""
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        weights = {name: p for name, p in self.model.named_parameters() if id(p) in rates}
        return weights, {name: rates[id(p)] for name, p in weights.items()}

    def _generator(self, rule: str, step: int) -> torch.Generator:
        digest = hashlib.sha256(f"{self.seed} {rule} {step}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)

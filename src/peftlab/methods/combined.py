"""Two methods at once on one model."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from peftlab.errors import ConfigError
from peftlab.methods.library import LibraryMethod
from peftlab.methods.method import Method, MethodContext, is_of_head, spec

_COUNTS = 1e-6
"""Beside the largest gradient of all, another one is none if it is smaller by this factor."""


@spec
class Combined(Method):
    """What either method trains is trained, the head once; both see the same learning rate.

    The second is applied to the model as the first has left it, and does not adapt what the first has put in. A method
    of the peft library wraps the whole model: there is at most one of those, and it is the second.
    """

    first: Method
    """One of peftlab's own."""
    second: Method
    """Any other one."""

    def __post_init__(self) -> None:
        """Check that the two go together."""
        if any(isinstance(method, Combined) for method in self.methods):
            raise ConfigError("peft=combined: takes two methods, neither of them combined itself")
        if isinstance(self.first, LibraryMethod):
            mend = f"let it be the second: peft@peft.first={self.second.name} peft@peft.second={self.first.name}"
            if isinstance(self.second, LibraryMethod):
                mend = "one of the two must be peftlab's own, such as bitfit, houlsby or prefix_tuning"
            raise ConfigError(
                f"peft.first = '{self.first.name}' is a method of the peft library, which wraps the whole model; {mend}"
            )
        if self.first.name == self.second.name:
            raise ConfigError(f"peft=combined: both methods are '{self.first.name}'; choose two")

    @property
    def methods(self) -> tuple[Method, Method]:
        """Both, in the order in which they are applied."""
        return self.first, self.second

    @property
    def both(self) -> tuple[tuple[str, Method], tuple[str, Method]]:
        """The same, under their keys."""
        return ("first", self.first), ("second", self.second)

    @property
    def mergeable(self) -> bool:  # type: ignore[override]
        """See `Method.mergeable`: where both are."""
        return all(method.mergeable for method in self.methods)

    @property
    def virtual_tokens(self) -> int:
        """See `Method.virtual_tokens`."""
        return sum(method.virtual_tokens for method in self.methods)

    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        """See `Method.apply`.

        Raises:
            ConfigError: the model cannot have one of the two, or what the first trains has no effect under the second.
        """
        before = {name for name, _ in model.named_modules()}
        model = self.first.apply(model, context)
        added = tuple(name for name, _ in model.named_modules() if name not in before)
        first = {
            name: parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and not is_of_head(name, context.head)
        }
        had = self._gradients(model)
        model = self.second.apply(model, dataclasses.replace(context, added=added))
        for parameter in first.values():  # which the second has frozen
            parameter.requires_grad_(True)
        has = self._gradients(model)
        counts = _COUNTS * max(had.values(), default=0.0)  # what is less may be rounding, as for the biases of keys
        if lost := [name for name, p in first.items() if had.get(id(p), 0.0) > counts and not has.get(id(p))]:
            raise ConfigError(
                f"peft=combined: {self.second.name} computes past what {self.first.name} trains, {len(lost)} tensors, "
                f"first {lost[0]}; combine methods that do not adapt the same places, or set their targets so"
            )
        return model

    def _gradients(self, model: Any) -> dict[int, float]:
        """Return how large, at most, the gradient of the trainable parameters is that there are, by their ids.

        Raises:
            ConfigError: there is none, for the methods get into each other's way.
        """
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        device, training = parameters[0].device, model.training
        if device.type == "meta" or torch.is_inference_mode_enabled():  # no values, or no gradients
            return {}
        model.eval()
        try:
            with torch.random.fork_rng(devices=()), torch.enable_grad():
                torch.manual_seed(0)
                ids = torch.randint(model.config.vocab_size, (2, 8)).to(device)
                output = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
                some = (output * torch.randn(output.shape).to(output)).sum()
                gradients = torch.autograd.grad(some, parameters, allow_unused=True)
        except RuntimeError as error:
            raise ConfigError(
                f"peft=combined: {self.first.name} and {self.second.name} do not go together: {error}"
            ) from error
        finally:
            model.train(training)
        found = zip(parameters, gradients, strict=True)
        return {id(one): float(gradient.abs().max()) for one, gradient in found if gradient is not None}

    def learning_rate_factor(self, name: str) -> float:
        """See `Method.learning_rate_factor`."""
        return self.first.learning_rate_factor(name) * self.second.learning_rate_factor(name)

    def calibrate(self, model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> None:
        """See `Method.calibrate`."""
        for method in self.methods:
            method.calibrate(model, batches)

    def penalty(self, model: nn.Module) -> Tensor | None:
        """See `Method.penalty`; the sum."""
        found = [penalty for method in self.methods if (penalty := method.penalty(model)) is not None]
        return sum(found[1:], found[0]) if found else None

    def after_step(self, model: nn.Module, step: int, context: MethodContext) -> None:
        """See `Method.after_step`."""
        for method in self.methods:
            method.after_step(model, step, context)

    def trained(self, model: nn.Module) -> dict[str, Tensor]:
        """See `Method.trained`."""
        return self.first.trained(model) | self.second.trained(model)

    def saved(self, model: nn.Module) -> dict[str, Tensor]:
        """See `Method.saved`; what is the library's under the names that the library gives it."""
        trained = super().trained(model)
        if not isinstance(self.second, LibraryMethod):
            return trained
        library = self.second.saved(model)
        return library | {name: p for name, p in trained.items() if _in_the_library(name) not in library}

    def count(self, model: nn.Module) -> dict[str, int]:
        """See `Method.count`."""
        return self.second.count(model)

    def description(self, context: MethodContext) -> dict[str, Any]:
        """See `Method.description`; the two methods are named, too."""
        return super().description(context) | {"methods": [method.name for method in self.methods]}

    @property
    def settings(self) -> dict[str, Any]:
        """See `Method.settings`; those of both."""
        return {f"{which}.{key}": value for which, method in self.both for key, value in method.settings.items()}

    def differing(self, options: Mapping[str, Any], path: str = "peft.") -> list[str]:
        """See `Method.differing`; of both."""
        return [
            override
            for which, method in self.both
            for override in method.differing(_below(options, f"{which}."), f"{path}{which}.")
        ]

    def merge(self, model: nn.Module) -> PreTrainedModel:
        """See `Method.merge`."""
        if not self.mergeable:
            super().merge(model)
        return self.first.merge(self.second.merge(model))


def _below(options: Mapping[str, Any], path: str) -> dict[str, Any]:
    return {key.removeprefix(path): value for key, value in options.items() if key.startswith(path)}


def _in_the_library(name: str) -> str:
    """Return under which name the library saves what is called `name` in a model that it has wrapped."""
    return re.sub(r"\.(modules_to_save\.)?default\b", "", name)

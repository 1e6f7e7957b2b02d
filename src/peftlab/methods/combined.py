"""Combines two methods on one model."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.methods.factors import Factors
from peftlab.methods.head import is_of_head
from peftlab.methods.library import LibraryMethod
from peftlab.methods.method import Method, MethodContext, spec
from peftlab.methods.random_inputs import random_inputs
from peftlab.tasks.networks.heads import logits_of

_COUNTS = 1e-6
"""Gradients smaller than this share of the largest one count as zero."""


@spec
class Combined(Method):
    """Trains the parameters of both methods, with the head once and one learning rate.

    The second is applied to the model that the first returns, and does not adapt the first one's modules. A method of
    the peft library wraps the whole model, so only the second can be one.
    """

    first: Method
    """One of peftlab's own methods."""
    second: Method
    """Any other method."""

    def __post_init__(self) -> None:
        """Check that the two methods can be combined."""
        if any(isinstance(method, Combined) for method in self.methods):
            raise ConfigError("peft=combined: takes two methods, neither of them combined itself")
        for method in self.methods:
            if type(method).begin is not Method.begin or type(method).conclude is not Method.conclude:
                raise ConfigError(
                    f"peft=combined: '{method.name}' goes on from an earlier run, and keeps what later ones go on "
                    f"from, only by itself; use peft={method.name}, or combine another method"
                )
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
        """Both methods, in the order in which they are applied."""
        return self.first, self.second

    @property
    def both(self) -> tuple[tuple[str, Method], tuple[str, Method]]:
        """Both methods with their keys."""
        return ("first", self.first), ("second", self.second)

    @property
    def mergeable(self) -> bool:  # type: ignore[override]
        """Whether both methods are mergeable."""
        return all(method.mergeable for method in self.methods)

    @property
    def host_work(self) -> str | None:  # type: ignore[override]
        """What the host does for one of the methods."""
        return next((method.host_work for method in self.methods if method.host_work is not None), None)

    @property
    def rewrites(self) -> str | None:  # type: ignore[override]
        """What one of the methods does to the backbone's weights."""
        return next((method.rewrites for method in self.methods if method.rewrites is not None), None)

    @property
    def needs_own_rows(self) -> str | None:  # type: ignore[override]
        """Why one of the methods needs rows of one text."""
        return next((method.needs_own_rows for method in self.methods if method.needs_own_rows is not None), None)

    @property
    def not_averaged(self) -> str | None:  # type: ignore[override]
        """Why the weights of one of the methods cannot be averaged."""
        reasons = (f"{m.name}: {m.not_averaged}" for m in self.methods if m.not_averaged is not None)
        return next(reasons, None)

    @property
    @override
    def virtual_tokens(self) -> int:
        return sum(method.virtual_tokens for method in self.methods)

    @override
    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        """Apply both methods.

        Raises:
            ConfigError: one cannot be applied, or the second leaves the first one's parameters without effect.
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
        for parameter in first.values():  # the second has frozen them
            parameter.requires_grad_(True)
        has = self._gradients(model)
        counts = _COUNTS * max(had.values(), default=0.0)  # smaller ones may be rounding, as for key biases
        if lost := [name for name, p in first.items() if had.get(id(p), 0.0) > counts and not has.get(id(p))]:
            raise ConfigError(
                f"peft=combined: {self.second.name} bypasses {len(lost)} tensors that {self.first.name} trains, first "
                f"{lost[0]}; combine methods that do not adapt the same places, or set their targets so"
            )
        return model

    def _gradients(self, model: Any) -> dict[int, float]:
        """Return the largest absolute gradient of each trainable parameter that has one, by id.

        Raises:
            ConfigError: the gradients cannot be computed, because the methods conflict.
        """
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        device, training = parameters[0].device, model.training
        if device.type == "meta" or torch.is_inference_mode_enabled():  # no values, or no gradients
            return {}
        model.eval()
        try:
            with torch.random.fork_rng(devices=()), torch.enable_grad():
                torch.manual_seed(0)
                inputs = {name: tensor.to(device) for name, tensor in random_inputs(model).items()}
                outputs = logits_of(model(**inputs)).values()
                some: Any = sum((output * torch.randn(output.shape).to(output)).sum() for output in outputs)
                gradients = torch.autograd.grad(some, parameters, allow_unused=True)
        except RuntimeError as error:
            raise ConfigError(
                f"peft=combined: {self.first.name} and {self.second.name} do not go together: {error}"
            ) from error
        finally:
            model.train(training)
        pairs = zip(parameters, gradients, strict=True)
        return {id(one): float(gradient.abs().max()) for one, gradient in pairs if gradient is not None}

    @override
    def learning_rate_factor(self, name: str) -> float:
        return self.first.learning_rate_factor(name) * self.second.learning_rate_factor(name)

    @override
    def calibrate(self, model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> None:
        for method in self.methods:
            method.calibrate(model, batches)

    @override
    def factors(self, model: nn.Module) -> list[Factors]:
        return [pair for method in self.methods for pair in method.factors(model)]

    @override
    def penalty(self, model: nn.Module) -> Tensor | None:
        penalties = [penalty for method in self.methods if (penalty := method.penalty(model)) is not None]
        return sum(penalties[1:], penalties[0]) if penalties else None

    @override
    def after_step(self, model: nn.Module, step: int, context: MethodContext) -> None:
        for method in self.methods:
            method.after_step(model, step, context)

    @override
    def after_average(self, model: nn.Module) -> None:
        for method in self.methods:
            method.after_average(model)

    @override
    def trained(self, model: nn.Module) -> dict[str, Tensor]:
        return self.first.trained(model) | self.second.trained(model)

    @override
    def saved(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the tensors of both methods, those of the peft library under its own names."""
        trained = super().trained(model)
        if not isinstance(self.second, LibraryMethod):
            return trained
        library = self.second.saved(model)
        return library | {name: p for name, p in trained.items() if _in_the_library(name) not in library}

    @override
    def count(self, model: nn.Module) -> dict[str, int]:
        return self.second.count(model)

    @override
    def description(self, context: MethodContext) -> dict[str, Any]:
        return super().description(context) | {"methods": [method.name for method in self.methods]}

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return {f"{which}.{key}": value for which, method in self.both for key, value in method.settings.items()}

    @override
    def differing(self, options: Mapping[str, Any], path: str = "peft.") -> list[str]:
        return [
            override
            for which, method in self.both
            for override in method.differing(_below(options, f"{which}."), f"{path}{which}.")
        ]

    @override
    def merge(self, model: nn.Module) -> PreTrainedModel:
        if not self.mergeable:
            super().merge(model)
        return self.first.merge(self.second.merge(model))


def _below(options: Mapping[str, Any], path: str) -> dict[str, Any]:
    return {key.removeprefix(path): value for key, value in options.items() if key.startswith(path)}


def _in_the_library(name: str) -> str:
    """Return the name under which the library saves the tensor `name` of a model that it has wrapped."""
    return re.sub(r"\.(modules_to_save\.)?default\b", "", name)

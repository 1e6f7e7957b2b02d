"""Several fine-tuned models on one backbone as one model, whose outputs are mixed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import PreTrainedModel
from typing_extensions import override

from peftlab.errors import ConfigError, UserError
from peftlab.methods.method import Method, MethodContext, as_json, spec
from peftlab.models.positions import reserve
from peftlab.tasks.outputs.mixing import How, Members, Mixture

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@spec
class Ensemble(Method):
    """Answers by the mixture of several models (Hansen & Salamon 1990; Lakshminarayanan et al. 2017).

    Each member has the method that its run was trained with. All share the memory of the backbone's frozen weights,
    except those that a method rewrites. Such a model is computed from finished runs and not trained.
    """

    members: Annotated[list[Method], Field(min_length=1)]
    """The method of each member."""
    how: How = "average"
    """Whether probabilities are averaged, or the most probable classes counted; the mean decides between classes with
    as many votes."""
    weights: list[Weight] | None = None
    """The weight of each member; they are divided by their sum. None: all are equal."""
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Divides the logits of the average; it changes no answer but its probability."""

    def __post_init__(self) -> None:
        """Check that there is a weight for each member.

        Raises:
            ConfigError: their numbers differ, or all weights are 0; or votes are to be cooled.
        """
        if self.weights is not None and len(self.weights) != len(self.members):
            raise ConfigError(f"peft.weights: {len(self.weights)} weights for {len(self.members)} members")
        if self.weights is not None and not sum(self.weights):
            raise ConfigError("peft.weights: all are 0, and no member would count")
        if self.how == "vote" and self.temperature != 1:
            raise ConfigError("peft.temperature: shares of votes have none. Set 1, or peft.how=average")

    @property
    def mixture(self) -> Mixture:
        """How the outputs of the members are mixed."""
        weights = self.weights or [1.0] * len(self.members)
        return Mixture([weight / sum(weights) for weight in weights], self.how, self.temperature)

    @property
    def rewrites(self) -> str | None:  # type: ignore[override]
        """What one of the members does to the backbone's weights."""
        return next((method.rewrites for method in self.members if method.rewrites is not None), None)

    @property
    def needs_own_rows(self) -> str | None:  # type: ignore[override]
        """Why one of the members needs rows of one text."""
        return next((method.needs_own_rows for method in self.members if method.needs_own_rows is not None), None)

    @property
    @override
    def virtual_tokens(self) -> int:
        return max(method.virtual_tokens for method in self.members)

    @override
    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        """Return the members, each a copy of `model` with its method; frozen weights are those of `model`."""
        assert context.mixed is not None, "the backbone of a task has it"
        model.requires_grad_(False)
        return Members([self._member(method, model, context) for method in self.members], self.mixture, context.mixed)

    def _member(self, method: Method, model: nn.Module, context: MethodContext) -> nn.Module:
        copies: dict[int, Any] = {}
        own = copy.deepcopy(model, copies)
        originals = {id(copies[id(parameter)]): parameter for parameter in model.parameters()}
        member = method.apply(own, context)
        reserve(member, method.virtual_tokens)
        for module in list(member.modules()):
            for name, parameter in list(module.named_parameters(recurse=False)):
                original = originals.get(id(parameter))
                if original is not None and not parameter.requires_grad and torch.equal(parameter, original):
                    setattr(module, name, original)
        return member

    @override
    def calibrate(self, model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> None:
        """Refuse to begin a training.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"peft={self.name}: an ensemble is not trained as a whole. Train its members, and combine their runs with "
            "`peftlab ensemble RUN...`"
        )

    @override
    def adopt(self, model: nn.Module, folder: Path, context: MethodContext) -> list[str]:
        """Refuse to begin a training, see `calibrate`."""
        self.calibrate(model, ())
        return []

    @override
    def saved(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the tensors of all members, whose names begin with ``members.N.``."""
        return {
            f"members.{number}.{name}": tensor
            for number, (method, member) in enumerate(self._each(model))
            for name, tensor in method.written(member).items()
        }

    @override
    def trained(self, model: nn.Module) -> dict[str, Tensor]:
        return self.saved(model)

    @override
    def count(self, model: nn.Module) -> dict[str, int]:
        """Return the numbers of parameters: the trainable ones of all members, and all, the shared ones once."""
        counts = [(method.count(member), Method.count(method, member)) for method, member in self._each(model)]
        spare = sum(whole["total_parameters"] - own["total_parameters"] for own, whole in counts)
        total = super().count(model)["total_parameters"] - spare
        return {
            "trainable_parameters": sum(own["trainable_parameters"] for own, _ in counts),
            "total_parameters": total,
        }

    @property
    @override
    def settings(self) -> dict[str, Any]:
        members = [{"method": one.name, "options": one.settings} for one in self.members]
        weights = list(self.mixture.weights)
        return {"how": self.how, "weights": weights, "temperature": self.temperature, "members": members}

    @override
    def differing(self, options: Mapping[str, Any], path: str = "peft.") -> list[str]:
        own = as_json(self.settings)
        return [f"{path}{key}={json.dumps(value)}" for key, value in options.items() if own.get(key) != value]

    @override
    def merge(self, model: nn.Module) -> PreTrainedModel:
        raise UserError(
            f"peft={self.name}: {len(self.members)} models whose answers are averaged are no plain model; merge their "
            "weights instead, `peftlab ensemble RUN... --how soup`, or use the run as it is"
        )

    def _each(self, model: nn.Module) -> Sequence[tuple[Method, nn.Module]]:
        assert isinstance(model, Members)
        return list(zip(self.members, model.members, strict=True))

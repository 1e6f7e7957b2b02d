"""Methods that add nothing and choose which of the model's own weights are trained."""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import nn
from transformers import PreTrainedModel

from peftlab.errors import ConfigError
from peftlab.methods.method import BESIDE_THE_FUNCTION, Method, MethodContext, is_of_head, spec
from peftlab.methods.targets import Layers, block_of, blocks, check_layers


@spec
class OwnWeights(Method):
    """A method whose model is the plain one all along."""

    mergeable: ClassVar[bool] = True

    def merge(self, model: nn.Module) -> PreTrainedModel:
        """Return `model`."""
        assert isinstance(model, PreTrainedModel)
        return model


@spec
class Full(OwnWeights):
    """Every weight: the reference that all others are compared with."""

    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        """See `Method.apply`."""
        return model.requires_grad_(True)


@spec
class Head(OwnWeights):
    """Only the head, on a frozen backbone: a linear probe (Alain & Bengio 2017)."""

    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        """See `Method.apply`.

        Raises:
            ConfigError: the model has no head of the task's own.
        """
        if not context.head:
            raise ConfigError(
                f"peft={self.name}: the head of {type(model).__name__} is pretrained, and there is no new one to "
                "train; choose another method"
            )
        model.requires_grad_(False)
        for name in context.head:
            model.get_submodule(name).requires_grad_(True)
        return model


@spec
class TopLayers(OwnWeights):
    """Whole blocks, by default the last ones, and the head (Lee et al. 2019, "What Would Elsa Do?")."""

    layers: Annotated[Layers, BESIDE_THE_FUNCTION] = "last:2"
    """Which of the repeated blocks: ``last:N``, ``first:N``, numbers from 0, or None for all."""

    def __post_init__(self) -> None:
        """Check the form of `layers`."""
        check_layers(self.layers)

    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        """See `Method.apply`.

        Raises:
            ConfigError: the model has no such blocks.
        """
        chosen = blocks(model, self.layers, context.head)
        for name, parameter in model.named_parameters():
            parameter.requires_grad = is_of_head(name, context.head) or block_of(name) in chosen
        return model


@spec
class BitFit(OwnWeights):
    """Every bias of the backbone, those of normalisations too, and the head (Ben Zaken et al. 2021, section 3)."""

    layers: Annotated[Layers, BESIDE_THE_FUNCTION] = None
    """Of which of the repeated blocks: ``last:N``, ``first:N``, numbers from 0, or None for the whole backbone."""

    def __post_init__(self) -> None:
        """Check the form of `layers`."""
        check_layers(self.layers)

    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        """See `Method.apply`.

        Raises:
            ConfigError: the model has no biases, or no such blocks.
        """
        chosen = None if self.layers is None else blocks(model, self.layers, context.head)
        biases = {
            name
            for name, _ in model.named_parameters()
            if name.endswith("bias")
            and not is_of_head(name, context.head)
            and (chosen is None or block_of(name) in chosen)
        }
        if not biases:
            raise ConfigError(
                f"peft={self.name}: {type(model).__name__} has no biases there; it needs a model with biases"
            )
        for name, parameter in model.named_parameters():
            parameter.requires_grad = is_of_head(name, context.head) or name in biases
        return model

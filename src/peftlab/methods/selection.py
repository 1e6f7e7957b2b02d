"""Methods that add no parameters and choose which of the model's own weights are trained."""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import nn
from transformers import PreTrainedModel
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.methods.head import is_of_head
from peftlab.methods.method import BESIDE_THE_FUNCTION, Method, MethodContext, spec
from peftlab.methods.targets import Layers, block_of, blocks, check_layers


@spec
class OwnWeights(Method):
    """A method that leaves the model's architecture unchanged."""

    mergeable: ClassVar[bool] = True
    host_work: ClassVar[str | None] = None
    not_averaged: ClassVar[str | None] = None

    def merge(self, model: nn.Module) -> PreTrainedModel:
        """Return `model`."""
        assert isinstance(model, PreTrainedModel)
        return model


@spec
class Full(OwnWeights):
    """Train every weight: the reference for all other methods."""

    rewrites: ClassVar[str | None] = "it trains them"

    @override
    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        return model.requires_grad_(True)


@spec
class Head(OwnWeights):
    """Train only the head, on a frozen backbone: a linear probe (Alain & Bengio 2017)."""

    @override
    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        """Freeze all but the head.

        Raises:
            ConfigError: the model has no new head.
        """
        if not context.head:
            raise ConfigError(
                f"peft={self.name}: the head of {type(model).__name__} is pretrained, and there is no new one to "
                "train; choose another method, such as top_layers or lora"
            )
        model.requires_grad_(False)
        for name in context.head:
            model.get_submodule(name).requires_grad_(True)
        return model


@spec
class TopLayers(OwnWeights):
    """Train whole blocks, by default the last ones, and the head (Lee et al. 2019, "What Would Elsa Do?")."""

    rewrites: ClassVar[str | None] = "it trains those of whole blocks"

    layers: Annotated[Layers, BESIDE_THE_FUNCTION] = "last:2"
    """The repeated blocks to train: ``last:N``, ``first:N``, numbers from 0, or None for all."""

    def __post_init__(self) -> None:
        """Check that `layers` is well-formed."""
        check_layers(self.layers)

    @override
    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        """Freeze all but the selected blocks and the head.

        Raises:
            ConfigError: the model has no such blocks.
        """
        chosen = blocks(model, self.layers, context.head)
        for name, parameter in model.named_parameters():
            parameter.requires_grad = is_of_head(name, context.head) or block_of(name) in chosen
        return model


@spec
class BitFit(OwnWeights):
    """Train all biases of the backbone, including normalisations, and the head (Ben Zaken et al. 2021, section 3)."""

    layers: Annotated[Layers, BESIDE_THE_FUNCTION] = None
    """The repeated blocks to train: ``last:N``, ``first:N``, numbers from 0, or None for the whole backbone."""

    def __post_init__(self) -> None:
        """Check that `layers` is well-formed."""
        check_layers(self.layers)

    @override
    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        """Freeze all but the biases and the head.

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
                f"peft={self.name}: {type(model).__name__} has no biases there; it needs a model with biases. Others "
                "that train little are ln_tuning and ia3"
            )
        for name, parameter in model.named_parameters():
            parameter.requires_grad = is_of_head(name, context.head) or name in biases
        return model

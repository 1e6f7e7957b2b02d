"""Methods that add nothing and choose which of the model's own weights are trained."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from peftlab.methods.method import Method, MethodContext, spec


@spec
class OwnWeights(Method):
    """A method whose model is the plain one all along."""

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
        """See `Method.apply`."""
        model.requires_grad_(False)
        for name in context.head:
            model.get_submodule(name).requires_grad_(True)
        return model

"""Bias-only fine-tuning."""

from __future__ import annotations

import re
from typing import Literal

from torch import nn

from peftlab.methods.method import Method, MethodContext, spec

PLACES = {"all": r"", "attention": r"attention", "mlp": r"(intermediate|\.\d+\.output)\.dense"}


@spec
class BitFit(Method):
    """Train the biases of the encoder, and the head (Ben Zaken et al. 2021, section 3)."""

    layers: Literal["all", "attention", "mlp"] = "all"
    """Whose biases."""

    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        """Freeze everything else."""
        for name, parameter in model.named_parameters():
            in_head = name.split(".")[0] in context.head
            chosen = name.endswith("bias") and re.search(PLACES[self.layers], name) is not None
            parameter.requires_grad = in_head or chosen
        return model

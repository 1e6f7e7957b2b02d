"""Convolutional networks such as ConvNeXt: their linear layers take maps of features, not rows of tokens."""

from __future__ import annotations

from torch import nn

from peftlab.errors import ConfigError
from peftlab.methods.random_inputs import reads_pictures
from peftlab.methods.targets import LINEAR, is_attention

TAKE_ROWS = frozenset({"FROD", "GRALORA", "OFT", "SLICED"})
"""Methods whose layers work on (rows, tokens, size) alone, or on blocks of one size."""


def check_takes_maps(model: nn.Module, kind: str, name: str) -> None:
    """Check that a method can work on `model`, if that is a convolutional network.

    Args:
        model: the model.
        kind: the name of the method in the peft library, or that of our own.
        name: the method's name in messages.

    Raises:
        ConfigError: it takes rows of tokens.
    """
    if kind not in TAKE_ROWS or not reads_pictures(model):
        return
    if not any(isinstance(module, LINEAR) and is_attention(own) for own, module in model.named_modules()):
        raise ConfigError(
            f"peft={name}: {type(model).__name__} is a convolutional network, whose layers take maps of features in "
            "place of rows of tokens, and its blocks differ in size; choose another method, such as lora"
        )

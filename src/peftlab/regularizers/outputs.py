"""What regularisers do with a model's outputs."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.utils import ModelOutput

from peftlab.tasks.networks.heads import logits_of


def detached(outputs: Any) -> Any:
    """Return transformers' `outputs` with their tensors cut from the graph, so that no gradient flows through them."""
    kept = {name: value.detach() if isinstance(value, Tensor) else value for name, value in outputs.items()}
    return type(outputs)(**kept)


def softened(outputs: Any, temperature: float) -> Any:
    """Return `outputs` with their logits divided by the temperature."""
    logits = {name: values / temperature for name, values in logits_of(outputs).items()}
    return ModelOutput(**{**outputs, **logits})

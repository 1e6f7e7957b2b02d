"""What regularisers do with a model's outputs."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def detached(outputs: Any) -> Any:
    """Return transformers' `outputs` with their tensors cut from the graph, so that no gradient flows through them."""
    kept = {name: value.detach() if isinstance(value, Tensor) else value for name, value in outputs.items()}
    return type(outputs)(**kept)

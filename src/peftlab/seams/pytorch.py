"""Privates of PyTorch."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves


def leaves(tree: Any) -> list[Any]:
    """Return the leaves of nested containers, such as the outputs of models."""
    return tree_leaves(tree)


def unscale_before_step(optimizer: Optimizer) -> None:
    """Have fp16's gradients unscaled before a step even where a fused `optimizer` could do so within it.

    That would be after the norm of the gradient is taken.
    """
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]

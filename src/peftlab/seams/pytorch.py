"""Privates of PyTorch."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves


def leaves(tree: Any) -> list[Any]:
    """Return what lies in nested containers, the outputs of models included."""
    return tree_leaves(tree)


def unscale_before_step(optimizer: Optimizer) -> None:
    """Have fp16's loss scaling undone before a step even where a fused `optimizer` could do so within it.

    By then the norm of the gradient has been taken.
    """
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]

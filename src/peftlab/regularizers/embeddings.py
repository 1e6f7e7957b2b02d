"""Changes to the input embeddings of a model, for terms that perturb them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from peftlab.tasks.batch import Batch


@contextmanager
def changed(model: Any, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Pass the input embeddings of `model` through `change` inside the block.

    `change` takes and returns embeddings of shape (rows, tokens, hidden), before positions and norms are applied.
    """
    module: nn.Module = model.get_input_embeddings()
    hook = module.register_forward_hook(lambda _module, _inputs, output: change(output))
    try:
        yield
    finally:
        hook.remove()


def norms(perturbation: Tensor, batch: Batch) -> Tensor:
    """Return the L2 norm of `perturbation` for each example over all its rows, shape (examples,)."""
    squares = perturbation.float().pow(2).flatten(1).sum(1)
    return batch.by_example(squares).sqrt()


def of_norm(perturbation: Tensor, norm: float, batch: Batch) -> Tensor:
    """Return `perturbation`, (rows, tokens, hidden), scaled to the L2 norm `norm` for each example.

    The norm is per example, not per batch as in many implementations, so it does not depend on how a batch is divided.
    Padding is excluded.
    """
    if (mask := batch.inputs.get("attention_mask")) is not None:
        perturbation = perturbation * mask.unsqueeze(-1)
    tiny = torch.finfo(torch.float32).tiny
    factors = norm / norms(perturbation, batch).clamp(min=tiny)
    return perturbation * factors[batch.rows].view(-1, *[1] * (perturbation.ndim - 1)).to(perturbation.dtype)

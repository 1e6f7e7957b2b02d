"""The cross-entropy of a language model's tokens, without the logits of a whole batch.

These are the largest tensors of its training: of 2 x 1,024 tokens over 49,152 words, logits, softmax and gradient take
0.4 GB each. Here they exist for one chunk of tokens at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from peftlab.tasks.outputs.deferred_logits import DeferredLogits
from peftlab.tasks.task import IGNORED

CHUNK = 2**24
"""The most logits that exist at a time, 64 MiB in fp32."""


def token_losses(logits: Tensor | DeferredLogits, labels: Tensor, learnt: int | None = None) -> Tensor:
    """Return the cross-entropy of each token in fp32, the shape of `labels`: 0 where the label is `IGNORED`.

    Of deferred logits, a chunk at a time is computed, and with it the gradient at the hidden states: the loss of a
    token depends on its own state alone, so that the backward pass only multiplies that gradient by the one of the
    loss. Where the head is trained, or fp16 needs gradients scaled, the backward pass computes each chunk again. Losses
    and gradients are those of the full product up to rounding.

    Args:
        logits: (..., vocabulary).
        labels: the token that each predicts, shape (...).
        learnt: how many labels are not `IGNORED`, if the host knows: only these are computed. None: all are.
    """
    if not isinstance(logits, DeferredLogits):
        return _losses(logits.flatten(0, -2), labels.flatten()).view_as(labels)
    if logits.losses is not None and logits.losses[0] is labels:  # an evaluation wants them for its loss, and to answer
        return logits.losses[1]
    hidden, golds = logits.hidden.flatten(0, -2), labels.flatten()
    chosen = None
    if learnt is not None and learnt < len(golds):  # sorted rather than selected: the host need not wait for the device
        chosen = (golds == IGNORED).to(torch.uint8).argsort(stable=True)[:learnt]
        hidden, golds = hidden[chosen], golds[chosen]
    losses = _in_chunks(logits, hidden, golds)
    if chosen is not None:
        losses = losses.new_zeros(labels.numel()).index_copy(0, chosen, losses)
    losses = losses.view_as(labels)
    if not torch.is_grad_enabled():
        logits.losses = labels, losses
    return losses


def _losses(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="none")


def _in_chunks(logits: DeferredLogits, hidden: Tensor, labels: Tensor) -> Tensor:
    """Return the losses of tokens, (tokens,), of their hidden states, (tokens, hidden)."""

    def losses_of(hidden: Tensor, labels: Tensor) -> Tensor:
        return _losses(logits.of(hidden), labels)

    size = max(1, CHUNK // vocabulary_of(logits.head))
    pieces = list(zip(torch.split(hidden, size), torch.split(labels, size), strict=True))
    is_trained = any(parameter.requires_grad for parameter in logits.head.parameters())
    if not torch.is_grad_enabled() or not (is_trained or hidden.requires_grad):
        return torch.cat([losses_of(*piece) for piece in pieces])
    device = hidden.device.type
    in_fp16 = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
    if is_trained or in_fp16:
        draws = any(isinstance(module, nn.Dropout) and module.p for module in logits.head.modules())
        again = [checkpoint(losses_of, *piece, use_reentrant=False, preserve_rng_state=draws) for piece in pieces]
        return torch.cat(again)
    return _AtOnce.apply(hidden, pieces, losses_of)  # type: ignore[no-untyped-call]


def vocabulary_of(head: nn.Module) -> int:
    """Return the number of words that `head`, the layer of the vocabulary, has outputs for."""
    return max(parameter.shape[0] for parameter in head.parameters())


class _AtOnce(torch.autograd.Function):
    """Losses of tokens whose gradient is computed with them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        pieces: Sequence[tuple[Tensor, Tensor]],
        losses_of: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        losses, gradients = list[Tensor](), list[Tensor]()
        for states, labels in pieces:
            with torch.enable_grad():
                at = states.detach().requires_grad_()
                own = losses_of(at, labels)
                total = own.sum()
            with torch.autocast(hidden.device.type, enabled=False):  # the forward pass decides the types
                gradients += torch.autograd.grad(total, at)
            losses.append(own.detach())
            del own, total  # and their graph, before the next chunk has one
        ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(losses)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (of_hidden,) = ctx.saved_tensors
        return of_hidden * gradient.unsqueeze(-1).to(of_hidden.dtype), None, None

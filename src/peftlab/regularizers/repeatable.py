"""A forward pass that can be repeated with changed embeddings, and losses whose gradient is computed at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from peftlab.regularizers.embeddings import TINY, changed, perturbed_positions
from peftlab.tasks.batch import Batch

RandomState = tuple[torch.device, Tensor, Tensor | None]
"""A device, and the states of the generators of the CPU and, if it is a GPU, of the device."""


class RepeatablePass:
    """A training pass over a batch that can be repeated with perturbed embeddings and the same random numbers.

    With other dropout masks in the second pass, an adversarial loss would differ from the clean one by more than the
    perturbation, and part of its gain would be that of R-Drop.

    Args:
        model: the model.
        forward: runs it on a batch.
        batch: the batch.
        parameters: the trained parameters.
        special: ids of the special tokens, which are never perturbed.
        loss_scale: the factor by which fp16 keeps gradients above zero, a scalar; None: 1.
        watched: whether the gradient at the embeddings of this first pass is needed.
    """

    def __init__(
        self,
        model: nn.Module,
        forward: Callable[[Batch], Any],
        batch: Batch,
        parameters: Sequence[nn.Parameter] = (),
        special: Tensor | None = None,
        loss_scale: Tensor | None = None,
        watched: bool = True,
    ) -> None:
        self.model, self.forward, self.batch, self.parameters = model, forward, batch, parameters
        self.loss_scale = loss_scale
        self.mask = perturbed_positions(batch, special)
        """Where embeddings may be perturbed, (rows, tokens, 1); None: everywhere."""
        self._random = random_state(batch.weights.device)
        self._embeddings: Tensor | None = None
        self._like: Tensor | None = None
        self._gradient: Tensor | None = None
        self._finite: Tensor | None = None
        with changed(model, self._watch if watched else self._note):
            outputs = forward(batch)
        self.outputs = outputs
        """The outputs of the pass."""

    @property
    def like(self) -> Tensor:
        """A tensor of the shape of the embeddings, (rows, tokens, hidden)."""
        assert self._like is not None, "the model's input embeddings have no part in its forward pass"
        return self._like

    @property
    def gradient(self) -> Tensor:
        """The gradient of the task's loss at the embeddings, in fp32, 0 where they may not be perturbed."""
        assert self._gradient is not None, "a term that says `from_gradient` has it"
        return self._gradient

    def repeat(self, perturbation: Tensor) -> Any:
        """Return the outputs of the pass with `perturbation`, (rows, tokens, hidden), added to its embeddings."""
        change = perturbation if self.mask is None else perturbation * self.mask
        with same_random_numbers(self._random), changed(self.model, lambda e: e + change.to(e.dtype)):
            return self.forward(self.batch)

    def differentiate(self, loss: Tensor, keep_graph: bool) -> Tensor:
        """Compute the gradient of `loss`, a scalar of the first pass, and return a loss of the same value and gradient.

        This way one backward pass gives both the gradient of the weights and that of the embeddings.

        Args:
            loss: the task's mean loss.
            keep_graph: whether the outputs are differentiated again, by another term.
        """
        assert self._embeddings is not None
        loss, self._gradient = self._differentiated(loss, self._embeddings, keep_graph)
        self._embeddings = None
        return loss

    def differentiated_at(self, perturbation: Tensor, losses_of: Callable[[Any], Tensor]) -> tuple[Tensor, Tensor]:
        """Return losses at a perturbation, whose gradient is computed already, and the gradient at the perturbation.

        Args:
            perturbation: of the embeddings.
            losses_of: returns the losses of outputs, shape (examples,). Of these, only a multiple of `Batch.mean` may
                be differentiated.
        """
        at = perturbation.detach().requires_grad_()
        return self._differentiated(losses_of(self.repeat(at)), at, False, self.batch.factors)

    def gradient_at(self, perturbation: Tensor, losses_of: Callable[[Any], Tensor]) -> Tensor:
        """Return the gradient of the sum of losses at a perturbation, without one of the weights."""
        at = perturbation.detach().requires_grad_()
        scaled = self._scaled(losses_of(self.repeat(at)))
        with self._in_own_types():
            (gradient,) = torch.autograd.grad(scaled, at)
        return self._at_ordinary(gradient)

    def spoilt(self, total: Tensor) -> Tensor:
        """Return `total`, a scalar, whose own gradient is NaN if one at the embeddings has not been finite.

        Where fp16's loss scale made such a gradient overflow, the loss is sound, and its perturbations are taken as 0:
        the step is then left out, and the scale shrinks, as with an overflow in any other gradient.
        """
        if (finite := self._finite) is not None and total.requires_grad:
            total.register_hook(lambda gradient: gradient.where(finite, torch.nan))  # type: ignore[no-untyped-call]
        return total

    def _differentiated(
        self, losses: Tensor, at: Tensor, keep_graph: bool, factors: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        factors = torch.ones_like(losses) if factors is None else factors.to(losses.dtype)
        wanted = [parameter for parameter in self.parameters if parameter.requires_grad]
        scaled = self._scaled(losses * factors)
        with self._in_own_types():
            gradient, *of_weights = torch.autograd.grad(
                scaled, [at, *wanted], retain_graph=keep_graph, allow_unused=True
            )
        used = [(weight, own) for weight, own in zip(wanted, of_weights, strict=True) if own is not None]
        weights, gradients = [weight for weight, _ in used], _apart([own for _, own in used])
        known = _Differentiated.apply
        result: Tensor = known(losses.detach(), factors, self.loss_scale, gradients, *weights)  # type: ignore[no-untyped-call]
        return result, self._at_ordinary(gradient)

    def _in_own_types(self) -> AbstractContextManager[None]:
        """Return a context for a backward pass, whose types the forward pass decides: autocast would lower some."""
        return torch.autocast(self.batch.weights.device.type, enabled=False)

    def _scaled(self, losses: Tensor) -> Tensor:
        total = losses.sum()
        return total if self.loss_scale is None else total * self.loss_scale

    def _at_ordinary(self, gradient: Tensor | None) -> Tensor:
        gradient = torch.zeros_like(self.like) if gradient is None else gradient
        gradient = gradient.float()
        finite = gradient.isfinite()
        self._finite = finite.all() if self._finite is None else self._finite & finite.all()
        gradient = gradient.where(finite, 0)
        return gradient if self.mask is None else gradient * self.mask

    def _watch(self, embeddings: Tensor) -> Tensor:
        self._note(embeddings)
        self._embeddings = embeddings if embeddings.requires_grad else embeddings.detach().requires_grad_()
        return self._embeddings

    def _note(self, embeddings: Tensor) -> Tensor:
        self._like = embeddings.detach()
        return embeddings


class _Differentiated(torch.autograd.Function):
    """Losses with a gradient that is known before their backward pass."""

    @staticmethod
    def forward(
        ctx: Any, losses: Tensor, factors: Tensor, scale: Tensor | None, gradients: list[Tensor], *weights: Tensor
    ) -> Tensor:
        ctx.factors, ctx.scale, ctx.gradients = factors, scale, gradients
        return losses.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        factor = gradient.sum() / ctx.factors.sum().clamp(min=TINY)  # each loss has this one, times its own factor
        if ctx.scale is not None:
            factor = factor / ctx.scale
        gradients, ctx.gradients = ctx.gradients, []  # no copies: the weights take these tensors themselves
        return None, None, None, None, *(own.mul_(factor.to(own.dtype)) for own in gradients)


def _apart(gradients: Sequence[Tensor]) -> list[Tensor]:
    """Return `gradients` such that each can be changed in place without another one, or another part of itself.

    Those of weights that are added to each other may be one tensor, or parts of one; copies are made of these alone.
    """
    taken, apart = set[int](), list[Tensor]()
    for own in gradients:
        repeats = any(step == 0 and size > 1 for step, size in zip(own.stride(), own.shape, strict=True))
        shared = own.untyped_storage().data_ptr() in taken
        apart.append(own.clone(memory_format=torch.contiguous_format) if repeats or shared else own)
        taken.add(apart[-1].untyped_storage().data_ptr())
    return apart


def random_state(device: torch.device) -> RandomState:
    """Return the state of the generators that a forward pass on `device` draws from."""
    return device, torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


@contextmanager
def same_random_numbers(state: RandomState) -> Iterator[None]:
    """Repeat random numbers from `state` in the block; those after it are as if it had drawn none."""
    after = random_state(state[0])
    _restore(state)
    try:
        yield
    finally:
        _restore(after)


def _restore(state: RandomState) -> None:
    device, of_cpu, of_device = state
    torch.set_rng_state(of_cpu)
    if of_device is not None:
        torch.cuda.set_rng_state(of_device, device)

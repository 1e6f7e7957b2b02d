"""Changes to the input embeddings of a model, for regularisers that perturb them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from peftlab.errors import UserError
from peftlab.models.language_models import input_embeddings
from peftlab.tasks.batch import Batch

TINY = torch.finfo(torch.float32).tiny


def without_embeddings(model: Any) -> str | None:
    """Return why the input embeddings of `model` cannot be changed; None: they can."""
    if input_embeddings(model) is None:
        return "the model names no input embeddings (get_input_embeddings) that could be changed"
    return None


@contextmanager
def changed(model: Any, change: Callable[[Tensor], Tensor], ids: Tensor | None = None) -> Iterator[None]:
    """Pass the input embeddings of `model` through `change` inside the block, which runs the model once.

    `change` takes and returns embeddings of shape (rows, tokens, hidden), before positions and norms are applied. A
    decoder that shares its embeddings with the encoder is left as it is.

    Args:
        model: the model.
        change: the change.
        ids: the token ids, shape (rows, tokens), whose embeddings are changed wherever the model looks them up: each
            member of an ensemble does, or all do at once, their rows one after another. None: those of its first look.

    Raises:
        UserError: the model does not look up `ids`.
    """
    calls = 0

    def hook(_module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        nonlocal calls
        if ids is None:
            calls += 1
            return change(output) if calls == 1 else output
        (looked_up,) = inputs
        if not torch.equal(looked_up, ids.repeat(len(looked_up) // len(ids), 1)):
            return output
        calls += 1
        return torch.cat([change(rows) for rows in torch.split(output, len(ids))])

    with ExitStack() as stack:
        for module in _with_their_weights(model):
            stack.callback(module.register_forward_hook(hook).remove)
        yield
    if ids is not None and not calls:
        raise UserError(f"{type(model).__name__} does not look up its tokens as they are: they cannot be changed there")


@contextmanager
def changed_after(block: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Pass the hidden states that `block` returns through `change`, in its first run inside the ``with``."""
    calls = 0

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            return output
        return change(output) if isinstance(output, Tensor) else (change(output[0]), *output[1:])

    handle = block.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _with_their_weights(model: Any) -> Iterator[nn.Module]:
    """Yield the input embeddings of `model`, and other modules with their weights.

    Encoder-decoder models of transformers, and their encoders alone, name a module that they never run: encoder and
    decoder each have one of their own, tied to it.
    """
    named = input_embeddings(model)
    assert named is not None, "`without_embeddings` is asked first"
    yield named
    inside, weight = {*named.modules()}, getattr(named, "weight", None)
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.weight is weight and module not in inside:
            yield module


def perturbed_positions(batch: Batch, special: Tensor | None = None) -> Tensor | None:
    """Return 1 for the tokens that may be perturbed and 0 for padding and special tokens, (rows, tokens, 1), in fp32.

    None: all may be.

    Args:
        batch: a batch; inputs without token ids, such as images, have no special tokens.
        special: the ids of special tokens, shape (ids,).
    """
    mask = batch.real
    ids = batch.inputs.get("input_ids")
    if special is not None and ids is not None:
        ordinary = ~torch.isin(ids, special.to(ids.device))
        mask = ordinary if mask is None else mask.bool() & ordinary
    return None if mask is None else mask.unsqueeze(-1).float()


@dataclass(frozen=True, slots=True)
class Ball:
    """The perturbations of input embeddings up to a size, per example or per token.

    Neither depends on how a batch is divided, unlike a norm over the whole batch. Perturbations have shape
    (rows, tokens, hidden), in fp32.
    """

    epsilon: float
    """Its radius."""
    norm: Literal["l2", "linf"] = "l2"
    scope: Literal["sentence", "token"] = "sentence"
    """Whether the norm is over all tokens of an example, or over each token."""

    def norms(self, perturbation: Tensor, batch: Batch) -> Tensor:
        """Return the norm of `perturbation` for each example, shape (examples,); of its largest token for `token`."""
        of_tokens = perturbation.abs().amax(-1) if self.norm == "linf" else perturbation.norm(dim=-1)
        if self.norm == "l2" and self.scope == "sentence":
            return batch.by_token(of_tokens.pow(2)).sqrt()
        return batch.largest(of_tokens)

    def steepest(self, gradient: Tensor, batch: Batch) -> Tensor:
        """Return the perturbation of norm 1 that ascends `gradient` most steeply; 0 where the gradient is 0."""
        if self.norm == "linf":
            return gradient.sign()
        largest = gradient.abs().amax(-1)
        largest = largest.amax(-1, keepdim=True) if self.scope == "token" else batch.spread(batch.largest(largest))
        scaled = gradient / largest.unsqueeze(-1).clamp(min=TINY)
        return scaled / self._lengths(scaled, batch).clamp(min=TINY)

    def projected(self, perturbation: Tensor, batch: Batch) -> Tensor:
        """Return the nearest perturbation in the ball."""
        if self.norm == "linf":
            return perturbation.clamp(-self.epsilon, self.epsilon)
        return perturbation * (self.epsilon / self._lengths(perturbation, batch).clamp(min=TINY)).clamp(max=1)

    def drawn(self, like: Tensor, mask: Tensor | None, batch: Batch) -> Tensor:
        """Return a random perturbation in the ball, 0 where `mask` is: uniform for linf; else its norm is uniform."""
        if self.norm == "linf":
            drawn = torch.empty_like(like, dtype=torch.float32).uniform_(-self.epsilon, self.epsilon)
            return drawn if mask is None else drawn * mask
        drawn = torch.randn_like(like, dtype=torch.float32)
        drawn = drawn if mask is None else drawn * mask
        if self.scope == "token":
            share = torch.rand_like(drawn[..., :1])
        else:
            share = batch.spread(torch.rand(len(batch.weights), device=like.device)).unsqueeze(-1)
        return self.steepest(drawn, batch) * share * self.epsilon

    def _lengths(self, perturbation: Tensor, batch: Batch) -> Tensor:
        """Return L2 norms that broadcast against `perturbation`."""
        if self.scope == "token":
            return perturbation.norm(dim=-1, keepdim=True)
        return batch.spread(self.norms(perturbation, batch)).unsqueeze(-1)

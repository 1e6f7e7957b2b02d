"""Logits over a vocabulary that are multiplied out only where somebody asks for them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from peftlab.seams.pytorch import attribute_replaced, is_compiled, is_sharded, mapped

Change = Callable[[Tensor], Tensor]


class DeferredLogits:
    """The logits of a language model, not multiplied out: hidden states, the head, and what the model does after it.

    Slicing over rows and tokens, scaling, adding a bias, capping by tanh and `float` are deferred too; that is all that
    architectures do to logits. Whatever else is asked of it, or of a function of torch, is asked of `full`.

    Args:
        hidden: the inputs of the head, (..., hidden).
        head: the layer of the vocabulary.
        project: its forward pass.
        changes: what is done to its outputs, in turn; each acts on every logit by itself.
    """

    def __init__(self, hidden: Tensor, head: nn.Module, project: Change, changes: Sequence[Change] = ()) -> None:
        self.hidden, self.head, self.project, self.changes = hidden, head, project, tuple(changes)
        self.losses: tuple[Tensor, Tensor] | None = None
        """The labels whose losses are known, and these, where nothing is differentiated."""

    @cached_property
    def full(self) -> Tensor:
        """The logits, (..., vocabulary)."""
        return self.of(self.hidden)

    def of(self, hidden: Tensor) -> Tensor:
        """Return the logits of some of the hidden states, (..., hidden), shape (..., vocabulary)."""
        logits = self.project(hidden)
        for change in self.changes:
            logits = change(logits)
        return logits

    @property
    def device(self) -> torch.device:
        """The device of the hidden states."""
        return self.hidden.device

    def float(self) -> DeferredLogits:
        """Return the logits in fp32, deferred."""
        return self.then(Tensor.float)

    def __getitem__(self, index: Any) -> Any:
        places = index if isinstance(index, tuple) else (index,)
        if len(places) < self.hidden.ndim and all(isinstance(place, int | slice) for place in places):
            return DeferredLogits(self.hidden[index], self.head, self.project, self.changes)
        return self.full[index]

    def __mul__(self, factor: Any) -> Any:
        return self._combined(operator.mul, factor)

    def __truediv__(self, divisor: Any) -> Any:
        return self._combined(operator.truediv, divisor)

    def __add__(self, summand: Any) -> Any:
        return self._combined(operator.add, summand)

    __rmul__, __radd__ = __mul__, __add__

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # a protocol that it does not have, such as that of copying
            raise AttributeError(name)
        return getattr(self.full, name)

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Defer tanh; give any other function the logits."""
        if function is torch.tanh and isinstance(args[0], cls):
            return args[0].then(torch.tanh)
        return function(*mapped(_full, args), **mapped(_full, dict(kwargs or {})))

    def _combined(self, function: Callable[[Any, Any], Any], operand: Any) -> Any:
        """Return `function` of the logits and `operand`; deferred if that is a number, or one for each word."""
        if isinstance(operand, Tensor) and operand.ndim:
            if operand.numel() != operand.shape[-1]:
                return function(self.full, operand)
            operand = operand.flatten()
        return self.then(lambda logits: function(logits, operand))

    def then(self, change: Change) -> DeferredLogits:
        """Return the logits with a further `change`, which acts on each by itself."""
        return DeferredLogits(self.hidden, self.head, self.project, (*self.changes, change))


def _full(value: Any) -> Any:
    return value.full if isinstance(value, DeferredLogits) else value


@contextmanager
def deferred_logits(model: Any) -> Iterator[None]:
    """Have `model`, a language model, return `DeferredLogits` in this context, unless it is sharded or compiled.

    The weights of a sharded model are whole only during its forward pass; a compiled one has the head's product in its
    graph. Both return the logits themselves.
    """
    if is_sharded(model) or is_compiled(model):
        yield
        return
    head = model.get_output_embeddings()
    project = head.forward
    with attribute_replaced(head, "forward", lambda hidden: DeferredLogits(hidden, head, project)):
        yield

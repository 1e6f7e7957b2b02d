"""How the rows of several batches lie in one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from peftlab.seams.pytorch import mapped

MASK = "attention_mask"
IDS = "input_ids"


class NotJoinableError(Exception):
    """These runs cannot compute this together; says why."""


class NeverJoinableError(NotJoinableError):
    """They can compute no step together: it is their models that do not go together, not the batches of one step."""


@dataclass(frozen=True)
class Rows:
    """The layout of one tensor that holds the rows of several runs, one run after another.

    Every run has as many rows, and every row as many tokens, as the largest; what is added stands at the end.
    """

    counts: Sequence[int]
    """The rows of each run."""
    lengths: Sequence[int] | None
    """The tokens in a row of each run; None: all the same, or the rows have none."""
    longest: int = 0
    """The tokens in a joint row, a number that no other dimension of the model has; 0 where `lengths` is None."""

    @property
    def runs(self) -> int:
        """The number of runs."""
        return len(self.counts)

    @property
    def most(self) -> int:
        """The joint rows of each run."""
        return max(self.counts)

    @classmethod
    def of(cls, inputs: Sequence[Mapping[str, Tensor]], taken: Collection[int] = (), limit: int | None = None) -> Rows:
        """Return the layout for the inputs of several runs.

        Args:
            inputs: by run, the arguments of a forward pass.
            taken: sizes of the model's other dimensions.
            limit: the largest number of tokens in a row; None: there is none.

        Raises:
            NotJoinableError: their rows cannot be padded.
        """
        counts = [len(next(iter(own.values()))) for own in inputs]
        lengths = [own[IDS].shape[1] if IDS in own else 0 for own in inputs]
        if len(set(lengths)) == 1:
            return cls(counts, None)
        if any(MASK not in own for own in inputs):
            raise NotJoinableError("rows of different lengths have no attention mask")
        longest = max(lengths)
        while longest in taken or longest in (max(counts), max(counts) * len(counts)):
            longest += 1
        if limit is not None and longest > limit:
            raise NotJoinableError(f"rows cannot be padded to {longest} tokens")
        return cls(counts, lengths, longest)

    def joined(self, inputs: Sequence[Mapping[str, Tensor]], padding: int = 0) -> dict[str, Tensor]:
        """Return the inputs of all runs as those of one forward pass; `padding` is the id of added tokens.

        Raises:
            NotJoinableError: they do not have the same names and shapes.
        """
        if any(own.keys() != inputs[0].keys() for own in inputs):
            raise NotJoinableError("the inputs have different names")
        return {
            name: self.together([own[name] for own in inputs], padding if name == IDS else 0, repeat=True)
            for name in inputs[0]
        }

    def together(self, tensors: Sequence[Tensor], value: int = 0, repeat: bool = False) -> Tensor:
        """Return the tensors of all runs, each of shape (rows, ...), as one of shape (runs * most, ...).

        Args:
            tensors: by run.
            value: fills what is added.
            repeat: whether rows that are added repeat the first, so that they are as good as any.
        """
        if self.lengths is None and {tensor.shape[:1] for tensor in tensors} == {(self.most,)}:
            return _cat(tensors)
        dimensions = {tensor.dim() for tensor in tensors}
        if len(dimensions) > 1 or [tensor.shape[:1] for tensor in tensors] != [(count,) for count in self.counts]:
            raise NotJoinableError("there are tensors whose first dimension is not that of the rows")
        of_tokens = [
            place
            for place in range(1, tensors[0].dim())
            if self.lengths is not None and [tensor.shape[place] for tensor in tensors] == list(self.lengths)
        ]
        return _cat([self._padded(tensor, of_tokens, value, repeat) for tensor in tensors])

    def own(self, value: Any, number: int) -> Any:
        """Return the part of run `number` in a joint value: tensors, also in containers; all else is everybody's."""
        return mapped(lambda leaf: self.cut(leaf, number) if isinstance(leaf, Tensor) else leaf, value)

    def apart(self, calls: Sequence[Callable[..., Any]], args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Return the joint result of calling each run's function on its part of the arguments."""
        results = [call(*self.own(args, n), **self.own(dict(kwargs), n)) for n, call in enumerate(calls)]
        return mapped(lambda *leaves: self.together(leaves) if isinstance(leaves[0], Tensor) else leaves[0], *results)

    def cut(self, tensor: Tensor, number: int) -> Tensor:
        """Return the part of run `number` in a joint tensor; another tensor as it is."""
        if tensor.dim() == 0 or tensor.shape[0] != self.runs * self.most:
            return tensor
        tensor = tensor[number * self.most : number * self.most + self.counts[number]]
        if self.lengths is not None:
            for place, size in enumerate(tensor.shape[1:], 1):
                if size == self.longest:
                    tensor = tensor.narrow(place, 0, self.lengths[number])
        return tensor

    def _padded(self, tensor: Tensor, of_tokens: Collection[int], value: int, repeat: bool) -> Tensor:
        if of_tokens:
            missing = [self.longest - size if place in of_tokens else 0 for place, size in enumerate(tensor.shape)]
            tensor = F.pad(tensor, [side for many in reversed(missing) for side in (0, many)], value=value)
        if more := self.most - len(tensor):
            rows = tensor[:1] if repeat else torch.zeros_like(tensor[:1])
            tensor = torch.cat([tensor, rows.expand(more, *tensor.shape[1:])])
        return tensor


def _cat(tensors: Sequence[Tensor]) -> Tensor:
    if len({tensor.shape for tensor in tensors}) > 1:
        raise NotJoinableError("tensors of the same name have different shapes")
    return torch.cat(tuple(tensors))

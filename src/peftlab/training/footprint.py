"""The memory of a training by purpose: weights, gradients, the optimiser's state, and activations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

_GIB = 2**30


def gib_of(tensors: Iterable[Tensor]) -> float:
    """Return the GiB that `tensors` take on this rank; tensors that share memory count once."""
    return sum(dict(map(_storage, tensors)).values()) / _GIB


def of_parameters(model: nn.Module) -> dict[str, float]:
    """Return the GiB of `model`'s weights, buffers included, and of the gradients of those that are trained."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return {
        "weights_gib": gib_of((*model.parameters(), *model.buffers())),
        "gradients_gib": gib_of(trained),  # of the same shape and type
    }


def of_optimizer(optimizer: Optimizer) -> float:
    """Return the GiB of the state of `optimizer`, which it creates in its first step."""
    return gib_of(_tensors(optimizer.state))


class Activations:
    """Around the passes of a step: counts what a forward pass keeps for its backward pass.

    Where several passes follow one another, memory that is used again counts once. Tensors that live on elsewhere,
    such as the weights, do not count. Saved tensors stay what they are, so that the gradient has the same bits.

    Args:
        elsewhere: tensors that do not count.
    """

    def __init__(self, elsewhere: Iterable[Tensor]) -> None:
        self._hooks = saved_tensors_hooks(self._keep, _unchanged)
        self._elsewhere = dict(map(_storage, elsewhere))
        self._sizes: dict[int, int] = {}

    def __enter__(self) -> Self:
        self._hooks.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.__exit__()

    @property
    def gib(self) -> float:
        """The GiB that were kept."""
        return sum(self._sizes.values()) / _GIB

    def _keep(self, tensor: Tensor) -> Tensor:
        place, size = _storage(tensor)
        if place not in self._elsewhere:
            self._sizes[place] = max(size, self._sizes.get(place, 0))
        return tensor.detach()  # the tensor itself would keep alive the graph that keeps it


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor


def _storage(tensor: Tensor) -> tuple[int, int]:
    """Return the address and the bytes of the memory of `tensor`; of a sharded one, of this rank's shard."""
    if isinstance(tensor, DTensor):
        tensor = tensor.to_local()
    if tensor.layout is not torch.strided:  # a sparse one has several; few methods make any, and small ones
        return 0, 0
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.nbytes()


def _tensors(state: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested dictionaries and lists."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict | list | tuple):
        for item in state.values() if isinstance(state, dict) else state:
            yield from _tensors(item)

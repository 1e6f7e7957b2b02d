"""Average gradients over ranks that each hold the whole model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

_BUCKET_BYTES = 25 * 2**20
"""The size of gradients sent together, as in torch's DistributedDataParallel."""


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give every rank the mean of all ranks' gradients; all must call it, with the same parameters.

    Where only some ranks have a gradient, it counts as zero on the others; where none has one, none is made.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    some = torch.tensor([parameter.grad is not None for parameter in trained], dtype=torch.int)
    some = some.to(trained[0].device)
    dist.all_reduce(some, dist.ReduceOp.MAX)
    gradients = []
    for parameter, has_gradient in zip(trained, some.tolist(), strict=True):
        if has_gradient:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    for bucket in _buckets(gradients):
        together = torch.cat([gradient.reshape(-1) for gradient in bucket]).div_(dist.get_world_size())
        dist.all_reduce(together)
        pieces = together.split([gradient.numel() for gradient in bucket])  # type: ignore[no-untyped-call]
        for gradient, piece in zip(bucket, pieces, strict=True):
            gradient.copy_(piece.view_as(gradient))


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield groups of successive tensors of one type, of about `_BUCKET_BYTES` each."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        full = sum(other.nbytes for other in bucket) >= _BUCKET_BYTES
        if bucket and (full or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket

"""A model whose weights are shared out among the ranks: shard it, bring tensors together, hand them out again.

The functions work for a model in one piece as well, on any number of ranks. Where there are several, all have to call
them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from peftlab.seams.lightning import metadata_file
from peftlab.storage.tensors import load_into


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Shard every repeated block of `model` by itself, and the rest as a whole (Zhao et al. 2023, per parameter).

    Weights are in one piece only while they compute. A model that is sharded already stays as it is.
    """
    if not isinstance(model, FSDPModule):
        for block in blocks_of(model):
            fully_shard(block, mesh=mesh)
        # by default, the rest stays in one piece until a backward pass: after a validation, the model's parameters were
        # others than the optimiser's, whose state could not be saved, and what was loaded into them was lost
        fully_shard(model, mesh=mesh, reshard_after_forward=True)


class FullyShard(ModelParallelStrategy):
    """Lightning's strategy, but a checkpoint holds what is trained, and not what that was trained on top of."""

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Leave it to the module, see `Tuner.on_save_checkpoint`: this would copy the whole model."""
        return {}

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Take up the shares of weights and optimiser state that this rank holds now; return the rest.

        It need not be as many ranks as when the checkpoint was made: a share may come out of several.
        """
        path = Path(self.broadcast(checkpoint_path))
        rest = torch.load(path / metadata_file(), map_location="cpu", weights_only=True)
        weights = {f"model.{name}": tensor for name, tensor in self.lightning_module.trained().items()}  # type: ignore[union-attr, operator]
        load({"state_dict": weights}, checkpoint_id=path)
        assert self.model is not None
        for number, optimizer in enumerate(self.optimizers):
            state = {f"optimizer_{number}": get_optimizer_state_dict(self.model, optimizer)}
            load(state, checkpoint_id=path)
            set_optimizer_state_dict(self.model, optimizer, state[f"optimizer_{number}"])
        return {**rest, "state_dict": weights}


def is_sharded(model: nn.Module) -> bool:
    """Return whether `shard` has been here."""
    return isinstance(model, FSDPModule)


def blocks_of(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the repeated blocks of a model, such as the layers of an encoder."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from blocks_of(child)


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `tensors` with the shares of all ranks put together."""
    return {name: _whole(tensor) for name, tensor in tensors.items()}


def _whole(tensor: Tensor) -> Tensor:
    if isinstance(tensor, DTensor):
        with torch.no_grad():
            return tensor.full_tensor()
    return tensor


def load_everywhere(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy what `peftlab.storage.tensors.save` wrote to `path` into `tensors`; only rank 0 reads the file.

    Raises:
        ValueError: on rank 0: names or shapes differ.
    """
    pieces = whole(tensors)
    if not dist.is_initialized() or dist.get_rank() == 0:
        load_into(pieces, path)
    with torch.no_grad():
        for name, tensor in tensors.items():
            if isinstance(tensor, DTensor):
                tensor.copy_(distribute_tensor(pieces[name], tensor.device_mesh, tensor.placements))
            elif dist.is_initialized():
                dist.broadcast(tensor, src=0)

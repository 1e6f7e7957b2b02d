"""Models sharded over ranks: shard a model, gather its tensors, and distribute them again.

The functions also work for an unsharded model, on any number of ranks. All ranks must call them.
"""

from __future__ import annotations

from collections.abc import Mapping
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

from peftlab.methods.targets import blocks_of
from peftlab.seams.lightning import metadata_file
from peftlab.storage.tensors import load_into


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Shard every repeated block of `model` by itself, and the rest as a whole (Zhao et al. 2023, per parameter).

    Weights are gathered only while they are used. A model that is already sharded stays as it is.
    """
    if not isinstance(model, FSDPModule):
        for block in blocks_of(model):
            fully_shard(block, mesh=mesh)
        # by default, the rest stays gathered until a backward pass: after a validation, the model's parameters would
        # not be the optimiser's, its state could not be saved, and weights loaded into them would be lost
        fully_shard(model, mesh=mesh, reshard_after_forward=True)


class FullyShard(ModelParallelStrategy):
    """Lightning's strategy, with checkpoints that hold the trained parameters only."""

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return nothing: `Tuner.on_save_checkpoint` saves the weights; this would copy the whole model."""
        return {}

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Load this rank's shards of weights and optimiser state; return the rest.

        The number of ranks may differ from that of the checkpoint: a shard may come from several.
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
    """Return whether `shard` has sharded `model`."""
    return isinstance(model, FSDPModule)


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `tensors`, gathered from the shards of all ranks."""
    return {name: unsharded(tensor) for name, tensor in tensors.items()}


def unsharded(tensor: Tensor) -> Tensor:
    """Return `tensor` as a plain one; every rank that has a shard of it must call this."""
    if isinstance(tensor, DTensor):
        with torch.no_grad():
            return tensor.full_tensor()
    return tensor


def load_everywhere(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load the file `path` of `peftlab.storage.tensors.save` into `tensors`; only rank 0 reads it.

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

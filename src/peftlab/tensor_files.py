"""Named tensors in safetensors files, put in place in one step: checkpoints and adapters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from peftlab.atomic_files import replacing


def save(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write `tensors` to `path`; whatever happens meanwhile, the file there is whole, the old one or the new one."""
    whole: dict[str, Tensor] = {}
    memory: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        whole[name] = own.clone() if own.untyped_storage().data_ptr() in memory else own
        memory.add(own.untyped_storage().data_ptr())  # safetensors refuses tensors that share it
    with replacing(path) as temporary:
        save_file(whole, temporary, metadata={"format": "pt"})
        temporary.chmod(0o644)  # safetensors lets only the owner read


def load_into(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy what `save` wrote to `path` into `tensors`, which must have the same names and shapes.

    Raises:
        ValueError: they differ; nothing has been copied.
    """
    saved = load_file(path)
    if saved.keys() != tensors.keys():
        odd = sorted(saved.keys() ^ tensors.keys())
        raise ValueError(f"{path}: {len(odd)} tensors are only in the file or only in the model, first {odd[0]}")
    for name, tensor in tensors.items():
        if tensor.shape != saved[name].shape:
            raise ValueError(f"{path}: {name} has shape {tuple(saved[name].shape)}, the model {tuple(tensor.shape)}")
    for name, tensor in tensors.items():
        tensor.data.copy_(saved[name])

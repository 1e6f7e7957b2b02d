"""Named tensors in safetensors files, written atomically: checkpoints and adapters."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from peftlab.errors import NonFiniteError
from peftlab.storage.atomic import replacing

FLOATING = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
"""Dtypes that are converted into one another when read, with rounding where needed."""


def save(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write `tensors` to `path` atomically.

    Raises:
        NonFiniteError: a tensor holds NaN or an infinity; nothing is written.
        DiskError: the file cannot be written.
    """
    whole: dict[str, Tensor] = {}
    memory: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        if not _is_finite(own):
            raise NonFiniteError(f"{path}: not written, for {name} is not finite. Lower optimizer.lr, or clip more")
        whole[name] = own.clone() if own.untyped_storage().data_ptr() in memory else own
        memory.add(own.untyped_storage().data_ptr())  # safetensors refuses tensors that share memory
    with replacing(path, needed=sum(tensor.nbytes for tensor in whole.values())) as temporary:
        save_file(whole, temporary, metadata={"format": "pt"})
        temporary.chmod(0o644)  # safetensors makes it readable by the owner only


def load_into(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy the file that `save` wrote into `tensors`, which must have the same names, shapes and compatible dtypes.

    Raises:
        ValueError: they differ; nothing is copied.
    """
    saved = load_file(path)
    if saved.keys() != tensors.keys():
        odd = sorted(saved.keys() ^ tensors.keys())
        raise ValueError(f"{path}: {len(odd)} tensors are only in the file or only in the model, first {odd[0]}")
    for name, tensor in tensors.items():
        if tensor.shape != saved[name].shape:
            raise ValueError(f"{path}: {name} has shape {tuple(saved[name].shape)}, the model {tuple(tensor.shape)}")
        if is_of_another_kind(saved[name].dtype, tensor.dtype):
            raise ValueError(f"{path}: {name} is of the type {saved[name].dtype}, the model's {tensor.dtype}")
    for name, tensor in tensors.items():
        tensor.data.copy_(saved[name])


def is_of_another_kind(stored: torch.dtype, wanted: torch.dtype) -> bool:
    """Return whether converting `stored` to `wanted` would change values by more than rounding."""
    return stored != wanted and not (stored in FLOATING and wanted in FLOATING)


def sha256_of(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 over the names, dtypes, shapes and bits of `tensors`, as hex digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():  # an empty one may have no stride to view bytes by
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _is_finite(tensor: Tensor) -> bool:
    """Return whether `tensor` has neither NaN nor infinities; a finite norm shows it in a fraction of the time."""
    return (
        not tensor.is_floating_point()
        or bool(torch.linalg.vector_norm(tensor).isfinite())
        or bool(torch.isfinite(tensor).all())
    )

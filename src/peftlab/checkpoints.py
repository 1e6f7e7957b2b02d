"""Checkpoints that a run goes on from: ``step-<optimiser steps>.safetensors``, each with its sha256 beside it.

A file holds a tree of plain values and tensors, see `write`; nothing in it is ever unpickled. It is put in place in one
step, and its digest only after it: what has no digest, or another one, is not whole, and `newest_whole` passes it over.

Of a model that is shared out among ranks (FSDP, DeepSpeed) it is a folder, ``step-<optimiser steps>.sharded``, in the
format of Lightning's strategy, to which every rank writes its share; the digests of its files lie within. It is written
beside, and gets its name when it is whole. These formats keep pickles: go on only from folders of your own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from peftlab.atomic_files import replacing, synchronise
from peftlab.disk import writing
from peftlab.entries import is_plain_folder, own_folder, taken_by
from peftlab.errors import ConfigError

log = logging.getLogger("peftlab")

LAST = 2
"""How many of the newest are kept while a run goes on: the one before the last is there where the last is damaged."""

_IN_ONE_PIECE, _SHARDED = ".safetensors", ".sharded"
_DIGESTS = "sha256"

Unfit = Callable[[Any, int], str | None]
"""Returns why a run cannot go on from a tree that was kept after so many steps; None where it can."""

_PLAIN = (type(None), bool, int, float, str)


# --- a tree in a file ------------------------------------------------------------------------------------------------


def write(tree: Any, path: Path) -> None:
    """Write `tree` to `path`, and its digest to ``<path>.sha256`` in the format of the command sha256sum.

    The structure is JSON in the file's metadata. A tensor is kept as the bytes of the memory it lies in, named by its
    place in the tree, with type, shape, strides and offset in the JSON: so tensors that share memory still do when they
    are read, and no layout is refused.

    Args:
        tree: dicts (with keys of str or int), lists, tuples, tensors, NumPy arrays, str, bytes, numbers, bools and
            None, nested in any way.
        path: is replaced in one step, see `peftlab.atomic_files.replacing`.

    Raises:
        TypeError: something else is in the tree; says where.
    """
    memory = _Memory()
    structure = json.dumps(_encoded(tree, "tree", memory))
    own_folder(path.parent)
    with replacing(path) as temporary:
        save_file(memory.bytes, temporary, metadata={"tree": structure})
        temporary.chmod(0o644)  # safetensors lets only the owner read
        digest = _sha256(temporary)
    with replacing(_digest_file(path)) as temporary:
        temporary.write_text(f"{digest}  {path.name}\n", encoding="utf-8")


def read(path: Path) -> Any:
    """Return the tree that `write` has written to `path`; its tensors are on the CPU, and own their memory.

    Raises:
        SafetensorError, ValueError, LookupError, TypeError: the file holds none.
    """
    with safe_open(path, framework="pt") as file:
        structure = json.loads((file.metadata() or {})["tree"])
        memory = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  # it is no dict
    return _decoded(structure, memory)


class _Memory:
    """The memory that the tensors of a tree lie in: each piece once, named by the first tensor that lies in it."""

    def __init__(self) -> None:
        self.bytes: dict[str, Tensor] = {}
        self._names: dict[tuple[torch.device, int], str] = {}

    def add(self, tensor: Tensor, name: str) -> str:
        storage = tensor.untyped_storage()
        key = (tensor.device, storage.data_ptr())
        if key not in self._names or not storage.nbytes():
            self._names[key] = name
            self.bytes[name] = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage).cpu()
        return self._names[key]


def _encoded(value: Any, name: str, memory: _Memory) -> Any:
    """Return the JSON of `value`: a list stands for itself, an object says by its first key what it stands for."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, dict):
        for key in value:
            if type(key) not in (str, int):
                raise TypeError(f"{name}: a checkpoint cannot hold a key of type {type(key).__name__}, {key!r}")
        return {"dict": [[key, _encoded(item, f"{name}[{key!r}]", memory)] for key, item in value.items()]}
    if type(value) in (list, tuple):
        items = [_encoded(item, f"{name}[{number}]", memory) for number, item in enumerate(value)]
        return items if type(value) is list else {"tuple": items}
    if type(value) in (Tensor, nn.Parameter) and value.layout == torch.strided:
        tensor = value.detach()
        place = {"memory": memory.add(tensor, name), "offset": tensor.storage_offset()}
        dtype = str(tensor.dtype).removeprefix("torch.")
        return {"tensor": dtype, "shape": list(tensor.shape), "strides": list(tensor.stride())} | place
    if type(value) is np.ndarray and not value.dtype.hasobject:
        own = torch.frombuffer(bytearray(value.tobytes()), dtype=torch.uint8) if value.size else torch.empty(0)
        return {"array": value.dtype.str, "shape": list(value.shape), "memory": memory.add(own, name)}
    if type(value) is bytes:
        return {"bytes": base64.b64encode(value).decode()}
    raise TypeError(f"{name}: a checkpoint cannot hold a value of type {type(value).__name__}")


def _decoded(value: Any, memory: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decoded(item, memory) for item in value]
    match value:
        case {"dict": items}:
            return {_key(key): _decoded(item, memory) for key, item in items}
        case {"tuple": items}:
            return tuple(_decoded(item, memory) for item in items)
        case {"tensor": dtype, "shape": shape, "strides": strides, "memory": name, "offset": offset}:
            return _tensor(memory[name], dtype, shape, strides, offset)
        case {"array": dtype, "shape": shape, "memory": name}:
            return np.frombuffer(memory[name].numpy().tobytes(), dtype).reshape(shape).copy()
        case {"bytes": text}:
            return base64.b64decode(text, validate=True)
    if type(value) not in _PLAIN:
        raise ValueError("an object stands for nothing that a checkpoint holds")
    return value


def _key(key: Any) -> str | int:
    if type(key) not in (str, int):
        raise TypeError(f"a key is of type {type(key).__name__}")
    return cast(str | int, key)


def _tensor(memory: Tensor, dtype: str, shape: list[int], strides: list[int], offset: int) -> Tensor:
    """Return a tensor that lies in `memory`, which torch would let grow for one that does not."""
    tensor = torch.empty(0, dtype=_dtype(dtype))
    if len(shape) != len(strides) or not all(type(size) is int and size >= 0 for size in (*shape, *strides, offset)):
        raise ValueError("a tensor has a layout that none can have")
    elements = 0 if 0 in shape else 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if elements and (offset + elements) * tensor.element_size() > memory.nbytes:
        raise ValueError("a tensor reaches beyond its memory")
    return tensor.set_(memory.untyped_storage(), offset, shape, strides)


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name)
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"'{name}' is no type of tensors")
    return dtype


# --- the files of a run ----------------------------------------------------------------------------------------------


def path_of(folder: Path, step: int, sharded: bool = False) -> Path:
    """Return the file, or the folder, of the checkpoint after `step` optimiser steps."""
    return folder / f"step-{step}{_SHARDED if sharded else _IN_ONE_PIECE}"


def step_of(path: Path) -> int | None:
    """Return after how many optimiser steps the checkpoint `path` was made; None for any other file."""
    match = re.fullmatch(r"step-(\d+)(\.safetensors|\.sharded)", path.name)
    return int(match[1]) if match else None


def files(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder`, whole or not, the newest first."""
    entries = folder.glob("step-*") if is_plain_folder(folder) else ()
    found = [(step, path) for path in entries if (step := step_of(path)) is not None]
    return [path for _, path in sorted(found, reverse=True)]


def newest_whole(folder: Path, sharded: bool = False, unfit: Unfit | None = None) -> Path | None:
    """Return the newest checkpoint in `folder` that is whole, or None; warns of each newer one, and says why.

    Args:
        folder: of the checkpoints.
        sharded: whether the model is shared out, so that only such checkpoints can be read; or only others.
        unfit: what else keeps the run from going on from one. Not asked of shares.

    Raises:
        ConfigError: it is of the other kind.
    """
    for path in files(folder):
        damage = damage_of(path) or (None if path.is_dir() else _unfit(path, unfit))
        if damage is not None:
            log.warning("%s is damaged and passed over: %s", path, damage)
        elif path.is_dir() == sharded:
            return path
        else:
            of_which = "is not" if sharded else "is"
            raise ConfigError(
                f"{path} {of_which} of trainer.strategy=fsdp or deepspeed, which read their own only, as the "
                "others do: go on with the strategy that it was made with, or begin anew with existing=rerun"
            )
    return None


def damage_of(path: Path) -> str | None:
    """Return what is wrong with the checkpoint `path`; None where it is whole."""
    if odd := taken_by(path, stat.S_IFREG, stat.S_IFDIR):
        return f"it is {odd}"
    if path.is_dir():
        return _damage_of_folder(path)
    try:
        digest = _digest_file(path).read_text(encoding="utf-8").partition(" ")[0]
    except (OSError, UnicodeDecodeError) as error:
        return f"its digest cannot be read, so that it may not have been written to its end ({error})"
    bytes_, expected = path.stat().st_size, _expected_bytes(path)
    if expected is not None and bytes_ < expected:
        return f"truncated, {bytes_} of {expected} bytes are there"
    return None if _sha256(path) == digest else "its sha256 is not the one that was noted when it was written"


def _unfit(path: Path, unfit: Unfit | None) -> str | None:
    try:
        tree = read(path)
        return None if unfit is None else unfit(tree, step_of(path) or 0)
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return f"it holds no checkpoint ({type(error).__name__}: {error})"


def prune(folder: Path, last: int, every: int | None) -> None:
    """Remove all checkpoints in `folder` but the `last` newest and those at multiples of `every` optimiser steps."""
    for path in files(folder)[last:]:
        if every is None or (step_of(path) or 0) % every:
            remove(path)


def remove(path: Path) -> None:
    """Remove the checkpoint `path` and its digest."""
    if path.is_dir():
        # first another name, so that no half of it ever bears this one
        shutil.rmtree(path.rename(path.with_name(f".{path.name}.removed.{os.getpid()}")))
        return
    _digest_file(path).unlink(missing_ok=True)  # first: a checkpoint without one is still found, and removed later
    path.unlink()


def belongs(file: Path) -> bool:
    """Return whether `file` is such a checkpoint, part of one, or the digest of one."""
    names = (file, *file.parents, file.with_name(file.name.removesuffix(".sha256")))
    return any(step_of(name) is not None for name in names)


def beside(path: Path) -> Path:
    """Return where the checkpoint `path` of a model that is shared out is written: rank 0 tells it to the others."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def put_in_place(path: Path) -> None:
    """Give what all ranks have written to `beside(path)` its digests and its name; it is on the disk then.

    Raises:
        DiskError: the disk does not take it.
    """
    temporary = beside(path)
    with writing(path):
        written = sorted(file for file in temporary.rglob("*") if file.is_file())
        for file in written:
            synchronise(file)
        lines = [f"{_sha256(file)}  {file.relative_to(temporary).as_posix()}\n" for file in written]
        with replacing(temporary / _DIGESTS) as digests:
            digests.write_text("".join(lines), encoding="utf-8")
        for folder in [*(folder for folder in temporary.rglob("*") if folder.is_dir()), temporary]:
            synchronise(folder)
        if path.exists():
            remove(path)
        temporary.rename(path)
        synchronise(path.parent)


def _damage_of_folder(path: Path) -> str | None:
    try:
        lines = (path / _DIGESTS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return f"its digests cannot be read ({error})"
    for digest, _, name in (line.partition("  ") for line in lines):
        if not (path / name).is_file():
            return f"{name} is missing"
        if _sha256(path / name) != digest:
            return f"the sha256 of {name} is not the one that was noted when it was written"
    return None


def _digest_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _expected_bytes(path: Path) -> int | None:
    """Return how long the file says that it is: its header (length, JSON) tells where each tensor ends."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(min(length, path.stat().st_size)))
            return 8 + length + max((entry["data_offsets"][1] for name, entry in header.items() if name[0] != "_"))
        except (ValueError, LookupError, TypeError, AttributeError):  # the header itself is damaged
            return None


class TreeFiles(CheckpointIO):
    """Has Lightning keep checkpoints with `write` and `read`. Only rank 0 reads, and tells the others."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint; Lightning asks rank 0 only."""
        write(checkpoint, Path(path))

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return the checkpoint in `path`, in every rank."""
        several = dist.is_initialized() and dist.get_world_size() > 1
        found = [read(Path(path)) if not several or dist.get_rank() == 0 else None]
        if several:
            dist.broadcast_object_list(found)
        assert found[0] is not None
        return found[0]

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint."""
        remove(Path(path))

"""Trees of plain values and tensors in files, without pickle.

A file is written atomically, and its digest after it: a file without a matching digest is incomplete.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from peftlab.storage.atomic import digest_file, replacing
from peftlab.storage.digests import file_sha256
from peftlab.storage.entries import own_folder

_PLAIN = (type(None), bool, int, float, str)


def write(tree: Any, path: Path) -> None:
    """Write `tree` to `path`, and its digest to ``<path>.sha256`` in the format of sha256sum.

    The structure is JSON in the file's metadata. A tensor is stored as the bytes of its storage, named by its place in
    the tree, with dtype, shape, strides and offset in the JSON: tensors that share memory still share it when read, and
    any strided layout is accepted.

    Args:
        tree: dicts (with keys of str or int), lists, tuples, tensors, NumPy arrays, str, bytes, numbers, bools and
            None, nested in any way.
        path: replaced atomically, see `peftlab.storage.atomic.replacing`.

    Raises:
        TypeError: the tree holds another type; says where.
    """
    memory = _Memory()
    structure = json.dumps(_encoded(tree, "tree", memory))
    own_folder(path.parent)
    with replacing(path) as temporary:
        save_file(memory.bytes, temporary, metadata={"tree": structure})
        temporary.chmod(0o644)  # safetensors makes it readable by the owner only
        digest = file_sha256(temporary)
    with replacing(digest_file(path)) as temporary:
        temporary.write_text(f"{digest}  {path.name}\n", encoding="utf-8")


def read(path: Path) -> Any:
    """Return the tree that `write` wrote to `path`; its tensors are on the CPU and own their memory.

    Raises:
        SafetensorError, ValueError, LookupError, TypeError: the file holds no tree.
    """
    with safe_open(path, framework="pt") as file:
        structure = json.loads((file.metadata() or {})["tree"])
        memory = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  # it is no dict
    return _decoded(structure, memory)


class _Memory:
    """The storages of the tensors in a tree: each once, named by the first tensor that uses it."""

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
    """Return the JSON of `value`: a list is a list, and the first key of an object names the type it encodes."""
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
    """Return a tensor over `memory`, after checking that it fits: torch would silently enlarge the storage."""
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

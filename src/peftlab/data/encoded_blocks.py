"""Encodes a large split block by block, into a file of the cache whose arrays are mapped into memory, not read."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from peftlab.data.encoded_cache import file_of, warn_unreadable, warn_unwritable
from peftlab.errors import DiskError
from peftlab.sources import ANOTHER_CACHE
from peftlab.storage.atomic import replacing
from peftlab.tasks.task import Encoded

_DTYPES = {
    "BOOL": "bool",
    **{f"{kind[0].upper()}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
}
"""NumPy's types by their names in safetensors files."""
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

_LONGEST_HEADER = 2**20
_CHUNK = 2**22
"""Bytes that are read at once."""

Blocks = Callable[[], Iterable[Encoded]]
"""Begins to encode a split, block by block."""


def cached_in_blocks(name: str, blocks: Blocks, pointers: Collection[str]) -> Encoded:
    """Return the encoded split called `name` as `peftlab.data.encoded_cache.cached` does, but mapped from its file.

    The files are the same, byte for byte in their arrays. A cache that cannot be written is done without, in memory.

    Args:
        name: the fingerprint of the split.
        blocks: encodes it.
        pointers: see `Task.pointers`.
    """
    path = file_of(name)
    if path.is_file():
        try:
            return _mapped(path, name)
        except (OSError, KeyError, TypeError, ValueError) as error:
            warn_unreadable(path, error)
    try:
        _store(blocks(), path, name, pointers)
        return _mapped(path, name)
    except (DiskError, OSError) as error:
        warn_unwritable(path, error)
    return joined(list(blocks()), pointers)


def joined(blocks: Sequence[Encoded], pointers: Collection[str]) -> Encoded:
    """Return the blocks of a split as one, in memory.

    Args:
        blocks: one or more of them.
        pointers: see `Task.pointers`.
    """
    arrays: dict[str, np.ndarray] = {}
    for key in blocks[0].arrays:
        parts = [block.arrays[key] for block in blocks]
        if key in pointers:
            starts = itertools.accumulate((int(part[-1]) for part in parts[:-1]), initial=0)
            parts = [part[n > 0 :] + start for n, (part, start) in enumerate(zip(parts, starts, strict=True))]
        arrays[key] = np.concatenate(parts)
    lengths = np.concatenate([block.lengths for block in blocks])
    return Encoded(arrays, lengths, blocks[0].padding, _summed(block.counts for block in blocks))


def _summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in counts:
        for key, count in each.items():
            total[key] = total.get(key, 0) + count
    return total


@dataclass
class _Column:
    """An array that grows in a file."""

    file: BinaryIO
    is_pointer: bool
    dtype: np.dtype[Any] | None = None
    shape: list[int] = field(default_factory=list)
    last: int = 0
    """The last value of a pointer."""

    def append(self, array: np.ndarray) -> None:
        """Append `array` along the first axis; a pointer goes on from its last value."""
        first = self.dtype is None
        if self.is_pointer:
            array, self.last = array[not first :] + self.last, self.last + int(array[-1])
        if first:
            self.dtype, self.shape = array.dtype, [0, *array.shape[1:]]
        assert (array.dtype, list(array.shape[1:])) == (self.dtype, self.shape[1:]), "blocks have arrays of one form"
        self.shape[0] += len(array)
        self.file.write(np.ascontiguousarray(array).data)

    @property
    def size(self) -> int:
        """Bytes in the file."""
        assert self.dtype is not None
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes of the file."""
        self.file.seek(0)
        return iter(lambda: self.file.read(_CHUNK), b"")


def _store(blocks: Iterable[Encoded], path: Path, name: str, pointers: Collection[str]) -> None:
    with replacing(path, None, ANOTHER_CACHE) as temporary, ExitStack() as stack:
        columns: dict[str, _Column] = {}
        counts: dict[str, int] = {}
        padding = 0
        for block in blocks:
            for key, array in {**block.arrays, "lengths": block.lengths}.items():
                if key not in columns:  # the file is nameless, and gone with the process
                    file = stack.enter_context(tempfile.TemporaryFile(dir=path.parent))
                    columns[key] = _Column(file, key in pointers)
                columns[key].append(array)
            counts, padding = _summed((counts, block.counts)), block.padding
        parts = {key: (column.dtype, column.shape, column.chunks()) for key, column in columns.items()}
        facts: dict[str, Any] = {"padding": padding, "counts": counts}
        facts["sha256"] = _digest(name, parts, facts)
        order = sorted(columns, key=lambda key: (-columns[key].dtype.itemsize, key))  # type: ignore[union-attr]
        with temporary.open("wb") as whole:
            whole.write(_header({key: columns[key] for key in order}, facts))
            for key in order:
                columns[key].file.seek(0)
                shutil.copyfileobj(columns[key].file, whole, _CHUNK)


def _header(columns: Mapping[str, _Column], facts: Mapping[str, Any]) -> bytes:
    """Return the beginning of a safetensors file whose arrays follow in the order of `columns`."""
    entries: dict[str, Any] = {"__metadata__": {"facts": json.dumps(facts)}}
    end = 0
    for key, column in columns.items():
        begin, end = end, end + column.size
        entries[key] = {"dtype": _NAMES[str(column.dtype)], "shape": column.shape, "data_offsets": [begin, end]}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)  # arrays are aligned
    return len(text).to_bytes(8, "little") + text


def _digest(name: str, parts: Mapping[str, tuple[Any, Sequence[int], Iterable[bytes]]], facts: Any) -> str:
    """Return the digest that `encoded_cache` stores: of type, shape and bytes of each array, here read in chunks."""
    arrays = hashlib.sha256()
    for key, (dtype, shape, chunks) in sorted(parts.items()):
        arrays.update(f"{key} torch.{dtype} {tuple(shape)}\n".encode())
        for chunk in chunks:
            arrays.update(chunk)
    return hashlib.sha256(json.dumps([name, facts, arrays.hexdigest()]).encode()).hexdigest()


def _mapped(path: Path, name: str) -> Encoded:
    """Return an encoded split whose arrays are pages of the file `path`, which come and go as they are used.

    Raises:
        ValueError, KeyError, TypeError, OSError: it is not what was stored under this name.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _LONGEST_HEADER:
            raise ValueError("it has no header")
        entries = json.loads(file.read(size))
        facts = json.loads(entries.pop("__metadata__")["facts"])
        parts = {}
        for key, entry in entries.items():
            begin, end = entry["data_offsets"]
            chunks = _read(file, 8 + size + begin, 8 + size + end)
            parts[key] = (np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"]), chunks)
        if facts.pop("sha256") != _digest(name, parts, facts):
            raise ValueError("it does not hold what was written under this name")
        arrays = {
            key: _map(file, dtype, shape, 8 + size + entries[key]["data_offsets"][0])
            for key, (dtype, shape, _) in parts.items()
        }
    return Encoded(arrays, arrays.pop("lengths"), facts["padding"], facts["counts"])


def _read(file: BinaryIO, begin: int, end: int) -> Iterator[bytes]:
    for place in range(begin, end, _CHUNK):
        file.seek(place)
        yield file.read(min(_CHUNK, end - place))


def _map(file: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int) -> np.ndarray:
    if not np.prod(shape):  # nothing cannot be mapped
        return np.zeros(shape, dtype)
    # copies on write: tensors of arrays that cannot be written would be warned of
    return np.asarray(np.memmap(file, dtype, "c", offset, shape))

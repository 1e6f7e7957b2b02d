"""The container of llama.cpp's models, GGUF (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).

Layout, little-endian: ``GGUF``, the version, the numbers of tensors and of settings, the settings, a directory of
tensors, padding, the tensors. Nothing but the settings is read into memory: tensors are views of the mapped file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from mmap import mmap
from typing import Any, NamedTuple

import numpy as np

from peftlab.converting.blocks import BLOCK, Q4_0, Q4_1, Q8_0

_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_SCALARS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
"""The types of settings: numbers, by the characters of `struct`, texts, and arrays of either."""

_TENSORS: dict[int, np.dtype[Any]] = {0: np.dtype("<f4"), 1: np.dtype("<f2"), 2: Q4_0, 3: Q4_1, 8: Q8_0}
"""The types of tensors that are read, by their numbers."""
_NAMES = "F32 F16 Q4_0 Q4_1 Q8_0"


class Tensor(NamedTuple):
    """A tensor as it is stored."""

    shape: tuple[int, ...]
    stored: np.ndarray
    """Its values, of `shape`; or its blocks, with as many fewer columns as a block has values."""


@dataclass(frozen=True)
class Contents:
    """The contents of a file."""

    settings: dict[str, Any]
    tensors: dict[str, Tensor]


def read(data: mmap) -> Contents:
    """Return the contents of the mapped file `data`.

    Raises:
        struct.error: it ends too early.
        ValueError: it is of another format or version, or has settings or tensors of types that are not read.
    """
    reader = _Reader(data)
    magic, version = data[:4], reader.number("I")
    if magic != _MAGIC or version not in _VERSIONS:
        raise ValueError(f"it begins with {magic!r}, version {version}, not with {_MAGIC!r}, version 2 or 3")
    tensors, settings = reader.number("Q"), reader.number("Q")
    values = {reader.text(): reader.value(reader.number("I")) for _ in range(settings)}
    entries = [reader.entry() for _ in range(tensors)]
    alignment = int(values.get("general.alignment", 32))
    start = -(-reader.at // alignment) * alignment
    return Contents(values, {entry.name: _tensor(data, entry, start) for entry in entries})


class _Entry(NamedTuple):
    """A tensor in the directory."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


class _Reader:
    """Reads one thing after the other."""

    def __init__(self, data: mmap) -> None:
        self.at = len(_MAGIC)
        self._data = data

    def number(self, kind: str) -> Any:
        return self.numbers(kind, 1)[0]

    def numbers(self, kind: str, count: int) -> tuple[Any, ...]:
        form = f"<{count}{kind}"
        start, self.at = self.at, self.at + struct.calcsize(form)
        return struct.unpack_from(form, self._data, start)

    def text(self) -> str:
        length = self.number("Q")
        start, self.at = self.at, self.at + length
        if self.at > len(self._data):
            raise ValueError(f"it ends in a text of {length} bytes")
        return self._data[start : self.at].decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self.text()
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind != _ARRAY:
            raise ValueError(f"a setting has the type {kind}, which is unknown")
        of, count = self.number("I"), self.number("Q")
        if of == _TEXT:
            return [self.text() for _ in range(count)]
        if of not in _SCALARS:
            raise ValueError(f"an array has elements of the type {of}; numbers and texts are read")
        if count > len(self._data):
            raise ValueError(f"it ends in an array of {count} elements")
        return list(self.numbers(_SCALARS[of], count))

    def entry(self) -> _Entry:
        name = self.text()
        shape = self.numbers("Q", min(self.number("I"), 8))[::-1]  # the file names the fastest axis first
        return _Entry(name, shape, self.number("I"), self.number("Q"))


def _tensor(data: mmap, entry: _Entry, start: int) -> Tensor:
    if entry.kind not in _TENSORS:
        raise ValueError(f"the tensor {entry.name} is of the type {entry.kind} of ggml; {_NAMES} are read")
    dtype = _TENSORS[entry.kind]
    width = 1 if dtype.names is None else BLOCK
    if not entry.shape or entry.shape[-1] % width:
        raise ValueError(f"the tensor {entry.name} has the shape {entry.shape}, in blocks of {width}")
    shape = (*entry.shape[:-1], entry.shape[-1] // width)
    count = int(np.prod(shape, dtype=object))
    stored = np.frombuffer(data, dtype, count, start + entry.offset)
    return Tensor(entry.shape, stored.reshape(shape))

"""The weights of an ONNX file (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto), and what multiplies by them.

A file is one message of Protocol Buffers. The few fields that matter are read from it as it is mapped into memory:
weights are views of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from mmap import mmap
from typing import Any, NamedTuple

import numpy as np

_FLOAT, _UINT8, _INT8 = 1, 2, 3
_DTYPES: dict[int, np.dtype[Any]] = {_FLOAT: np.dtype("<f4"), _UINT8: np.dtype("u1"), _INT8: np.dtype("i1")}
"""The types of weights that are read, by their numbers in the format."""

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
"""How a field is stored."""


class _Span(NamedTuple):
    """Where the content of a field lies."""

    start: int
    end: int


class Node(NamedTuple):
    """An operation of the graph."""

    name: str
    kind: str
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """What a file computes."""

    nodes: list[Node] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    """The weights, fp32 or 8 bits, by name."""


def read(data: mmap) -> Graph:
    """Return the graph of the mapped file `data`; weights of types that are not read are left out.

    Raises:
        ValueError: it is no ONNX file, or ends too early.
    """
    graph = Graph()
    spans = [span for number, span in _fields(data, _Span(0, len(data))) if number == 7 and isinstance(span, _Span)]
    if len(spans) != 1:
        raise ValueError("it holds no graph")
    for number, span in _fields(data, spans[0]):
        if number == 1 and isinstance(span, _Span):
            graph.nodes.append(_node(data, span))
        elif number == 5 and isinstance(span, _Span):
            name, weight = _weight(data, span)
            if weight is not None:
                graph.weights[name] = weight
    return graph


def _node(data: mmap, span: _Span) -> Node:
    texts: dict[int, list[str]] = {}
    for number, value in _fields(data, span):
        if number in (1, 3, 4) and isinstance(value, _Span):
            texts.setdefault(number, []).append(_text(data, value))
    return Node("".join(texts.get(3, [])), "".join(texts.get(4, [])), tuple(texts.get(1, [])))


def _weight(data: mmap, span: _Span) -> tuple[str, np.ndarray | None]:
    """Return the name and the values of a weight; None where it is of a type that is not read."""
    shape, kind, name = [], 0, ""
    stored: list[np.ndarray] = []
    for number, value in _fields(data, span):
        if number == 1:
            shape += list(_varints(data, value)) if isinstance(value, _Span) else [value]
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 8 and isinstance(value, _Span):
            name = _text(data, value)
        elif number == 5:  # small integers, each a number of its own
            numbers = list(_varints(data, value)) if isinstance(value, _Span) else [value]
            stored.append(np.array(numbers, np.uint64).astype(np.uint8))
        elif number in (4, 9) and isinstance(value, _Span):  # single numbers, or all values as bytes
            stored.append(np.frombuffer(data, np.uint8, value.end - value.start, value.start))
    if kind not in _DTYPES:
        return name, None
    content: np.ndarray = stored[0] if len(stored) == 1 else np.concatenate([np.empty(0, np.uint8), *stored])
    values = content.view(_DTYPES[kind])
    if values.size != prod(shape):
        raise ValueError(f"the weight {name} has {values.size} values, not {shape}")
    return name, values.reshape(shape)


def _text(data: mmap, span: _Span) -> str:
    return data[span.start : span.end].decode("utf-8")


def _fields(data: mmap, span: _Span) -> Iterator[tuple[int, int | _Span]]:
    """Yield the number of each field of a message, and its value: an integer, or where its content lies."""
    at = span.start
    while at < span.end:
        key, at = _varint(data, at, span.end)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at, span.end)
            yield number, value
            continue
        if kind == _BYTES:
            length, at = _varint(data, at, span.end)
        elif kind in (_FIXED_32, _FIXED_64):
            length = 4 if kind == _FIXED_32 else 8
        else:
            raise ValueError(f"a field has the type {kind}, which is unknown")
        if at + length > span.end:
            raise ValueError(f"it ends in a field of {length} bytes")
        yield number, _Span(at, at + length)
        at += length


def _varints(data: mmap, span: _Span) -> Iterator[int]:
    at = span.start
    while at < span.end:
        value, at = _varint(data, at, span.end)
        yield value


def _varint(data: mmap, at: int, end: int) -> tuple[int, int]:
    """Return the integer at a position, 7 bits in a byte and the low ones first, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise ValueError("it ends in a number")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number has more than 64 bits")

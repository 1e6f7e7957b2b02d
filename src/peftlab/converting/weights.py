"""Write weights as safetensors, a block of rows at a time, so that no whole tensor need be in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROWS = 8192
"""Rows in a block."""


@dataclass(frozen=True)
class Weight:
    """A tensor that is computed when it is written."""

    shape: tuple[int, ...]
    rows: Callable[[int, int], np.ndarray]
    """Returns its rows from a first one up to, but without, a last one, in fp32."""

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the tensor, at most `ROWS` rows at a time."""
        for first in range(0, self.shape[0], ROWS):
            yield self.rows(first, min(first + ROWS, self.shape[0]))


def write(weights: Mapping[str, Weight], path: Path) -> None:
    """Write `weights` to a file of safetensors in fp32.

    The format's own library holds all tensors in memory, twice. The bytes depend on nothing but the weights: names are
    sorted, and there is no time in the file.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, weight in sorted(weights.items()):
        start, end = end, end + 4 * int(np.prod(weight.shape))
        header[name] = {"dtype": "F32", "shape": list(weight.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors begin at a multiple of their size
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for _, weight in sorted(weights.items()):
            for block in weight.blocks():
                file.write(np.ascontiguousarray(block, dtype="<f4").data)

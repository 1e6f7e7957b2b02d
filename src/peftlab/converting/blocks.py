"""Weights in blocks of 32 small integers with scales of their own, as llama.cpp defined them, to fp32.

Each value is a product of a half-precision scale and a small integer, plus a half-precision offset in Q4_1. A product
is exact in fp32 and a sum is rounded once, so that every machine gets the same bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 32
"""Values in a block."""

Q4_0 = np.dtype([("scale", "<f2"), ("values", "u1", BLOCK // 2)])
"""A scale and 32 values of 4 bits, less 8; the first half of them in the low bits."""

Q4_1 = np.dtype([("scale", "<f2"), ("offset", "<f2"), ("values", "u1", BLOCK // 2)])
"""A scale, an offset and 32 values of 4 bits; the first half of them in the low bits."""

Q8_0 = np.dtype([("scale", "<f2"), ("values", "i1", BLOCK)])
"""A scale and 32 values of 8 bits."""

Floats = NDArray[np.float32]


def from_blocks(blocks: np.ndarray) -> Floats:
    """Return the values of `blocks` in one of these types, shape (..., blocks), in fp32, shape (..., 32 * blocks)."""
    integers = blocks["values"]
    if integers.dtype == np.uint8:  # two in a byte
        integers = np.concatenate([integers & 15, integers >> 4], axis=-1)
    values = integers.astype(np.float32) - np.float32(8 if blocks.dtype == Q4_0 else 0)
    values *= blocks["scale"].astype(np.float32)[..., None]
    if blocks.dtype == Q4_1:
        values += blocks["offset"].astype(np.float32)[..., None]
    return values.reshape(*blocks.shape[:-1], blocks.shape[-1] * BLOCK)

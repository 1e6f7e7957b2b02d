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
"""A scale and 32 values of 4 bits; the first half of them in the low bits."""

Floats = NDArray[np.float32]


def from_q4_0(blocks: np.ndarray) -> Floats:
    """Return the values of Q4_0 `blocks`, shape (..., blocks), in fp32, shape (..., 32 * blocks)."""
    low, high = blocks["values"] & 15, blocks["values"] >> 4
    integers = np.concatenate([low, high], axis=-1).astype(np.float32) - np.float32(8)
    values = integers * blocks["scale"].astype(np.float32)[..., None]
    return values.reshape(*blocks.shape[:-1], blocks.shape[-1] * BLOCK)

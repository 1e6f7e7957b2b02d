"""The precision in which a device multiplies matrices in fp32, a setting of the whole process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def set_products(tf32: bool) -> None:
    """Multiply in TF32 where the device can, or else in fp32."""
    precision = "high" if tf32 else "highest"
    if torch.get_float32_matmul_precision() != precision:
        torch.set_float32_matmul_precision(precision)


@contextmanager
def products(tf32: bool) -> Iterator[None]:
    """Multiply so in this context."""
    before = torch.get_float32_matmul_precision()
    set_products(tf32)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)

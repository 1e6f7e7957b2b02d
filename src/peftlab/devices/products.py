"""How a device multiplies matrices, settings of the whole process: fp32 in which precision, and on a GPU in an order.

A run, and a finished run that answers, call one of the functions before the first product of the process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""The variable that gives cuBLAS a workspace of fixed size, with which it gives the same bits every time."""


def set_products(tf32: bool) -> None:
    """Multiply in TF32 where the device can, or else in fp32."""
    # torch looks at it once, with the first product on a GPU: a later training would be refused as not deterministic
    os.environ.setdefault(_WORKSPACE, ":4096:8")
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

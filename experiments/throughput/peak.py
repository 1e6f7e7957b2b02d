"""The most operations a second that a device reaches: a large product of two matrices.

python experiments/throughput/peak.py cpu|cuda
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
import time

import torch

SIZES = {"cpu": (256, 512, 1024, 2048), "cuda": (1024, 4096, 8192)}
PRECISIONS = (torch.float32, torch.bfloat16)
PACKAGES = ("lightning", "transformers", "peft", "accelerate", "torchmetrics", "numpy")
"""Packages whose versions are told."""


def peak(device: str) -> float:
    """Return the operations a second of the best precision and size.

    The sizes begin with a small one, and a precision that is clearly the slower one there goes no further: without
    instructions for bf16, a large product in it takes minutes.
    """
    precisions = PRECISIONS
    for size in SIZES[device]:
        rates = {precision: _rate(size, precision, device) for precision in precisions}
        precisions = tuple(each for each in precisions if 2 * rates[each] > max(rates.values()))
    return max(rates.values())


def _rate(size: int, precision: torch.dtype, device: str) -> float:
    """Return the operations a second of a product of two random square matrices, the best of six.

    On a GPU ten products are launched at once, and it is waited for the last.
    """
    products = 10 if device == "cuda" else 1
    a = torch.randn(size, size, device=device).to(precision)
    times = []
    for _ in range(6):
        wait_for(device)
        began = time.perf_counter()
        for _ in range(products):
            a @ a
        wait_for(device)
        times.append(time.perf_counter() - began)
    return products * 2 * size**3 / min(times)


def wait_for(device: str) -> None:
    """Wait until the device is through with what has been launched."""
    if device == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    (device,) = sys.argv[1:]
    print(f"{machine(device)}: {peak(device) / 1e12:.3g} TFLOP/s")
    if device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        free, total = torch.cuda.mem_get_info()
        memory = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        print(f"compute capability {major}.{minor}, CUDA {torch.version.cuda}, {memory}")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    print(f"Python {platform.python_version()}, " + ", ".join(versions))


def machine(device: str) -> str:
    """Return what a figure has to be told with."""
    name = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads of the CPU"
    return f"{name}, torch {torch.__version__}"


if __name__ == "__main__":
    main()

"""What else than its inputs decides the last bits of a computation."""

from __future__ import annotations

from typing import Any

import peft
import torch
import transformers


def rounding_of(device: torch.device) -> list[Any]:
    """Return what the last bits of a computation on `device` depend on besides its inputs, as JSON values."""
    on_gpu = device.type == "cuda"
    return [
        torch.cuda.get_device_name(device) if on_gpu else torch.backends.cpu.get_cpu_capability(),
        torch.get_num_threads(),
        [package.__version__ for package in (torch, transformers, peft)],
    ]

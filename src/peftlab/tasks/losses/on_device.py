"""Constants of a loss on the device that computes it."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=16)
def on_device(numbers: tuple[float, ...], device: torch.device) -> Tensor:
    """Return `numbers` as a tensor in fp32, sent to the device once: a step would wait for it."""
    with torch.inference_mode(mode=False):  # an evaluation may ask first, and a training needs an ordinary tensor
        return torch.tensor(numbers, dtype=torch.float32, device=device)

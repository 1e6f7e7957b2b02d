"""What a GPU does in ten steps of a training: its kernels, how they are launched, and how often the host waits."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

from clock import Reading
from peak import wait_for
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

STEPS = 10
TOLD = 15
"""Kernels that are listed."""


class Window:
    """Profiles ten steps of a training near its end; call it after every step.

    By then every shape has come once. The profiler is started before the training, too, and ended at once, so that
    what is captured into a graph is captured with its hooks in place.

    Args:
        steps: those of the whole training.
        epochs: passes over the texts.
        device: where it trains, ``cpu`` or ``cuda``; of a CPU only the time is told.
    """

    def __init__(self, steps: int, epochs: int, device: str) -> None:
        self.first, self.device = steps - STEPS - 2, device
        if self.first < 1:
            raise ValueError(f"{steps} steps are too few: take more examples or epochs")
        self.taken = 0
        self.activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
        self.figures: dict[str, float] = {}
        """Milliseconds and numbers a step."""
        with profile(activities=self.activities):
            pass

    def __call__(self) -> None:
        self.taken += 1
        if self.taken == self.first:
            wait_for(self.device)
            self.profile = profile(activities=self.activities)
            self.profile.__enter__()
            self.began = Reading.now()
        elif self.taken == self.first + STEPS:
            wait_for(self.device)
            took = Reading.now().since(self.began)
            self.profile.__exit__(None, None, None)
            self.figures = {"profiled_ms": 1000 * took.wall / STEPS, **of_device(self.profile.events())}


def of_device(events: Any) -> dict[str, float]:
    """Return what `events`, of ten steps, say of the device, a step; list the dearest kernels on the error output."""
    kernels, calls = Counter[str](), Counter[str]()
    milliseconds, count = 0.0, 0
    for event in events:
        if event.device_type == DeviceType.CPU:
            calls[event.name] += 1
        elif not event.is_user_annotation:
            kernels[event.name] += event.self_device_time_total
            milliseconds += event.self_device_time_total / 1000
            count += 1
    for name, microseconds in kernels.most_common(TOLD):
        print(f"{microseconds / 1000 / STEPS:8.3f} ms a step  {name[:100]}", file=sys.stderr)
    return {
        "kernel_ms": milliseconds / STEPS,
        "kernels": count / STEPS,
        "launches": sum(n for name, n in calls.items() if "Launch" in name) / STEPS,
        "waits": sum(n for name, n in calls.items() if "Synchronize" in name) / STEPS,
    }

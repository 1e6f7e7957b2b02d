"""NVIDIA's Multi-Process Service, with which kernels of several processes run on a GPU at the same time. No torch.

The CUDA driver of a process joins a daemon by itself where there is one; without, the processes on a GPU take turns.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

PIPES, DEFAULT_PIPES = "CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"  # noqa: S108  # where the driver looks
"""The variable that names the folder of a daemon's pipes, and the folder where it is not set."""

_DAEMON = "nvidia-cuda-mps-control.pid"
"""The file with the id of the daemon's process, which it removes when it ends, unlike its sockets."""
START = "nvidia-cuda-mps-control -d"
"""The command that starts a daemon."""


def told(environment: Mapping[str, str]) -> str:
    """Return whether an MPS daemon is there for processes with this `environment`, as the end of a sentence."""
    folder = Path(environment.get(PIPES) or DEFAULT_PIPES)
    try:
        process = int((folder / _DAEMON).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return (
            f"in turns: there is no MPS daemon in {folder}. '{START}' starts one; their kernels then run side by side"
        )
    if _is_running(process):
        return f"side by side, through the MPS daemon in {folder}"
    return (
        f"in turns unless the MPS daemon of {folder}, process {process}, runs outside this container: "
        f"here there is no such process. '{START}' starts one"
    )


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except PermissionError:  # of another user
        return True
    except (OSError, OverflowError):
        return False
    return process > 0

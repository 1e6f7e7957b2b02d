"""CUDA graphs: the work of a step is recorded once, and then launched as a whole instead of kernel by kernel.

The recording itself has not run on a card yet: it follows the documentation and the sources of torch 2.13, and
``tests/slow/test_graphs.py`` is what to run first on one. On a CPU nothing is recorded, and the work is done again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.memory import is_oom_error

from peftlab.seams.pytorch import end_recording_memory

Work = Callable[[], None]
"""Work on tensors that stay where they are, which leaves its results in such tensors."""


class NotRecordedError(Exception):
    """The work cannot be recorded; the message says why. It has changed nothing."""

    def __init__(self, reason: str, out_of_memory: bool = False) -> None:
        super().__init__(reason)
        self.out_of_memory = out_of_memory
        """Whether memory ran out: less work might be recorded."""


class Graphs:
    """Records work on one device. The graphs share their memory, because only one of them runs at a time.

    Args:
        device: where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream: torch.cuda.Stream | None = None
        self._pool: Any = None
        self._warm = False
        self._failed: list[torch.cuda.CUDAGraph] = []
        """Graphs whose recording failed: torch's allocator may still refer to them."""

    def record(self, work: Work) -> Work:
        """Return what repeats `work`, with new random numbers from the device's generator in every repetition.

        Work that is recorded must neither wait for the device nor draw random numbers on the host. It is done here
        before, which shows both and loads its kernels, and has to leave nothing changed but its results. The random
        generators are restored.

        Raises:
            NotRecordedError: the work cannot be recorded, or fails.
        """
        if self.device.type != "cuda":
            with torch.random.fork_rng(devices=[]):
                self._rehearse(work)
            return work
        current = torch.cuda.current_stream(self.device)
        self._stream = self._stream or torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        self._stream.wait_stream(current)
        try:
            with torch.cuda.stream(self._stream), torch.random.fork_rng(devices=[self.device]):
                self._rehearse(work)
        finally:
            current.wait_stream(self._stream)
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph, failure = torch.cuda.CUDAGraph(), None
        try:
            # "thread_local": other threads may allocate memory meanwhile, such as one that prepares batches
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                work()
        except Exception as error:  # noqa: BLE001  # whatever it is, the step is then taken without a recording
            failure = _not_recorded(error)
        if failure is not None:  # outside the handler, where the error would keep the tensors of its frames
            torch.cuda.set_stream(current)  # torch leaves its own context only where the recording ends well
            graph.reset()  # takes it from the random generator
            end_recording_memory(self.device, self._pool)
            self._failed.append(graph)
            self._pool = None
            raise failure
        return graph.replay

    def _rehearse(self, work: Work) -> None:
        failure = None
        try:
            if not self._warm:  # what is done once may wait, such as moving a regulariser's state to the device
                work()
                self._warm = True
            before = self._of_host()
            with _waiting_forbidden(self.device):
                work()
            if self._of_host() != before:
                failure = NotRecordedError("it draws random numbers on the host, which a recording would repeat")
        except Exception as error:  # noqa: BLE001  # the same: an error of the step itself then comes again
            failure = _not_recorded(error)
        if failure is not None:
            raise failure

    def _of_host(self) -> list[Any]:
        """Return the states of the host's random generators; on a CPU, torch's is the device's own."""
        torchs = torch.get_rng_state().tolist() if self.device.type == "cuda" else None
        numpys = np.random.get_state(legacy=False)["state"]
        return [random.getstate(), numpys["key"].tolist(), numpys["pos"], torchs]


@contextmanager
def _waiting_forbidden(device: torch.device) -> Iterator[None]:
    """Have torch raise an error in this context where work waits for a GPU, as far as torch can tell."""
    if device.type != "cuda":
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _not_recorded(error: Exception) -> NotRecordedError:
    reason = next(iter(str(error).strip().splitlines()), "")
    return NotRecordedError(f"{type(error).__name__}: {reason}", isinstance(error, MemoryError) or is_oom_error(error))

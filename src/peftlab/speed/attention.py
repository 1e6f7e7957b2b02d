"""Which implementation of attention a run uses, and which of torch's kernels it may take on a GPU.

``scaled_dot_product_attention`` chooses among kernels. On recent GPUs it prefers cuDNN's in bf16 and fp16, which plan
for about 0.2 s at each shape that they have not seen, forward and backward: more than a hundred steps of a small model.
Flash and memory-efficient attention start at once at any shape. Flash takes no mask, so that batches with padding get
the memory-efficient one.

What stands here about GPUs follows from torch's sources and from measurements of whole runs. The choice itself has not
been timed on a GPU: ``experiments/throughput/attention.py`` does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Literal

import torch

from peftlab.seams.transformers import masks_always_built

LONG_ROWS = 128
"""Tokens per row up to which attention weights take little memory compared with the rest."""


def preferred_attention(accelerator: str, max_tokens: int) -> Literal["eager", "sdpa"]:
    """Return the better implementation of attention on this kind of device for rows of at most `max_tokens`.

    ``sdpa`` never holds the weights of all pairs of tokens at once: it is faster on GPUs, and needs less memory for
    long rows anywhere. For short rows on a GPU it is still one kernel where ``eager`` starts five or more, each of
    which takes longer to start than to run. On a CPU both take about as long, and ``sdpa`` was slower for short rows on
    some.
    """
    return "sdpa" if accelerator == "gpu" or max_tokens > LONG_ROWS else "eager"


@contextmanager
def attention_kernels(cudnn: bool, one_for_all: bool) -> Iterator[None]:
    """Choose the kernels of ``sdpa`` in this context: in forward passes, and where a backward pass repeats them.

    The choice is the process's, and of contexts that overlap, as those of runs in several threads do, each holds until
    the last one ends.

    Args:
        cudnn: whether cuDNN's are allowed.
        one_for_all: whether a batch without padding gets the kernel of one with padding. Whether there is any is then
            not read from the device, which the host would have to wait for, and all batches of a shape are computed
            alike.
    """
    with ExitStack() as stack:
        if not cudnn:
            stack.enter_context(_WITHOUT_CUDNN.held())
        if one_for_all:
            stack.enter_context(_MASKS_BUILT.held())
        yield


class _Shared:
    """A state of the process that contexts share: the first one enters it, and the last one leaves it."""

    def __init__(self, enter: Callable[[], AbstractContextManager[None]]) -> None:
        self._enter = enter
        self._lock, self._count, self._state = threading.Lock(), 0, ExitStack()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have the state in this context."""
        with self._lock:
            if self._count == 0:
                self._state.enter_context(self._enter())
            self._count += 1
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1
                if self._count == 0:
                    self._state.close()


@contextmanager
def _without_cudnn() -> Iterator[None]:
    before = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


_WITHOUT_CUDNN, _MASKS_BUILT = _Shared(_without_cudnn), _Shared(masks_always_built)

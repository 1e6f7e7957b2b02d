"""Attention alone, forward and backward, by its implementation and kernel, at the shapes of static batches.

python experiments/throughput/attention.py [--device cuda|cpu] [--rows N] [--heads N] [--size N] [TOKENS ...]

What `peftlab.speed.attention` chooses by rule, timed: for each number of tokens the milliseconds of the first pass,
which plans where a kernel does so, and of later ones (medians; contenders in turn, so that whatever else the machine
does meets all). Half of the rows have padding, so that there is a mask, which flash does not take: it gets none. Under
"graph" the same passes are replayed from a CUDA graph, where starting kernels costs nothing. In bf16 on a GPU, with the
dropout of BERT. On a CPU only what is there is timed, which rehearses this.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

DROPOUT = 0.1
KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
Pass = Callable[[], Tensor]
"""One forward pass; the backward pass of its result follows."""


def eager(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Return attention as BERT's eager implementation computes it; `mask` is added to the scores."""
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + mask
    return F.dropout(scores.softmax(-1), DROPOUT) @ value


def contenders(rows: int, heads: int, tokens: int, size: int, device: torch.device) -> dict[str, Pass]:
    """Return the forward passes over one batch, by name."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    states = [torch.randn(rows, heads, tokens, size, device=device, dtype=dtype, requires_grad=True) for _ in range(3)]
    real = torch.ones(rows, 1, 1, tokens, dtype=torch.bool, device=device)
    real[: rows // 2, ..., tokens - tokens // 8 - 1 :] = False
    allowed = real.expand(rows, 1, tokens, tokens)
    added = torch.zeros(rows, 1, tokens, tokens, device=device, dtype=dtype).masked_fill(
        ~allowed, torch.finfo(dtype).min
    )

    def by(kernel: SDPBackend, mask: Tensor | None) -> Pass:
        def attend() -> Tensor:
            with sdpa_kernel(kernel):
                return F.scaled_dot_product_attention(*states, attn_mask=mask, dropout_p=DROPOUT)

        return attend

    passes = {name: by(kernel, None if name == "flash" else allowed) for name, kernel in KERNELS.items()}
    return {"eager": lambda: eager(*states, added), **passes}


def milliseconds(act: Callable[[], object], device: torch.device) -> float:
    """Return how long `act` takes until the device has finished."""
    began = time.perf_counter()
    act()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - began)


def graph_of(act: Callable[[], object]) -> Callable[[], object]:
    """Return the replay of `act`, captured after three passes on a stream beside."""
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            act()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        act()
    return graph.replay


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cuda", "cpu"])
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--size", type=int, default=32, help="of a head (default 32, as MiniLM's)")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("tokens", type=int, nargs="*", default=[16, 32, 64, 128, 256, 512])
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    print(f"{'tokens':>6}  {'':10}{'first':>10}{'later':>10}{'graph':>10}   milliseconds, forward and backward")
    for tokens in chosen.tokens:
        passes = contenders(chosen.rows, chosen.heads, tokens, chosen.size, device)
        for name, figures in timed(passes, chosen.rounds, device).items():
            shown = "".join(f"{figure:10.3f}" if isinstance(figure, float) else f"  {figure}" for figure in figures)
            print(f"{tokens:6}  {name:10}{shown}", flush=True)


def timed(passes: dict[str, Pass], rounds: int, device: torch.device) -> dict[str, list[float | str]]:
    """Return by contender how long its first pass takes, a later one, and a replayed one; or why it takes none."""
    figures: dict[str, list[float | str]] = {}
    turns: list[tuple[str, Callable[[], object], list[float]]] = []
    for name, attend in passes.items():

        def act(attend: Pass = attend) -> None:
            attend().sum().backward()

        figures[name] = []
        try:
            figures[name].append(milliseconds(act, device))
            turns.append((name, act, []))
            if device.type == "cuda":
                turns.append((name, graph_of(act), []))
        except RuntimeError as error:
            figures[name].append(str(error).strip().splitlines()[0][:80])
    for _ in range(rounds):
        for _, act, spent in turns:
            spent.append(milliseconds(act, device))
    for name, _, spent in turns:
        figures[name].append(statistics.median(spent))
    return figures


if __name__ == "__main__":
    main()

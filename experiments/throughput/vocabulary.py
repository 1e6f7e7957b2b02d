"""Memory and time of the loss over a vocabulary: in chunks, beside the product of all tokens.

python experiments/throughput/vocabulary.py [--device cpu|cuda] [--rows 2] [--tokens 1024] [--labelled 0.5] ...

The sizes are SmolLM2-135M's, frozen head and trained head apart. Each way runs in a process of its own: on a CPU, its
memory is what the process grows by at its peak. Times are the best of the rounds, forward and backward pass together;
on a CPU they are the processor's own, which other processes do not lengthen much.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import torch
from torch import nn

from peftlab.devices.peak_memory import peak_memory
from peftlab.tasks.losses.token_losses import token_losses
from peftlab.tasks.outputs.deferred_logits import DeferredLogits

WAYS = ("full", "chunks")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--vocabulary", type=int, default=49152)
    parser.add_argument("--hidden", type=int, default=576)
    parser.add_argument("--labelled", type=float, default=1.0, help="share of the tokens that have a label")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", nargs="*", default=["fp32", "bf16"])
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # way, head and precision, in a process of its own
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(measured(chosen, *chosen.one)))
        return
    print(
        f"{chosen.rows} x {chosen.tokens} tokens, {chosen.labelled:.0%} with a label, {chosen.vocabulary:,} words, "
        f"hidden {chosen.hidden}, {chosen.device}, torch {torch.__version__}"
    )
    for precision in chosen.precisions:
        for head in ("frozen", "trained"):
            full, chunks = (alone(way, head, precision) for way in WAYS)
            memory, time = full["mib"] / chunks["mib"], full["ms"] / chunks["ms"]
            print(
                f"{precision}, {head} head: full {full['mib']:.0f} MiB, {full['ms']:.0f} ms; chunks "
                f"{chunks['mib']:.0f} MiB, {chunks['ms']:.0f} ms; {memory:.1f} x less memory, {time:.2f} x as fast; "
                f"losses differ by {abs(full['loss'] / chunks['loss'] - 1):.0e}",
                flush=True,
            )


def alone(*one: str) -> dict[str, float]:
    """Return what a new process measures, with the same arguments."""
    done = subprocess.run([sys.executable, *sys.argv, "--one", *one], check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def measured(chosen: argparse.Namespace, way: str, head: str, precision: str) -> dict[str, float]:
    """Return the MiB that the loss needs beside its inputs, the milliseconds that it takes, and its mean."""
    torch.manual_seed(0)
    layer = nn.Linear(chosen.hidden, chosen.vocabulary, bias=False, device=chosen.device)
    layer.requires_grad_(head == "trained")
    hidden = torch.randn(chosen.rows, chosen.tokens, chosen.hidden, device=chosen.device, requires_grad=True)
    labels = torch.randint(chosen.vocabulary, (chosen.rows, chosen.tokens), device=chosen.device)
    labels[:, : round((1 - chosen.labelled) * chosen.tokens)] = -100
    learnt = int((labels != -100).sum())
    autocast = torch.autocast(chosen.device, torch.bfloat16, enabled=precision == "bf16")

    def step() -> float:
        with autocast:
            logits = layer(hidden) if way == "full" else DeferredLogits(hidden, layer, layer.forward)
            loss = token_losses(logits, labels, learnt).sum() / learnt
        loss.backward()
        hidden.grad = layer.weight.grad = None
        return loss.item()

    (layer(hidden[:1, :1]).sum() + hidden.sum()).backward()  # what only a first pass does
    hidden.grad = layer.weight.grad = None
    clock = time.perf_counter if chosen.device == "cuda" else time.process_time
    before, times, loss = memory(chosen.device), list[float](), 0.0
    for _ in range(chosen.rounds):
        began = clock()
        loss = step()  # it reads the loss, so that it waits for a GPU
        times.append(clock() - began)
    return {"mib": memory(chosen.device) - before, "ms": 1000 * min(times), "loss": loss}


def memory(device: str) -> float:
    """Return the most MiB so far."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return peak_memory() / 2**20


if __name__ == "__main__":
    main()

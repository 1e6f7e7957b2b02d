"""How fast training is beside other ways to do the same: ratios from interleaved rounds of new processes.

python experiments/throughput/measure.py [--texts conll|bbc|base|tiny] [--method lora|full|head]
    [--device auto|cpu|cuda] [--examples N] [--epochs N] [--rounds N] [--kernels] [--to FILE]
    [--limit SECONDS] [--with KEY=VALUE]... [NAME ...]

Each contender fine-tunes the same model on the same random choice of texts for whole epochs, since batches grouped by
length are not alike: MiniLM on sentences of CoNLL-2003 for entities, about 20 tokens, or on BBC articles for topics,
about 400 of at most 512; a BERT-base with random weights on made sentences of 128 tokens, in batches of 32; or a tiny
one, to try the script. NAME chooses contenders; one in quotes with KEY=VALUE after it ("peftlab trainer.compile=true")
is a variant. Each round has a seed of its own, 0, 1, ...

Told are medians over the rounds: samples/s, real tokens/s, the share of this device's peak that goes into products of
real tokens with weights (attention's own products, a fifth more at 512 tokens, are left out), the most memory; "start",
seconds from a new process to the end of its first step; then F1 on validation (of entities; macro over the topics) as
mean and standard deviation over the seeds, and the ratio of the first contender's samples/s to the others' in the same
round, with its range. Of several epochs, the last is told by itself, when nothing is new to the device any more:
samples/s, share of the peak, and milliseconds a step, by the clock and of the processor in the thread that trains
(which also counts while that waits for a GPU).

With --kernels it is told instead what a GPU does in ten late steps: milliseconds of its kernels a step, their number,
the launches, and how often the host waits; and on the error output the dearest kernels. Wants `pip install
"peftlab[bench]"`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from contenders import CONTENDERS, METHODS, STARTED, TEXTS, Laps, Work
from kernels import Window
from peak import machine, peak

from peftlab.devices import openmp

Figures = dict[str, float]
Rounds = dict[str, list[Figures]]
"""What was told of each contender in each round."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contenders", nargs="*", metavar="NAME", default=list(CONTENDERS), help=", ".join(CONTENDERS))
    parser.add_argument("--texts", choices=TEXTS, default="conll")
    parser.add_argument("--method", choices=METHODS, default="lora")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU, if there is one"
    )
    parser.add_argument("--examples", type=int, help="training texts; by default 1600 sentences or 320 articles")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kernels", action="store_true", help="what the GPU does, in one round")
    parser.add_argument("--to", type=Path, help="a file that figures are added to as they come, a line of JSON each")
    parser.add_argument("--with", action="append", default=[], dest="overrides", metavar="KEY=VALUE", help="for all")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="for each contender and round; it fails then")
    parser.add_argument("--within", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    chosen = parser.parse_args()
    chosen.examples = chosen.examples or TEXTS[chosen.texts].examples
    if chosen.device == "auto":
        chosen.device = "cuda" if torch.cuda.is_available() else "cpu"
    if chosen.within:
        print(json.dumps(within(chosen)))
        return
    for name in chosen.contenders:
        if name.split()[0] not in CONTENDERS:
            parser.error(f"there is no contender {name.split()[0]}; there are {', '.join(CONTENDERS)}")
    openmp.settle(only_starts=True)  # how threads wait on a busy CPU: alike for all contenders
    rounds: Rounds = {name: [] for name in chosen.contenders}
    with tempfile.TemporaryDirectory() as folder:
        if (made := TEXTS[chosen.texts].made) is not None:
            chosen.overrides = [*made.overrides(Path(folder), chosen.examples), *chosen.overrides]
        for seed in range(chosen.seed, chosen.seed + (1 if chosen.kernels else chosen.rounds)):
            for name in list(rounds):
                try:
                    rounds[name].append(one(name, chosen, seed))
                except subprocess.SubprocessError as error:  # the others are measured all the same
                    why = (
                        "took too long" if isinstance(error, subprocess.TimeoutExpired) else "failed, as it says above"
                    )
                    print(f"{name}: {why}", file=sys.stderr, flush=True)
                    del rounds[name]
    if rounds and chosen.kernels:
        of_device(rounds)
    elif rounds:
        report(rounds, chosen, peak(chosen.device))
    failed = [name for name in chosen.contenders if name not in rounds]
    sys.exit(f"failed: {', '.join(failed)}" if failed else None)


def within(chosen: argparse.Namespace) -> Figures:
    """Return the figures of the one contender that this process is for."""
    ((name, *overrides),) = [shlex.split(each) for each in chosen.contenders]
    more = [*chosen.overrides, *overrides]
    hook = Window if chosen.kernels else Laps
    work = Work(chosen.texts, chosen.method, chosen.device, chosen.examples, chosen.epochs, chosen.seed, more, hook)
    return CONTENDERS[name](work)


def one(name: str, chosen: argparse.Namespace, seed: int) -> Figures:
    """Return the figures of a contender in a new process."""
    options = [f"--{key}={getattr(chosen, key)}" for key in ("texts", "method", "device", "examples", "epochs")]
    options += [f"--seed={seed}", *(f"--with={each}" for each in chosen.overrides)]
    options += ["--kernels"] if chosen.kernels else []
    with tempfile.TemporaryDirectory() as folder:
        ended = subprocess.run(
            [sys.executable, __file__, "--within", *options, "--", name],
            cwd=folder,
            env={"CUDA_VISIBLE_DEVICES": "0"}
            | os.environ
            | {STARTED: str(time.time())},  # the Trainer takes all it sees
            check=True,
            stdout=subprocess.PIPE,
            timeout=chosen.limit,
        )
    figures: Figures = json.loads(ended.stdout.splitlines()[-1])
    if chosen.to is not None:
        what = {"name": name, **{key: getattr(chosen, key) for key in ("texts", "method", "device")}, "seed": seed}
        with open(chosen.to, "a", encoding="utf-8") as file:
            file.write(json.dumps(what | figures) + "\n")
    print(f"{name:34} {figures['samples'] / figures['seconds']:6.1f} samples/s", file=sys.stderr, flush=True)
    return figures


def report(rounds: Rounds, chosen: argparse.Namespace, most: float) -> None:
    count = len(next(iter(rounds.values())))
    print(
        f"{chosen.texts}, {chosen.method}, {chosen.examples} texts, {chosen.epochs} epochs on {machine(chosen.device)}"
    )
    print(f"medians of {count} rounds; the peak is {most / 1e12:.3g} TFLOP/s")
    first = next(iter(rounds))
    columns = f"{'samples/s':>9} {'tokens/s':>9} {'of peak':>8} {'GiB':>6} {'start':>6}  {'F1':15}"
    print(f"{'':34} {columns}  {first} is faster by")
    for name, of in rounds.items():
        ratios = sorted(rate(ours) / rate(it) for ours, it in zip(rounds[first], of, strict=True))
        print(
            f"{name:34} {median(rate, of):9.1f} {median(lambda it: it['tokens'] / it['seconds'], of):9.0f} "
            f"{median(lambda it: share(it, most), of):8.1%} {median(lambda it: it['peak_memory_gib'], of):6.2f} "
            f"{median(lambda it: it['first_step_seconds'], of):6.1f}  {spread([it['f1'] for it in of])}  "
            f"{statistics.median(ratios):6.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )
    if chosen.epochs < 2:
        return
    print(
        f"\n{'the last epoch':34} {'samples/s':>9} {'of peak':>8} {'ms a step':>9} {'of CPU':>9}  {first} is faster by"
    )
    for name, of in rounds.items():
        ratios = sorted(last_rate(ours) / last_rate(it) for ours, it in zip(rounds[first], of, strict=True))
        print(
            f"{name:34} {median(last_rate, of):9.1f} {median(lambda it: last_share(it, most), of):8.1%} "
            f"{median(lambda it: a_step(it, 'last_epoch_seconds'), of):9.2f} "
            f"{median(lambda it: a_step(it, 'last_epoch_thread_seconds'), of):9.2f}  "
            f"{statistics.median(ratios):6.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


def of_device(rounds: Rounds) -> None:
    """Tell what the GPU did in a step."""
    columns = f"{'ms':>9} {'ms in kernels':>14} {'kernels':>8} {'launches':>9} {'waits':>6}"
    print(f"{'a step, while it is profiled':34} {columns}")
    for name, (it,) in rounds.items():
        print(
            f"{name:34} {it['profiled_ms']:9.2f} {it['kernel_ms']:14.3f} {it['kernels']:8.0f} {it['launches']:9.0f} "
            f"{it['waits']:6.1f}"
        )


def rate(it: Figures) -> float:
    """Return samples a second."""
    return it["samples"] / it["seconds"]


def last_rate(it: Figures) -> float:
    """Return the same of the last epoch."""
    return it["samples"] / it["epochs"] / it["last_epoch_seconds"]


def share(it: Figures, most: float) -> float:
    """Return the share of the peak that products of real tokens have."""
    return it["tokens"] * it["flops_a_token"] / it["seconds"] / most


def last_share(it: Figures, most: float) -> float:
    """Return the same of the last epoch."""
    return it["tokens"] / it["epochs"] * it["flops_a_token"] / it["last_epoch_seconds"] / most


def a_step(it: Figures, seconds: str) -> float:
    """Return milliseconds a step, of seconds of the last epoch."""
    return 1000 * it[seconds] / (it["steps"] / it["epochs"])


def median(of: Callable[[Figures], float], rounds: Sequence[Figures]) -> float:
    return statistics.median(of(it) for it in rounds)


def spread(scores: Sequence[float]) -> str:
    return f"{statistics.mean(scores):.4f} ± {statistics.stdev(scores) if len(scores) > 1 else math.nan:.4f}"


if __name__ == "__main__":
    main()

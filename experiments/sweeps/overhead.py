"""What a sweep costs beside its trials, and what it saves: 24 short real trials in one sweep, and in 24 calls.

python experiments/sweeps/overhead.py [ROUNDS]

Trials are +experiment=ner_lora on 200 sentences, one at a time with all threads, four methods by six learning rates. In
each round both are done, in turn. Told are the wall times, their ratio, and what a trial of the sweep takes longer by
the clock than the same run tells of itself in a process of its own (from when all is imported to its end), and longer
than its training alone, which is what reading, evaluation and writing take as well.
"""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

METHODS = ("lora", "bitfit", "head", "ia3")
RATES = ("1e-4", "3e-4", "1e-3", "3e-3", "1e-2", "3e-2")
RUN = ["+experiment=ner_lora", "name=short", "logger=[csv]", "callbacks=[]", "budget.train_examples=200"]
RUN += ["budget.eval_examples=200", "budget.max_epochs=1"]
LINE = "sweep {:.1f} s, calls {:.1f} s, ratio {:.3f}; a trial {:.2f} s over a run, {:.2f} s over its training"


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    found = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            swept = timed(folder, "-m", *RUN, f"peft={','.join(METHODS)}", f"optimizer.lr={','.join(RATES)}")
            alone = sum(
                timed(folder, *RUN, f"peft={method}", f"optimizer.lr={rate}")
                for method, rate in itertools.product(METHODS, RATES)
            )
            costs = {root: cost(folder / root / "short") for root in ("sweeps", "runs")}
        count = len(costs["sweeps"])
        assert count == len(costs["runs"]) == len(METHODS) * len(RATES)
        own = sum(one["wall_seconds"] for one in costs["runs"])
        training = sum(one["train_seconds"] for one in costs["sweeps"])
        found.append((swept, alone, swept / alone, (swept - own) / count, (swept - training) / count))
        print(LINE.format(*found[-1]), flush=True)
    print("medians:", LINE.format(*map(statistics.median, zip(*found, strict=True))))


def timed(folder: Path, *arguments: str) -> float:
    """Return the seconds that a command takes."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "train", *arguments]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    return time.perf_counter() - began


def cost(folder: Path) -> list[dict[str, float]]:
    return [json.loads(file.read_text())["cost"] for file in folder.glob("*/record.json")]


if __name__ == "__main__":
    main()

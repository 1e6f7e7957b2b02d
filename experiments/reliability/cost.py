"""What checkpoints and the trail cost: training time with them against without, in interleaved rounds of new processes.

python experiments/reliability/cost.py [ROUNDS] [key=value ...]

Each process trains `+experiment=ner_lora` for some hundred steps. Told are the ratios of the seconds of training, as
the records have them, and their median. The look at losses, gradients and weights for NaN is part of both.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RUN = [
    "+experiment=ner_lora",
    "logger=[csv]",
    "callbacks=[]",
    "budget.max_steps=400",
    "budget.validate_every=9",
    "budget.eval_examples=50",
    "budget.test=false",
]
NEVER = 10**9
OFF = [f"trainer.checkpoint_every={NEVER}", f"trainer.trail_every={NEVER}"]


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    ratios = []
    for number in range(rounds):
        kinds = [[], OFF] if number % 2 == 0 else [OFF, []]
        seconds = {bool(kind): train_seconds([*kind, *sys.argv[2:]]) for kind in kinds}
        ratios.append(seconds[False] / seconds[True])
        print(f"with {seconds[False]:.2f} s, without {seconds[True]:.2f} s, ratio {ratios[-1]:.3f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")


def train_seconds(overrides: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "train", *RUN, *overrides, "run_dir=run"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        record = json.loads(Path(folder, "run", "record.json").read_text(encoding="utf-8"))
    found: float = record["cost"]["train_seconds"]
    return found


if __name__ == "__main__":
    main()

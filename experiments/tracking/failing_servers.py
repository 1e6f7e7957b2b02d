"""What a W&B server that fails costs a run: wall time beside that of the same run offline.

python experiments/tracking/failing_servers.py [ROUNDS] [STEPS]

Each round does the run once with every kind of server, a process each, one after another. A step takes a second by the
clock, however busy the machine is, so that what is left to differ is what waits: at the start, for a row, at the end.
"""

from __future__ import annotations

import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

PACE = """
import time

from lightning.pytorch.callbacks import Callback


class Pace(Callback):
    def on_train_start(self, trainer, *_):
        self.began = time.monotonic()

    def on_train_batch_end(self, trainer, *_):
        time.sleep(max(0.0, self.began + trainer.global_step - time.monotonic()))
"""
PACED = ["allow=[pace]", "+callbacks.pace._target_=pace.Pace"]
RUN = ["+experiment=ner_lora", "budget=smoke", "trainer=cpu", "trainer.log_every=1", *PACED]

SERVERS = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tests" / "slow" / "test_wandb_server.py"))
"""The servers that the tests fail with."""


@contextmanager
def offline() -> Iterator[None]:
    yield None


def kinds() -> dict[str, AbstractContextManager[str | None]]:
    server = SERVERS["server"]
    return {
        "offline": offline(),
        "refuses": SERVERS["nobody"](),
        "500": server(0, "500"),
        "stalls": server(0, "stall"),
        "500 to the run": server(1, "500"),
        "stalls at the run": server(1, "stall"),
        "500 in mid-run": server(6, "500"),
        "stalls in mid-run": server(6, "stall"),
    }


def seconds(url: str | None, steps: int) -> float:
    """Return the wall time of one run in a process of its own."""
    wandb = {"WANDB_MODE": "offline"} if url is None else {"WANDB_BASE_URL": url, "WANDB_API_KEY": "0123456789" * 4}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "pace.py").write_text(PACE)
        command = [sys.executable, "-m", "train", *RUN, f"budget.max_steps={steps}"]
        began = time.monotonic()
        subprocess.run(command, cwd=folder, env=os.environ | wandb, check=True, capture_output=True)
        return time.monotonic() - began


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, kind in kinds().items():
            with kind as url:
                taken.setdefault(name, []).append(seconds(url, steps))
            print(f"{name:20} {taken[name][-1]:6.1f} s", file=sys.stderr)
    print(
        f"{rounds} interleaved rounds of {steps} steps of a second; offline {statistics.median(taken['offline']):.1f} s"
    )
    for name, times in taken.items():
        ratios = [mine / offline for mine, offline in zip(times, taken["offline"], strict=True)]
        more = statistics.median(times) - statistics.median(taken["offline"])
        print(f"{name:20} {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})  {more:+5.1f} s")


if __name__ == "__main__":
    main()

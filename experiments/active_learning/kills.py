"""A loop that is killed again and again, and goes on with the same command: does it end with the same bits?

python experiments/active_learning/kills.py [HOW_MANY]

The loop asks with two queries, breaking ties and BALD, whose draws are of dropout, for the labels of the tests' tiny
texts, with the tiny BERT, warm starts and a part of the labels for validation. Once it runs through; once it gets
SIGKILL HOW_MANY times (20 by default), each after a random share of the time that the whole takes. The lists, adapters,
predictions and scores of both are compared. Processes are forked from this one, which has done no tensor operation.
Exit code 1 if anything differs.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "experiments" / "reliability"), str(ROOT / "tests"), str(ROOT)]

from forked import start  # noqa: E402

from conftest import make_model, texts  # noqa: E402  # it sets the number of threads, before torch is there
from peftlab.active_learning.loop import Settings, study  # noqa: E402
from peftlab.chains.chain import read_chain  # noqa: E402

OVERRIDES = ["model=folder", "model.path=model", "task=classification", "data=csv", "data.path=data", "logger=[]"]
OVERRIDES += ["data.batch_size=4", "trainer=cpu", "trainer.precision=32-true", "trainer.checkpoint_every=2"]
OVERRIDES += ["budget=smoke", "budget.train_examples=null", "budget.max_steps=6", "model.dropout=0.1"]
SETTINGS = Settings(tuple(OVERRIDES), batch=5, initial=12, validation=0.2, warm_start=True)
QUERIES = ["breaking_ties", "bald"]
BITS = ("lists/*", "*/adapter/*", "*/predictions/*", "*/checkpoints/best.safetensors")


def main(kills: int) -> bool:
    """Compare a loop that was killed so often with one that was not."""
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        assert ended(start(lambda: make_model(Path("model")), Path("said.txt"))) == 0
        Path("data").mkdir()
        for number, (name, count) in enumerate({"train": 48, "dev": 16, "test": 16}.items()):
            Path(f"data/{name}.csv").write_text(texts(count, seed=number), encoding="utf-8")
        began = time.monotonic()
        assert ended(begin("whole")) == 0, Path("whole.txt").read_text()
        seconds = time.monotonic() - began
        alive = 0
        for _ in range(kills):
            process = begin("killed")
            time.sleep(draw.uniform(0.05, max(1.0, 2 * seconds / kills)))
            if os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                alive += 1
                os.kill(process, signal.SIGKILL)
            ended(process)
        code = ended(begin("killed"))
        same = code == 0 and result("whole") == result("killed")
        stages = len(read_chain(Path("whole"))["stages"])
        print(f"killed {alive} times in {stages} runs of {seconds:.0f} s: {'the same bits' if same else 'other bits'}")
        if not same:
            print(Path("killed.txt").read_text()[-2000:])
            mine, other = result("whole"), result("killed")
            print("differs:", [name for name in {**mine, **other} if mine.get(name) != other.get(name)])
    return same


def begin(name: str) -> int:
    """Begin the loop in the folder `name`, or go on with it; return the process."""
    return start(lambda: study(Path(name), SETTINGS, QUERIES, rounds=2, seeds=1), Path(f"{name}.txt"))


def ended(process: int) -> int:
    """Wait for the end of a process; return its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def result(name: str) -> dict[str, object]:
    """Return all that a loop has found: its files, and what the chain says of its runs."""
    folder = Path(name)
    files = {str(file.relative_to(folder)): file.read_bytes() for pattern in BITS for file in folder.glob(pattern)}
    return {**files, "stages": json.dumps(read_chain(folder)["stages"], sort_keys=True)}


if __name__ == "__main__":
    sys.exit(not main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))

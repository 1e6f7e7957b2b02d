"""What a W&B server that fails costs a run: its seconds beside those of the same run offline.

python experiments/tracking/failing_servers.py [ROUNDS] [SECONDS]

A tiny model is trained for about SECONDS. Its steps sleep, so that the speed of the machine hardly enters and the runs
of a round, one with every kind of server, go on at the same time, begun one after another in an order of its own. Each
is a fork of this process: imports are not part of its seconds, the end of the process is. Told are medians over the
rounds with their 95 % intervals (bootstrap): of the ratio to the round's offline runs, and of the seconds more, before
the first step, in all and after the last. The line `offline` is one offline run beside the two others: it says what the
noise alone does.
"""

from __future__ import annotations

import atexit
import gc
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "reliability"), str(HERE.parents[1] / "tests" / "slow")]

from forked import forked, start  # noqa: E402
from pace import CLOCK, now, tick  # noqa: E402
from test_wandb_server import after, nobody, server  # noqa: E402
from tiny import make_data, make_model, overrides  # noqa: E402

import peftlab.loggers.wandb  # noqa: E402, F401
import peftlab.one_run as story  # noqa: E402
from peftlab.composing.compose import compose  # noqa: E402

STEP_SECONDS = 0.5
STAGGER_SECONDS = 2
"""Between the starts of two runs of a round: a run wants a core for most of it before its first step."""


class Kind(NamedTuple):
    """A server, and from when on it fails."""

    how: str
    """offline, refuse, 500 or stall."""
    after: int | str = 0
    """So many requests, or when the run has left the file of that name, see `pace.Pace`."""


KINDS = {
    "offline": Kind("offline"),
    "refuses": Kind("refuse"),
    "500": Kind("500"),
    "stalls": Kind("stall"),
    "500 to the run": Kind("500", 1),
    "stalls at the run": Kind("stall", 1),
    "refuses in mid-run": Kind("refuse", "half"),
    "500 in mid-run": Kind("500", "half"),
    "stalls in mid-run": Kind("stall", "half"),
    "refuses at the end": Kind("refuse", "trained"),
    "500 at the end": Kind("500", "trained"),
    "stalls at the end": Kind("stall", "trained"),
}
BESIDE = {"offline (1)": Kind("offline"), "offline (2)": Kind("offline")}
"""What the others are compared with."""


class Taken(NamedTuple):
    """The seconds of a run: up to the first step, in all, and after the last step."""

    before: float
    whole: float
    after: float


def serve(kind: Kind, folder: Path, url: Path) -> None:
    """Be the server, and write its address to `url`, until this process is killed or, to refuse later, ends."""
    fails = after(kind.after) if isinstance(kind.after, int) else (folder / kind.after).exists
    with nobody() if kind == Kind("refuse") else server(fails, kind.how) as address:
        url.with_suffix(".new").write_text(address)
        url.with_suffix(".new").rename(url)
        while kind.how != "refuse" or kind.after == 0 or not fails():
            time.sleep(0.01)


def train(folder: Path, url: str | None, steps: int) -> None:
    """Do the run in `folder`, to the end of what ends a process, and write its seconds to ``taken``."""
    began = now()
    os.chdir(folder)
    os.environ |= {"WANDB_MODE": "offline"} if url is None else {"WANDB_BASE_URL": url, "WANDB_API_KEY": "01234567" * 5}
    here = overrides(folder.parent / "model", folder.parent / "data", "logger=[wandb]", f"budget.max_steps={steps}")
    pace = ["allow=[pace]", "+callbacks.pace._target_=pace.Pace", f"+callbacks.pace.seconds={STEP_SECONDS}"]
    story.run(compose(*here, *pace, "trainer.log_every=1", "run_dir=run"))
    atexit._run_exitfuncs()  # a fork leaves them out, and wandb has waits of its own there
    ended = now()
    first, last = (float(Path(name).read_text()) for name in ("training", "trained"))
    Path("taken").write_text(f"{first - began} {ended - began} {ended - last}")


@contextmanager
def served(kind: Kind, folder: Path) -> Iterator[str | None]:
    """Have a server of `kind` in a process of its own."""
    if kind.how == "offline":
        yield None
        return
    url = folder / "url"
    process = start(lambda: serve(kind, folder, url), folder / "server.txt")
    while not url.exists():
        time.sleep(0.01)
    try:
        yield url.read_text()
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def trial(folder: Path, kind: Kind, steps: int) -> None:
    """Do one run beside its server."""
    with served(kind, folder) as url:
        code = forked(lambda: train(folder, url, steps), folder / "said.txt")
    said = (folder / "said.txt").read_text()
    assert code == 0, said
    assert "wandb sync" in said.splitlines()[-1], said


def a_round(number: int, steps: int) -> dict[str, Taken]:
    """Do a run of every kind, most of the time side by side."""
    kinds = list((KINDS | BESIDE).items())
    random.Random(number).shuffle(kinds)
    folder = Path(tempfile.mkdtemp())  # no TemporaryDirectory: a fork that ends would remove it
    try:
        makers: dict[str, Callable[[Path], Path]] = {"model": make_model, "data": make_data}
        for name, make in makers.items():
            assert forked(lambda name=name, make=make: make(folder / name), folder / "said.txt") == 0
        trials = {}
        for name, kind in kinds:
            (folder / name).mkdir()
            trials[name] = start(lambda name=name, kind=kind: trial(folder / name, kind, steps), folder / f"{name}.txt")
            time.sleep(STAGGER_SECONDS)
        for name, process in trials.items():
            if os.waitpid(process, 0)[1]:
                sys.exit(f"{name}: {(folder / f'{name}.txt').read_text()}")
        return {name: Taken(*map(float, (folder / name / "taken").read_text().split())) for name in trials}
    finally:
        shutil.rmtree(folder)


def told(values: list[float], form: str) -> str:
    """Return the median and its interval."""
    draws = np.random.default_rng(0).choice(values, (10_000, len(values)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return f"{statistics.median(values):{form}} ({low:{form}} to {high:{form}})"


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 60
    gc.freeze()  # else the first collection of every fork copies most of this process
    found = []
    with tempfile.NamedTemporaryFile() as clock:
        os.environ[CLOCK] = clock.name
        process = start(lambda: tick(Path(clock.name)), Path(os.devnull))
        for number in range(rounds):
            found.append(a_round(number, round(seconds / STEP_SECONDS)))
            print(" ".join(f"{name}: {one.whole:.2f}" for name, one in sorted(found[-1].items())), file=sys.stderr)
        os.kill(process, signal.SIGKILL)
    bases = [Taken(*np.mean([one[name] for name in BESIDE], axis=0)) for one in found]
    print(f"{rounds} rounds, offline {statistics.median(base.whole for base in bases):.2f} s")
    print(f"{'server':20} {'ratio':26} {'seconds more':24} {'before the first step':24} after the last")
    for name in KINDS:
        ratios = [one[name].whole / base.whole for one, base in zip(found, bases, strict=True)]
        more = [np.subtract(one[name], base) for one, base in zip(found, bases, strict=True)]
        before, whole, after = (told([float(each[part]) for each in more], "+.2f") for part in range(3))
        print(f"{name:20} {told(ratios, '.3f'):26} {whole:24} {before:24} {after}")


if __name__ == "__main__":
    main()

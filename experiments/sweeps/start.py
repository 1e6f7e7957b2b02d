"""What a sweep costs before its first trial: CPU seconds of all its processes, and of the one that composes cells.

python experiments/sweeps/start.py [--against CHECKOUT] [--rounds N] [CELLS ...]

New sweeps of so many cells (4, 12 and 40; methods by seeds) on CoNLL-2003 are checked with sweep.dry_run=true, and so
is the study of methods in experiments/method_axis, whose 318 trials are finished: once, when nothing of its cells is
known, and again. Nothing is trained. With another checkout, its code does the same in turn, and the ratio is shown.
Linux only: processes that lose their parent are counted, too.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parents[2]
METHODS = ("lora", "head", "ia3", "bitfit")
ALWAYS = ["-m", "+experiment=ner_lora", "logger=[csv]", "callbacks=[progress]", "sweep.dry_run=true"]
ALWAYS += ["sweep.probe_seconds=0"]
STUDY = ["sweep=equal_budget", "name=method_axis", "budget.train_examples=1000", "budget.max_epochs=3"]
STUDY += ["budget.validate_every=3.0", "hydra.launcher.trials_at_once=2"]
PR_SET_CHILD_SUBREAPER = 36


class Cost(NamedTuple):
    """CPU seconds of a command."""

    controller: float
    whole: float
    """All of its processes, the controller included."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("cells", type=int, nargs="*", default=[4, 12, 40])
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    checkouts = [HERE, *([options.against.resolve()] if options.against else [])]
    cases = {f"{count} new cells": grid(count) for count in options.cells}
    study = [*STUDY, f"peft={every_method()}"]
    cases |= {"318 finished, unknown": study, "318 finished, again": study}
    costs: dict[tuple[str, Path], list[Cost]] = {}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            for name, overrides in cases.items():
                for checkout in checkouts:
                    place = Path(folder, str(checkouts.index(checkout)))
                    if not place.exists():
                        unpack(place / "sweeps" / "method_axis")
                    costs.setdefault((name, checkout), []).append(cost([*ALWAYS, *overrides], checkout, place))
    print(f"{'CPU seconds':24}{'controller':>12}{'all':>8}" + ("  of the other's" if options.against else ""))
    for name in cases:
        controller, whole = (statistics.median(each) for each in zip(*costs[name, HERE], strict=True))
        line = f"{name:24}{controller:12.2f}{whole:8.2f}"
        if options.against:
            line += f"{whole / statistics.median(each.whole for each in costs[name, checkouts[1]]):16.2f}"
        print(line)


def grid(count: int) -> list[str]:
    """Return the overrides of a grid with `count` cells: methods, as many as there are, by seeds."""
    methods = METHODS[: min(count, len(METHODS))]
    seeds = count // len(methods)
    if len(methods) * seeds != count:
        raise SystemExit(f"{count} cells: at most {len(METHODS)}, or a multiple of them")
    return [f"peft={','.join(methods)}", f"seed={','.join(map(str, range(seeds)))}", "name=new"]


def every_method() -> str:
    return ",".join(sorted(file.stem for file in (HERE / "conf" / "peft").glob("*.yaml")))


def unpack(sweep: Path) -> None:
    """Put the records of the study into the folder of its sweep."""
    sweep.mkdir(parents=True)
    with tarfile.open(HERE / "experiments" / "method_axis" / "records.tar.xz") as archive:
        archive.extractall(sweep, filter="data")


def cost(arguments: Sequence[str], checkout: Path, folder: Path) -> Cost:
    """Return what ``python -m train`` of a checkout costs in a folder."""
    environment = os.environ | {"PYTHONPATH": str(checkout / "src"), "WANDB_MODE": "offline"}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "train", *arguments], cwd=folder, env=environment, stdout=output, stderr=output
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        output.seek(0)
        if status:
            raise SystemExit(output.read())
    controller = whole = usage.ru_utime + usage.ru_stime
    while True:
        try:
            _, _, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return Cost(controller, whole)
        whole += usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()

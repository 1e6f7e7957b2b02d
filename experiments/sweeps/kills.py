"""Sweeps whose trials, fork server and controller get SIGKILL, and go on: is anything lost, doubled or left over?

python experiments/sweeps/kills.py [ROUNDS] [SEED] [pruned]

A round is the sweep of a tiny BERT over 16 cells, two trials at a time with one thread each. Between two and five times
a process of it is killed at a random moment: mostly a trial or the controller, sometimes the fork server. When the
controller has gone or has ended, the same command is given again, until it says that all is done, and one time more.
Then there must be 16 runs, each completed, each the same to the last bit as in a sweep that nothing has disturbed; no
run that was completed may have been touched again; no process may be left. Exit code 1 if anything fails.

With `pruned` it is a random search, of which ASHA judges every trial after a third of its training. Which ones it stops
hangs on the order in which they come, and kills change that; so each run is held against the same point of a search
without pruning. A completed one has to be the same to the last bit, a stopped one the same as far as it went, and the
trial that is alone the best where all are judged must have been completed.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "reliability"))

from tiny import make_data, make_model, overrides

CELLS = 16
GRID = ["peft=lora,full", "optimizer.lr=1e-3,3e-3", "seed=0,1,2,3"]
SEARCH = ["peft=lora,full", "optimizer.lr=tag(log,interval(1e-3,1e-2))"]
SEARCH += ["sweep=search", f"sweep.budget.trials={CELLS}", "sweep.pruning.min_fraction=0.33"]
HUNG_SECONDS = 180.0
"""Without any file of any trial having changed."""
BITS = ("metrics.csv", "checkpoints/best.safetensors", "predictions/*", "adapter/*", "trail.jsonl")
WEIGHTS = {"trial": 3, "controller": 4, "server": 1}
"""How often each kind of process is the one that is killed."""


def main() -> None:
    numbers = [int(argument) for argument in sys.argv[1:] if argument.isdigit()]
    rounds, seed = (*numbers, 100, 0)[:2] if len(numbers) != 1 else (numbers[0], 0)
    pruned, draw = "pruned" in sys.argv, random.Random(seed)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder / "model")
        make_data(folder / "data")
        axes = SEARCH if pruned else GRID
        undisturbed = Sweep(folder / "undisturbed", folder, [*axes, "sweep.prune=none"])
        undisturbed.start()
        assert undisturbed.wait() == 0, undisturbed.said()
        expected = undisturbed.left()
        for number in range(rounds):
            sweep = Sweep(folder / "disturbed", folder, axes)
            wrong = disturb(sweep, draw, counts, expected)
            counts["rounds"] += 1
            counts["rounds with something wrong"] += bool(wrong)
            print(f"round {number + 1}: {wrong or 'as undisturbed'}", flush=True)
            if wrong:
                shutil.copytree(sweep.folder, Path.cwd() / f"wrong-{number + 1}", dirs_exist_ok=True)
            shutil.rmtree(sweep.folder)
    print(json.dumps(dict(counts), indent=1))
    sys.exit(bool(counts["rounds with something wrong"]))


def disturb(sweep: Sweep, draw: random.Random, counts: Counter[str], expected: dict[str, Any]) -> list[str]:
    """Do a sweep with kills, and return what is wrong with what it leaves."""
    wrong: list[str] = []
    kills = draw.randint(2, 5)
    completed: dict[str, str] = {}
    sweep.start()
    while True:
        began, pause = time.time(), draw.uniform(0.2, 4.0)
        while sweep.process.poll() is None and time.time() - (began if kills else sweep.last_sign()) < (
            pause if kills else HUNG_SECONDS
        ):
            time.sleep(0.05)
        for run_id, ended_at in sweep.completed().items():
            if completed.setdefault(run_id, ended_at) != ended_at:
                wrong.append(f"{run_id} was completed, and made again")
        if sweep.process.poll() is None:
            if not kills:
                wrong.append("hung")
                sweep.kill("controller")
                break
            alive = [kind for kind in sweep.processes(seconds=0).values() if kind in WEIGHTS]
            if "trial" in alive or draw.random() < 0.1:  # mostly where there is something to lose
                kind = draw.choices(alive, [WEIGHTS[kind] for kind in alive])[0]
                counts[f"killed: {kind}"] += sweep.kill(kind)
                kills -= 1
            continue
        if sweep.process.returncode == 0:
            break
        assert sweep.process.returncode != 2, sweep.said()
        counts["commands given again"] += 1
        sweep.start()
    completed |= sweep.completed()
    sweep.start()  # once more: there must be nothing to do
    if sweep.wait() != 0:
        wrong.append(f"the last command ended with {sweep.process.returncode}")
    found = sweep.left()
    now = sweep.completed()
    wrong += [f"{run_id} was completed, and made again" for run_id in completed if now.get(run_id) != completed[run_id]]
    wrong += [f"lost: {run_id}" for run_id in expected if run_id not in found]
    wrong += [f"doubled: {run_id}" for run_id in found if run_id not in expected]
    for run_id in found.keys() & expected.keys():
        wrong += [f"{run_id}: {name} differs" for name in differing(found[run_id], expected[run_id])]
        counts[f"runs {found[run_id]['status']!s}"] += 1
    best, second = sorted((first_score(bits), run_id) for run_id, bits in expected.items())[:-3:-1]
    if best[0] > second[0] and found.get(best[1], {}).get("status") != "completed":
        wrong.append(f"{best[1]}: stopped, and was the best")
    wrong += [f"left running: {number}" for number in sweep.processes()]
    return wrong


def differing(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Return what a run has left otherwise than the run of the same cell that nothing has disturbed or stopped."""
    if found.get("status") != "pruned":
        return [name for name in expected if found.get(name) != expected[name]]
    there, whole = found["trail.jsonl"], expected["trail.jsonl"]
    went_on = [name for name in found if name.startswith(("predictions/", "adapter/"))]
    return went_on + (["trail.jsonl"] if there == whole or not whole.startswith(there) else [])


def first_score(bits: dict[str, Any]) -> float:
    """Return the score of a run's first validation."""
    rows = csv.DictReader(bits["metrics.csv"].decode().splitlines())
    return next(float(row["validation/entity_f1"]) for row in rows if row["validation/entity_f1"])


class Sweep:
    """The command of a sweep in a folder of its own."""

    def __init__(self, folder: Path, tiny: Path, axes: list[str]) -> None:
        self.folder = folder
        folder.mkdir()
        given = overrides(tiny / "model", tiny / "data", "trainer.checkpoint_every=3", "logger=[csv]")
        given = [text for text in given if not text.startswith("optimizer.lr")]
        given += ["name=tiny", "trainer.trail_every=1", "sweep.probe_seconds=0", "hydra.launcher.trials_at_once=2"]
        self.command = [sys.executable, "-m", "train", "-m", *given, *axes]

    def start(self) -> None:
        """Give the command."""
        self.given = time.time()
        with (self.folder / "said.txt").open("a") as out:
            marked = os.environ | {"PEFTLAB_KILLS": str(self.folder)}
            self.process = subprocess.Popen(self.command, cwd=self.folder, stdout=out, stderr=out, env=marked)

    def wait(self) -> int:
        """Return the exit code, -9 where it hangs."""
        try:
            return self.process.wait(HUNG_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill("controller")
            return self.process.wait()

    def said(self) -> str:
        return (self.folder / "said.txt").read_text()

    def processes(self, seconds: float = 10.0) -> dict[int, str]:
        """Return the processes of this sweep that still live after some seconds, with what they are."""
        until = time.monotonic() + seconds
        while (found := self._processes()) and time.monotonic() < until:
            time.sleep(0.1)
        return found

    def _processes(self) -> dict[int, str]:
        mark = f"PEFTLAB_KILLS={self.folder}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    line = (entry / "cmdline").read_bytes()
                    state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                    if state != "Z":
                        found[int(entry.name)] = (line, int(parent))
            except OSError:
                continue
        servers = {n for n, (line, parent) in found.items() if b"forkserver" in line and parent == self.process.pid}
        kinds = {}
        for number, (_, parent) in found.items():
            if number == self.process.pid:
                kinds[number] = "controller"
            elif number in servers:
                kinds[number] = "server"
            elif parent in servers:
                kinds[number] = "trial"  # or what looks at cells
            else:
                kinds[number] = "other"
        return kinds

    def kill(self, kind: str) -> bool:
        """Kill a process of a kind, the youngest of them; return whether there was one."""
        numbers = [number for number, its in self._processes().items() if its == kind]
        if numbers:
            os.kill(max(numbers), signal.SIGKILL)
        return bool(numbers)

    def last_sign(self) -> float:
        """Return when a file of a trial has changed last, or when the command was given."""
        times = [self.given]
        for file in self.folder.glob("sweeps/tiny/*/*"):
            with suppress(FileNotFoundError):  # a temporary file that has got its name meanwhile
                times.append(file.stat().st_mtime)
        return max(times)

    def completed(self) -> dict[str, str]:
        """Return when each completed run ended."""
        records = (json.loads(file.read_text()) for file in self.folder.glob("sweeps/tiny/*/record.json"))
        return {record["run_id"]: record["ended_at"] for record in records if record["status"] == "completed"}

    def left(self) -> dict[str, dict[str, bytes | str]]:
        """Return what bits each run has left, and its line of the final table."""
        found: dict[str, dict[str, bytes | str]] = {}
        for file in self.folder.glob("sweeps/tiny/*/record.json"):
            record = json.loads(file.read_text())
            files = {str(path.relative_to(file.parent)): path for pattern in BITS for path in file.parent.glob(pattern)}
            bits: dict[str, bytes | str] = {name: path.read_bytes() for name, path in files.items()}
            found[file.parent.name] = bits | {"status": record["status"], "scores": json.dumps(record["metrics"])}
        with (self.folder / "sweeps/tiny/trials.csv").open() as table:
            for row in csv.DictReader(table):
                keys = ("state", "peft", "optimizer.lr", "seed", "score", "test", "step")
                found.setdefault(row["run_id"], {})["row"] = ",".join(row.get(key, "") for key in keys)
        return found


if __name__ == "__main__":
    main()

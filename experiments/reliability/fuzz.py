"""Drawn inputs, by the thousand: is anything lost, changed, refused or answered wrongly without a word?

python experiments/reliability/fuzz.py --inputs 2000 --out FOLDER [--seed 0] [--workers 1]
python experiments/reliability/fuzz.py --replay 17 --out FOLDER

`fuzz_inputs.py` draws an input from its number: files of every format, with odd encodings, line ends, quotes, labels
and texts, right or wrong ones; options; texts to predict. `fuzz_oracle.py` trains a tiny BERT on it for two steps, uses
the run in every way, and holds what comes of it against what was written. Outcomes are kept in FOLDER/outcomes.jsonl,
one line an input: the same command goes on where it was killed. An input that takes more than `LIMIT` seconds, or that
ends its process, is a fault, too. The exit code is 1 where there are faults. `--replay` does one input again, says all
of it, and leaves its files in FOLDER/NUMBER.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import multiprocessing
import os
import re
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}  # before torch
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from fuzz_inputs import draw_input
from fuzz_oracle import judged

from conftest import make_model

LIMIT = 120.0
"""Seconds for one input: a hundred times what one takes, since other processes may be busy."""

MEMORY = 8 * 2**30
"""Bytes of address space of a process that tries inputs: one that asks for more ends it, and not the machine."""

BY_MESSAGE = ("traceback", "valid input refused", "valid use refused")
"""Kinds of faults that are as many as there are messages."""

RENEW = 150
"""Inputs after which a process gives way to a new one, so that what libraries keep does not add up."""


def outcome_of(number: int, folder: Path, model: Path) -> dict[str, Any]:
    """Return the line of an input."""
    began = time.perf_counter()
    one = draw_input(number)
    outcome = judged(one, folder, model)
    line = {
        "seed": number,
        "kind": one.kind,
        "size": one.size,
        "odd": one.odd,
        "overrides": one.overrides,
        "must": list(one.must),
        "may": list(one.may),
        "verdict": outcome.verdict,
        "faults": outcome.faults,
        "said": outcome.said,
        "seconds": round(time.perf_counter() - began, 2),
    }
    return json.loads(json.dumps(line).replace(str(folder), "FOLDER"))  # type: ignore[no-any-return]


def _work(root: Path, model: Path, connection: Connection) -> None:
    """Judge the inputs that come through `connection`, silently."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    gc.freeze()  # what is imported stays: it need not be looked through
    for _ in range(RENEW):
        number = connection.recv()
        folder = root / str(number)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        connection.send(outcome_of(number, folder, model))
        os.chdir(root)
        shutil.rmtree(folder, ignore_errors=True)


class Worker:
    """A process that judges one input after another, and is replaced when it dies, hangs or has done `RENEW`."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root, self.model = root, model
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")  # this process has imported all, and computed nothing
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_work, args=(self.root, self.model, other), daemon=True)
        self.process.start()
        other.close()
        self.done = 0

    def give(self, number: int) -> None:
        if self.done == RENEW or not self.process.is_alive():
            self.end()
            self._start()
        self.number, self.since = number, time.monotonic()
        self.done += 1
        self.connection.send(number)

    def late(self) -> bool:
        return time.monotonic() - self.since > LIMIT

    def take(self) -> dict[str, Any]:
        """Return the line of the input; of one that has hung, or ended the process, without having asked it."""
        kind = "hang"
        if not self.late() or self.connection.poll():
            try:
                return self.connection.recv()  # type: ignore[no-any-return]
            except (EOFError, OSError):
                kind = "process ended"
        self.end()
        one = draw_input(self.number)
        line = {"seed": self.number, "kind": one.kind, "size": one.size, "odd": one.odd, "overrides": one.overrides}
        fault = [kind, f"after {time.monotonic() - self.since:.0f} s, exit code {self.process.exitcode}"]
        return {**line, "must": list(one.must), "may": list(one.may), "verdict": "FAULT", "faults": [fault], "said": ""}

    def end(self) -> None:
        self.process.kill()
        self.process.join()


def campaign(numbers: Iterable[int], out: Path, model: Path, workers: int) -> Iterator[dict[str, Any]]:
    """Yield the line of each input, as they end."""
    waiting = list(reversed(list(numbers)))
    idle = [Worker(out, model) for _ in range(min(workers, len(waiting)))]
    busy: list[Worker] = []
    while waiting or busy:
        while idle and waiting:
            worker = idle.pop()
            worker.give(waiting.pop())
            busy.append(worker)
        ready = wait([worker.connection for worker in busy], timeout=1)
        for worker in [each for each in busy if each.connection in ready or each.late()]:
            busy.remove(worker)
            idle.append(worker)
            yield worker.take()
    for worker in idle:
        worker.end()


def read(file: Path) -> dict[int, dict[str, Any]]:
    """Return the lines so far by seed; one that was cut off by a kill is left out, and made again."""
    lines: dict[int, dict[str, Any]] = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            lines[row["seed"]] = row
    return lines


def table(rows: list[dict[str, Any]]) -> str:
    """Return the verdicts by kind of input, and the smallest input of each kind of fault."""
    verdicts = ["ok", "refused", "FAULT"]
    lines = [f"{'':12}" + "".join(f"{verdict:>9}" for verdict in verdicts)]
    for kind in [*sorted({row["kind"] for row in rows}), "all"]:
        counts = Counter(row["verdict"] for row in rows if kind in (row["kind"], "all"))
        lines.append(f"{kind:12}" + "".join(f"{counts[verdict]:9}" for verdict in verdicts))
    smallest: dict[tuple[str, str], dict[str, Any]] = {}
    times: Counter[tuple[str, str]] = Counter()
    for row in sorted(rows, key=lambda row: row["size"]):
        groups = {(kind, _gist(detail) if kind in BY_MESSAGE else ""): detail for kind, detail in row["faults"]}
        for group, detail in groups.items():
            smallest.setdefault(group, row | {"detail": detail})
            times[group] += 1
    for (kind, gist), count in times.most_common():
        row = smallest[kind, gist]
        lines.append(
            f"\n{count:4} inputs: {kind}: smallest --replay {row['seed']} ({row['kind']}, {row['size']} bytes)"
        )
        lines.append(f"       {row['detail'][:300]!r}\n       {row['odd']}")
    return "\n".join(lines)


def _gist(detail: str) -> str:
    return re.sub(r"'[^']*'|\"[^\"]*\"|\S*/\S*|[0-9]+", "_", detail)[:60]


def main(arguments: list[str] | None = None) -> int:
    """Return 1 where there are faults."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0, help="the number of the first input")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--replay", type=int, help="do this one again, and leave its files")
    given = parser.parse_args(arguments)
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    os.environ |= {"PEFTLAB_CACHE": str(out / "cache"), "HF_HUB_OFFLINE": "1"}

    model = out / "model"
    if not (model / "config.json").exists():  # in a process of its own: a process that has computed is not forked
        maker = multiprocessing.get_context("fork").Process(target=make_model, args=(model,))
        maker.start()
        maker.join()
    if given.replay is not None:
        folder = out / str(given.replay)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        line = outcome_of(given.replay, folder, model)
        print(json.dumps(line, indent=2, ensure_ascii=False), f"\nfiles: {folder}")
        return int(line["verdict"] == "FAULT")

    outcomes = out / "outcomes.jsonl"
    rows = read(outcomes)
    wanted = range(given.seed, given.seed + given.inputs)
    began = time.monotonic()
    left = [number for number in wanted if number not in rows]
    with outcomes.open("a", encoding="utf-8") as file:
        file.write("\n")  # after a line that was cut off
        for done, row in enumerate(campaign(left, out, model, given.workers), start=1):
            rows[row["seed"]] = row
            file.write(json.dumps(row) + "\n")
            file.flush()
            if done % 50 == 0:
                print(f"{done} of {len(left)}: {(time.monotonic() - began) / done:.2f} s an input", file=sys.stderr)
    chosen = [rows[number] for number in wanted]
    print(table(chosen))
    if left:
        print(f"\n{len(left)} inputs in {time.monotonic() - began:.0f} s")
    return int(any(row["verdict"] == "FAULT" for row in chosen))


if __name__ == "__main__":
    sys.exit(main())

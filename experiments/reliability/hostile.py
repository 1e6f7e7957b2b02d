"""Hostile configurations, models, adapters, runs, archives, data and secrets, by the hundred: does any get through?

python experiments/reliability/hostile.py --out FOLDER [--only KIND] [--count N] [--seed S] [--workers 2]
python experiments/reliability/hostile.py --replay KIND/NUMBER --out FOLDER [--seed S]

A case is drawn from its kind, its number and the seed, put together from the grammars in `hostile_*.py`; its commands
run in forks of a warm process, in a `jail`. Outcomes are kept in FOLDER/outcomes.jsonl, one line a case: the same
command goes on where it was killed. The exit code is 1 where there are faults. `--replay` does one case again, says all
of it, and leaves its files in FOLDER/cases.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import random
import re
import resource
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}  # before torch
sys.path.insert(0, str(Path(__file__).parent))

import hostile_archives
import hostile_configs
import hostile_data
import hostile_models
import hostile_runs
import hostile_secrets
from forked import forked
from jail import Jail
from tiny import make_data, make_model, overrides

KINDS: dict[str, tuple[int, Callable[[random.Random, Jail], str]]] = {
    "configurations": (300, hostile_configs.case),
    "models": (150, hostile_models.case),
    "runs": (200, hostile_runs.case),
    "archives": (200, hostile_archives.case),
    "data": (300, hostile_data.case),
    "secrets": (100, hostile_secrets.planted),
    "innocent": (100, hostile_secrets.innocent),
}
"""How many cases of a kind a campaign has, and what makes and tries one; it returns what is hostile about it."""

FAULTS = (
    "code run",
    "written elsewhere",
    "results changed under one identity",
    "tampered record accepted",
    "secret leaked",
    "innocent value masked",
    "hang",
    "traceback",
)

MEMORY = 12 * 2**30
"""Bytes of address space of a command: one that asks for more ends it, and not the machine."""


def make_base(folder: Path) -> None:
    """Write a sound model, data and a run of them, which every case takes copies of."""
    import peftlab

    model, data = make_model(folder / "model"), make_data(folder / "data")
    os.environ["PEFTLAB_CACHE"] = str(folder / "cache")
    os.chdir(folder)
    more = ["budget.max_steps=4", "trainer.keep_every=2", "trainer.checkpoint_every=2", "logger=[csv]"]
    for seed in (0, 1):
        peftlab.run(*_without(overrides(model, data)), *more, f"seed={seed}", f"run_dir=run{seed}")
    answers = peftlab.load("run0").predict(hostile_runs.TEXTS)
    Path("answers.jsonl").write_text("".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers))


def _without(given: list[str]) -> list[str]:
    return [one for one in given if not one.startswith(("budget.max_steps", "logger"))]


def outcome_of(kind: str, number: int, seed: int, out: Path) -> dict[str, Any]:
    """Return the line of a case."""
    began = time.perf_counter()
    root = out / "cases" / f"{kind}-{number}"
    shutil.rmtree(root, ignore_errors=True)
    jail = Jail(root, out / "base")
    what = KINDS[kind][1](random.Random(f"hostile {kind} {seed} {number}"), jail)
    line = {"kind": kind, "number": number, "seed": seed, "what": what.replace(str(root), "JAIL")[:1000]}
    line |= {
        "faults": jail.faults,
        "commands": jail.commands,
        "said": jail.said,
        "seconds": round(time.perf_counter() - began, 2),
    }
    return json.loads(json.dumps(line).replace(str(root), "JAIL"))  # type: ignore[no-any-return]


def campaign(cases: Iterable[tuple[str, int]], seed: int, out: Path, workers: int) -> Iterator[dict[str, Any]]:
    """Yield the line of each case, as they end; each is tried in a fork of this process."""
    waiting = list(reversed(list(cases)))
    busy: dict[int, tuple[str, int]] = {}
    while waiting or busy:
        while waiting and len(busy) < workers:
            kind, number = waiting.pop()
            busy[_fork(kind, number, seed, out)] = (kind, number)
        process, _ = os.wait()
        if process not in busy:
            continue
        kind, number = busy.pop(process)
        root = out / "cases" / f"{kind}-{number}"
        line = root.with_suffix(".json")
        yield json.loads(line.read_text()) if line.exists() else _broken(kind, number, seed, root)
        line.unlink(missing_ok=True)
        shutil.rmtree(root, ignore_errors=True)


def _fork(kind: str, number: int, seed: int, out: Path) -> int:
    process = os.fork()
    if process:
        return process
    with contextlib.suppress(BaseException):
        file = os.open(out / "cases" / f"{kind}-{number}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        try:
            line = outcome_of(kind, number, seed, out)
            (out / "cases" / f"{kind}-{number}.json").write_text(json.dumps(line))
            (out / "cases" / f"{kind}-{number}.log").unlink()
        except BaseException:  # noqa: BLE001  # it must not go on as its parent
            traceback.print_exc()
    os._exit(0)


def _broken(kind: str, number: int, seed: int, root: Path) -> dict[str, Any]:
    """Return the line of a case that could not be tried, which is the harness's own fault."""
    log = root.with_suffix(".log")
    said = log.read_text(errors="replace")[-500:] if log.exists() else "no word"
    return {"kind": kind, "number": number, "seed": seed, "what": "", "commands": [], "faults": [["harness", said]]}


def read(file: Path) -> dict[tuple[str, int, int], dict[str, Any]]:
    """Return the lines so far by case; one that was cut off by a kill is left out, and made again."""
    lines: dict[tuple[str, int, int], dict[str, Any]] = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        with contextlib.suppress(ValueError, KeyError):
            row = json.loads(line)
            lines[row["kind"], row["number"], row["seed"]] = row
    return lines


def table(rows: list[dict[str, Any]]) -> str:
    """Return the cases with faults by kind, the smallest example of each, and the counts in one line."""
    lines = [f"{'':16}{'cases':>7}{'faulty':>8}   exit codes of the commands"]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        codes = Counter(command.rpartition(": ")[2] for row in own for command in row["commands"])
        shown = ", ".join(f"{code}: {n}" for code, n in sorted(codes.items()))
        lines.append(f"{kind:16}{len(own):7}{sum(bool(row['faults']) for row in own):8}   {shown}")
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        for fault, detail in row["faults"]:
            groups.setdefault((fault, row["kind"], _gist(detail)), []).append(row | {"detail": detail})
    for (fault, kind, _), group in sorted(groups.items(), key=lambda item: (item[0][0], -len(item[1]))):
        row = group[0]
        lines.append(f"\n{len(group):4} x {fault}: --replay {kind}/{row['number']}: {row['detail'][:300]!r}")
        lines.append(f"       {row['what'][:300]!r}")
    counts = Counter(fault for row in rows for fault, _ in row["faults"])
    lines.append("\n" + ", ".join(f"{fault} {counts.pop(fault, 0)}" for fault in FAULTS))
    return "\n".join([*lines, *(f"{fault} {count}" for fault, count in counts.items())])


def _gist(detail: str) -> str:
    return re.sub(r"'[^']*'|\"[^\"]*\"|\S*/\S*|[0-9]+", "_", detail)[:60]


def main(arguments: list[str] | None = None) -> int:
    """Return 1 where there are faults."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=KINDS, action="append", default=[])
    parser.add_argument("--count", type=int, help="cases of each kind; by default as many as a campaign has")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--replay", help="KIND/NUMBER: do this one again, and leave its files")
    given = parser.parse_args(arguments)
    out = given.out.resolve()
    (out / "cases").mkdir(parents=True, exist_ok=True)

    import peftlab.cli
    import peftlab.one_run
    import peftlab.python_api
    import peftlab.use.finished
    import peftlab.use.reproduce  # noqa: F401  # once, before the forks

    gc.freeze()
    if not (out / "base" / "answers.jsonl").exists():  # in a fork: a process that has computed is not forked
        shutil.rmtree(out / "base", ignore_errors=True)
        (out / "base").mkdir()
        if forked(lambda: make_base(out / "base"), out / "base.log"):
            print((out / "base.log").read_text())
            return 1
    if given.replay is not None:
        kind, _, number = given.replay.partition("/")
        line = outcome_of(kind, int(number), given.seed, out)
        print(json.dumps(line, indent=2, ensure_ascii=False), f"\nfiles: {out / 'cases' / f'{kind}-{number}'}")
        return int(bool(line["faults"]))

    file = out / "outcomes.jsonl"
    rows = read(file)
    wanted = [
        (kind, number)
        for kind in given.only or KINDS
        for number in range(KINDS[kind][0] if given.count is None else given.count)
    ]
    left = [case for case in wanted if (*case, given.seed) not in rows]
    began = time.monotonic()
    with file.open("a", encoding="utf-8") as stream:
        stream.write("\n")  # after a line that was cut off
        for done, row in enumerate(campaign(left, given.seed, out, given.workers), start=1):
            rows[row["kind"], row["number"], row["seed"]] = row
            stream.write(json.dumps(row) + "\n")
            stream.flush()
            if done % 50 == 0:
                print(f"{done} of {len(left)}: {(time.monotonic() - began) / done:.2f} s a case", file=sys.stderr)
    chosen = [rows[(*case, given.seed)] for case in wanted]
    print(table(chosen))
    if left:
        print(f"{len(left)} cases in {time.monotonic() - began:.0f} s")
    return int(any(row["faults"] for row in chosen))


if __name__ == "__main__":
    sys.exit(main())

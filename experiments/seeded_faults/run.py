"""Sow each fault of ``faults.py`` in a copy of the project, run the tests named for it, and say whether they notice.

    python experiments/seeded_faults/run.py [WORD ...] [--root FOLDER] [--tiers]

WORD chooses the faults that have it, or another WORD, in their names. With --tiers the tests of the tiers below are
tried first, and the first tier that notices is told. The exit code is 1 where a fault is missed or cannot be sown.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from faults import FAULTS, Fault

HEAVY = ("torch", "lightning", "transformers", "peft", "hydra", "torchmetrics", "pytest")
"""Imported once, for all faults: each has its tests in a fork, which imports the copy's own code."""


TIERS = {"default": "not slow and not exhaustive", "slow": "slow", "exhaustive": "exhaustive"}
"""What pytest is called with, by tier, after ``-m``."""


class NotSownError(Exception):
    """The fault's text or its tests are not there any more."""


def copy_of(root: Path, folder: Path) -> Path:
    """Copy what git knows of, and what it would add, of the project in `root`."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.splitlines():
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name)
    return folder


def sow(fault: Fault, copy: Path) -> tuple[Path, str]:
    """Put the fault into the copy; return the file that holds it, and what it held before."""
    holding = [path for path in sorted((copy / "src").rglob("*.py")) if fault.old in path.read_text(encoding="utf-8")]
    count = sum(path.read_text(encoding="utf-8").count(fault.old) for path in holding)
    if count != 1:
        raise NotSownError(f"its text is there {count} times, not once")
    text = holding[0].read_text(encoding="utf-8")
    holding[0].write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    return holding[0], text


def tests_of(fault: Fault, copy: Path) -> list[str]:
    """Return what pytest is called with."""
    arguments = []
    for word in fault.tests:
        if not word.endswith(".py"):
            arguments.append(word)
            continue
        place = copy / "tests" / word
        found = [place] if place.is_file() else sorted((copy / "tests").rglob(place.name))
        arguments += [str(path.relative_to(copy)) for path in found[:1]]
    if not any(word.endswith(".py") for word in arguments):
        raise NotSownError(f"none of its tests is there: {', '.join(fault.tests)}")
    return arguments


def outcome(copy: Path, arguments: Sequence[str], log: Path) -> str:
    """Run tests on the copy, in a fork, up to the first that fails; return what became of the fault."""
    process = os.fork()
    if process == 0:
        code = 70
        with contextlib.suppress(BaseException):
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.chdir(copy)
            sys.path.insert(0, str(copy / "src"))
            sys.path.insert(0, str(copy))
            os.environ["PYTHONPATH"] = str(copy / "src")
            code = int(sys.modules["pytest"].main(["-x", "-q", "-p", "no:cacheprovider", "--tb=short", *arguments]))
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    told = {0: "missed", 1: "caught", 5: "missed, there is no such test"}
    return told.get(code, f"not tested, pytest ended with code {code}, see {log}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2], help="the project's folder")
    parser.add_argument("--sound", action="store_true", help="sow nothing: every fault has to be missed")
    parser.add_argument("--tiers", action="store_true", help="try the lower tiers first")
    options = parser.parse_args()
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != options.root.resolve() / "src"]
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    for name in HEAVY:
        importlib.import_module(name)
    chosen = [fault for fault in FAULTS if not options.words or any(word in fault.name for word in options.words)]
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of(options.root, Path(folder, "copy"))
        log = Path(tempfile.gettempdir(), "seeded_faults.log")
        for fault in chosen:
            began = time.perf_counter()
            try:
                arguments = tests_of(fault, copy)
                file, before = sow(fault, copy)
            except NotSownError as error:
                said = f"not sown, {error}"
            else:
                if options.sound:
                    file.write_text(before, encoding="utf-8")
                tiers = list(TIERS)[: list(TIERS).index(fault.tier) + 1]
                for tier in tiers if options.tiers else [fault.tier]:
                    said = f"{outcome(copy, ['-m', TIERS[tier], *arguments], log)}, {tier}"
                    if said.startswith("caught"):
                        break
                file.write_text(before, encoding="utf-8")
            outcomes[said.partition(",")[0]] += 1
            print(f"{said}: {fault.name} ({time.perf_counter() - began:.0f} s)", flush=True)
    print(f"{len(chosen)} faults: {', '.join(f'{count} {said}' for said, count in outcomes.items())}")
    return int(set(outcomes) != {"missed" if options.sound else "caught"})


if __name__ == "__main__":
    sys.exit(main())

"""A folder that a hostile case may not leave: its commands run in forks that are watched, and what they touch is told.

``here`` is the current folder of the commands, ``elsewhere`` is what no run has any business with, and a file in
``canary`` says that code of the case has run. Nothing of peftlab says what is right.
"""

from __future__ import annotations

import contextlib
import os
import re
import runpy
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forked import start

LIMIT = 60.0
"""Seconds of one command, which takes one or two, since other processes may be busy."""

CODES = {0, 1, 2, 130, 143}
"""The documented exit codes."""

OUTPUTS = ("runs", "sweeps", "reproductions", "out", "cache")
"""What commands may write below ``here``."""

PROGRAMS = {"git", "pip", "nvidia-smi", "lscpu", "ldconfig", "gcc", "cc", "g++", "uname", "objdump", "file", "sh"}
PROGRAMS |= {"ssh-keygen"}  # checks the signatures of archives
"""What peftlab and the libraries start themselves; ``sh`` and compilers by `platform` and `ctypes.util`."""

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PATHS = {
    "os.mkdir": (0,),
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.link": (1,),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.chown": (0,),
}
"""Of events that change files: which of their arguments are paths."""
_FOLDERS_OF = {"os.remove": 1, "os.rmdir": 1, "os.mkdir": 2}
"""Of those: which argument is the descriptor of the folder that the path starts from; -1 where it has none."""
_STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"}


@dataclass
class Ended:
    """A command that has ended."""

    what: str
    code: int
    said: str

    @property
    def done(self) -> bool:
        return self.code == 0


@dataclass
class Jail:
    """One case's folders, and what has gone wrong in them."""

    root: Path
    base: Path
    """Where the sound model, data and run lie."""
    faults: list[tuple[str, str]] = field(default_factory=list)
    """The kind of each, and what it was."""
    commands: list[str] = field(default_factory=list)
    """What has been run, with its exit code."""
    said: list[str] = field(default_factory=list)
    """The end of what each has said."""
    environment: dict[str, str] = field(default_factory=dict)
    """More variables, of its commands."""

    def __post_init__(self) -> None:
        """Make the folders."""
        self.here, self.elsewhere, self.canary = (self.root / name for name in ("here", "elsewhere", "canary"))
        for folder in (self.here, self.elsewhere, self.canary, self.root / "home" / ".ssh", self.root / "tmp"):
            folder.mkdir(parents=True)
        (self.elsewhere / "notes.txt").write_text("mine\n")
        (self.elsewhere / "metrics.csv").write_text("mine\n")
        (self.root / "home" / ".bashrc").write_text("# mine\n")
        (self.root / "home" / ".ssh" / "authorized_keys").write_text("mine\n")

    def fault(self, kind: str, detail: str) -> None:
        self.faults.append((kind, detail.replace(str(self.root), "JAIL")[:700]))

    # Commands --------------------------------------------------------------------------------------------------------

    def train(self, *arguments: str, may_raise: bool = False) -> Ended:
        """Run ``python -m train``."""

        def work() -> None:
            sys.argv = ["train", *arguments]
            runpy.run_module("train", run_name="__main__", alter_sys=True)

        return self.run(f"train {' '.join(arguments)}", work, may_raise)

    def peftlab(self, *arguments: str) -> Ended:
        """Run the command ``peftlab``."""

        def work() -> None:
            from peftlab.cli import main

            sys.argv = ["peftlab", *arguments]
            main(list(arguments))

        return self.run(f"peftlab {' '.join(arguments)}", work)

    def run(self, what: str, work: Callable[[], object], may_raise: bool = False) -> Ended:
        """Run `work` in a watched fork; whatever it does that it may not becomes a fault."""
        before = self._state()
        said, events = self.root / "said", self.root / "events"
        for file in (said, events):
            file.write_bytes(b"")

        def watched() -> None:
            self._enter(events)
            try:
                work()
            except Exception:  # noqa: BLE001  # as Python itself ends
                sys.excepthook(*sys.exc_info())
                sys.exit(1)

        code = self._wait(start(watched, said))
        text = said.read_bytes().decode(errors="replace")
        ended = Ended(what, code, text)
        self.commands.append(f"{what[:200]}: {code}")
        self.said.append(text.strip()[-300:])
        if code == -signal.SIGALRM:
            self.fault("hang", f"over {LIMIT:.0f} s: {what[:80]}: {text[-300:]}")
        elif not may_raise and (code not in CODES or "Traceback (most recent call last)" in text):
            self.fault("traceback", f"{_gist(text)}: exit code {code}: {what[:80]}")
        self._judge(what, before, events.read_text(errors="replace").splitlines())
        return ended

    def _enter(self, events: Path) -> None:
        """Become a command: in ``here``, with a home of its own, and watched."""
        os.setsid()
        os.chdir(self.here)
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # which now lead to the file
        home = self.root / "home"
        os.environ |= {"HOME": str(home), "TMPDIR": str(self.root / "tmp"), "PEFTLAB_CACHE": str(self.here / "cache")}
        os.environ |= {"HF_HUB_OFFLINE": "1", "PIP_NO_INDEX": "1", "WANDB_MODE": "offline", **self.environment}
        sys.path.insert(0, str(self.here))  # as with python -m
        tempfile.tempdir = None  # to be looked up anew
        sys.dont_write_bytecode = True
        file = os.open(events, os.O_WRONLY | os.O_APPEND)
        sys.addaudithook(_Watch(file, self._allowed()))

    def _allowed(self) -> tuple[str, ...]:
        folders = [*(self.here / name for name in OUTPUTS), self.root / "tmp", *self._of_libraries()]
        return (*(os.path.realpath(folder) for folder in folders), "/dev/", "/proc/", str(self.canary))

    def _of_libraries(self) -> list[Path]:
        return [self.root / "home" / name for name in (".cache", ".config", ".local", ".triton", ".netrc")]

    def _wait(self, process: int) -> int:
        """Return the exit code of a process, which is killed with all that it has started when its time is up."""
        until = time.monotonic() + LIMIT
        while True:
            number, status = os.waitpid(process, os.WNOHANG)
            if number:
                break
            if time.monotonic() > until:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process, signal.SIGKILL)
                os.waitpid(process, 0)
                return -signal.SIGALRM
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process, signal.SIGKILL)
        return os.waitstatus_to_exitcode(status)

    # What has become of the folders ----------------------------------------------------------------------------------

    def _state(self) -> dict[str, tuple[int, ...]]:
        """Return what can be seen of everything in the jail that commands have to leave alone."""
        outputs = {str(self.here / name) for name in OUTPUTS} | {str(path) for path in self._of_libraries()}
        outputs |= {str(self.root / name) for name in ("said", "events", "tmp")}
        return dict(_seen(str(self.root), outputs))

    def _judge(self, what: str, before: dict[str, tuple[int, ...]], events: list[str]) -> None:
        after = self._state()
        changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        ran = [path for path in changed if path.startswith(f"{self.canary}{os.sep}")]
        ran += [event for event in events if event.startswith("start ")]
        if ran:
            self.fault("code run", f"{'; '.join(ran[:3])}: {what[:80]}")
            shutil.rmtree(self.canary)
            self.canary.mkdir()
        elsewhere = [path for path in changed if not path.startswith(str(self.canary))]
        elsewhere += [event for event in events if event.startswith("write ")]
        if elsewhere:
            self.fault("written elsewhere", f"{'; '.join(elsewhere[:3])}: {what[:80]}")


class _Watch:
    """An audit hook that writes down which programs are started, and which files outside of `allowed` are changed."""

    def __init__(self, file: int, allowed: tuple[str, ...]) -> None:
        self.file, self.allowed, self.process = file, allowed, os.getpid()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITING:
                self._wrote(path)
        elif event in _PATHS:
            for n in _PATHS[event]:
                path = arguments[n]
                if (start := _FOLDERS_OF.get(event)) is not None and arguments[start] != -1:
                    path = os.path.join(os.readlink(f"/proc/self/fd/{arguments[start]}"), os.fsdecode(path))
                if event != "os.mkdir" or not os.path.exists(path):  # else it fails
                    self._wrote(path)
        elif event in _STARTS:
            program = arguments[1] if event == "subprocess.Popen" else arguments[0]
            whole = isinstance(program, str | bytes)
            words = os.fsdecode(program).split() if whole else [os.fsdecode(each) for each in program]
            if not any(os.path.basename(word) in PROGRAMS or word == sys.executable for word in words[:1]):
                self._say(f"start {event} {words}")

    def _wrote(self, path: Any) -> None:
        if isinstance(path, int):
            return
        text = os.fsdecode(path)
        folder, name = os.path.split(os.path.abspath(text))
        whole = os.path.join(os.path.realpath(folder), name)
        if not whole.startswith(self.allowed):
            self._say(f"write {whole}")

    def _say(self, line: str) -> None:
        os.write(self.file, (line.replace("\n", " ") + "\n").encode(errors="replace"))


def _seen(root: str, left_out: set[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
    for entry in os.scandir(root):
        if entry.path in left_out:
            continue
        known = entry.stat(follow_symlinks=False)
        folder = stat.S_ISDIR(known.st_mode)
        yield (
            entry.path,
            (known.st_mode,) if folder else (known.st_mode, known.st_size, known.st_mtime_ns, known.st_ino),
        )
        if folder:
            yield from _seen(entry.path, left_out)


def _gist(text: str) -> str:
    """Return the last line of a traceback, and the last place in peftlab."""
    lines = text.strip().splitlines()
    at = [line.strip() for line in lines if line.lstrip().startswith("File ") and "/peftlab/" in line]
    place = at[-1].rpartition("/peftlab/")[2] if at else "?"
    raised = [
        line for line in lines if re.match(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit|Warning)?(: |$)", line)
    ]
    return f"{(raised or lines or [''])[-1][:200]} at {place}"

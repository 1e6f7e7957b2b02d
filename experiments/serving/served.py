"""A server under measurement: started, watched, struck, and ended. Everything stays on 127.0.0.1."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONGEST_START = 900
"""Seconds within which a server has to be ready: its first start measures what drift is held against."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Served:
    """A running server and its processes."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url = process, url

    def workers(self) -> list[int]:
        """Return the ids of the processes below the supervisor that hold models, the largest first."""
        return sorted(_below(self.process.pid), key=resident, reverse=True)

    def memory(self) -> int:
        """Return the bytes of memory of all processes together; pages that they share count in each."""
        return sum(map(resident, [self.process.pid, *_below(self.process.pid)]))

    def cpu(self) -> float:
        """Return the seconds of CPU of all processes so far."""
        return sum(map(_cpu, [self.process.pid, *_below(self.process.pid)]))


@contextmanager
def served(runs: Sequence[str], log: Path, *options: str) -> Iterator[Served]:
    """Start ``peftlab serve`` and wait until it answers; end it with the block."""
    command = [sys.executable, "-m", "peftlab", "serve", *runs, "--port", "0", "--json", *options]
    with log.open("a") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=ROOT)
    begins = threading.Timer(LONGEST_START, process.terminate)
    begins.start()
    try:
        line = process.stdout.readline()
        begins.cancel()
        if not line:
            raise SystemExit(f"the server was not ready within {LONGEST_START} s; see {log}")
        yield Served(process, json.loads(line)["url"])
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            for pid in [*_below(process.pid), process.pid]:
                os.kill(pid, signal.SIGKILL)
            process.wait()
            raise SystemExit(f"the server did not end within 60 s of SIGTERM; see {log}") from None


def resident(pid: int) -> int:
    """Return the bytes of memory of a process; 0 if there is none."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def until(done, seconds: float) -> float | None:
    """Return after how many seconds `done` is true; None: it was not within so many."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        if done():
            return time.monotonic() - begun
        time.sleep(0.05)
    return None


def _below(pid: int) -> list[int]:
    """Return the ids of all processes below a process."""
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*children, *(other for child in children for other in _below(child))]


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

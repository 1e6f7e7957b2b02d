"""A server in processes of its own, on a free port of this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx


@dataclass
class Serving:
    """A server that answers."""

    process: subprocess.Popen[str]
    url: str
    admin: str
    errors: Path
    """What it writes to stderr."""

    def ask(self, *inputs: Any, model: str | None = None, **more: Any) -> httpx.Response:
        """Return the response to one request, on a connection of its own."""
        body = {"inputs": inputs, **({"model": model} if model else {}), **more}
        return httpx.post(f"{self.url}/v1/predict", json=body, timeout=60)

    def workers(self) -> list[dict[str, Any]]:
        """Return what the administration says of the workers."""
        shown: list[dict[str, Any]] = httpx.get(f"{self.admin}/admin/models", timeout=60).json()["workers"]
        return shown

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it as a user does, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def serving(runs: Sequence[str | Path], *options: str, folder: Path) -> Iterator[Serving]:
    """Start ``peftlab serve RUNS OPTIONS`` in `folder`, and yield it once it answers; nothing of it is left."""
    command = [sys.executable, "-m", "peftlab", "serve", *map(str, runs), "--port", "0", "--admin", "127.0.0.1:0"]
    errors = folder / "stderr.txt"
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            [*command, "--json", *options],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()  # empty if it has ended
        assert line, errors.read_text()
        ready = json.loads(line)
        yield Serving(process, ready["url"], ready["admin"], errors)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

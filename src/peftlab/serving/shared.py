"""What the processes of a server tell each other, in small files of one folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from peftlab.storage.atomic import replacing

_WANTED = "wanted.json"


@dataclass(frozen=True)
class Wanted:
    """What all workers are to serve."""

    runs: tuple[str, ...]
    """As in `Settings.runs`."""
    draining: bool = False
    """Whether new requests are refused."""
    version: int = 0
    """Grows with each change."""


@dataclass(frozen=True)
class Worker:
    """What one worker serves; there is none before its models are loaded."""

    pid: int
    version: int
    """The version of `Wanted` that it has last followed."""
    models: Mapping[str, str]
    """The runs by the names of their models."""
    errors: Mapping[str, str] = field(default_factory=dict)
    """Runs that it could not load, and why."""


class Shared:
    """The folder of a server's processes.

    Args:
        folder: exists, and is this user's alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def wanted(self) -> Wanted:
        """What all workers are to serve."""
        document = json.loads((self.folder / _WANTED).read_text(encoding="utf-8"))
        return Wanted(**{**document, "runs": tuple(document["runs"])})

    def want(self, wanted: Wanted) -> None:
        """Have all workers serve that, those that start later too."""
        self._write(_WANTED, asdict(wanted))

    def report(self, worker: Worker) -> None:
        """Say what a worker serves."""
        self._write(f"worker-{worker.pid}.json", {**vars(worker)})

    def workers(self, pids: Iterable[int]) -> list[Worker]:
        """Return what these processes serve, without those that have loaded nothing yet."""
        reports = []
        for pid in pids:
            with suppress(FileNotFoundError):
                document = json.loads((self.folder / f"worker-{pid}.json").read_text(encoding="utf-8"))
                reports.append(Worker(**document))
        return reports

    def _write(self, name: str, document: Mapping[str, Any]) -> None:
        with replacing(self.folder / name) as file:
            file.write_text(json.dumps(document), encoding="utf-8")

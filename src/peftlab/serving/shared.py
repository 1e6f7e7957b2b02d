"""What the processes of a server tell each other, in small files of one folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from peftlab.errors import UserError
from peftlab.serving.access.limits import FILE as LIMITS
from peftlab.storage.atomic import replacing
from peftlab.storage.locks import lock

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
        folder: as of `opened`.
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


@contextmanager
def opened(folder: Path | None) -> Iterator[Path]:
    """Yield the folder of what the processes tell each other, without what earlier ones have left.

    Raises:
        UserError: others may write there, who could have any run loaded; or another server has it.
    """
    if folder is None:
        with TemporaryDirectory(prefix="peftlab-serve-") as temporary:
            yield Path(temporary)
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--state {folder}: cannot be made: {error.strerror}") from error
    status = folder.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise UserError(f"--state {folder}: must be this user's alone: chmod 700 {folder}")
    descriptor = lock(folder, "state of a server")
    try:
        for left in (*folder.glob("worker-*.json"), folder / LIMITS):  # its clock starts anew with the machine
            left.unlink(missing_ok=True)
        yield folder
    finally:
        os.close(descriptor)

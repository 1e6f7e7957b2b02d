"""Alerts as lines of JSON, in a file or on stdout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.opinion.sinks import Alert
from peftlab.storage.atomic import append


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class Sink:
    """A file that gets a line for each alert, once."""

    file: Annotated[str, Field(min_length=1)] = "alerts.jsonl"
    """Its name, in the folder of the watch unless it is a whole path; - is stdout."""

    @property
    def name(self) -> str:
        """Its file."""
        return f"lines {self.file}"

    def check(self) -> None:
        """Take any file: one that cannot be written ends the call, and the alert is sent at the next one."""

    def send(self, alert: Alert, folder: Path) -> None:
        """Append a line, unless there is one of this alert."""
        line = json.dumps(alert, ensure_ascii=False) + "\n"
        if self.file == "-":
            print(line, end="", flush=True)
            return
        file = folder / self.file
        if not (file.is_file() and line in file.read_text(encoding="utf-8")):
            append(file, line, lambda: line)

"""Who is told of an alert? One file a sink, each with a class `Sink`.

A sink takes an alert with the same id once, as far as it can: what was sent but not noted, because the process ended in
between, is sent again at the next call.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

Alert = Mapping[str, Any]
"""JSON values: what has moved, by how much, since when, and in which texts; see `peftlab.opinion.alerts`."""


class Recipient(Protocol):
    """What each module's `Sink` offers."""

    @property
    def name(self) -> str:
        """What distinguishes it from others, without secrets."""

    def check(self) -> None:
        """Refuse what can never be sent to, before anything else is done.

        Raises:
            ConfigError: a file cannot be read, or an address is missing.
        """

    def send(self, alert: Alert, folder: Path) -> None:
        """Send an alert.

        Args:
            alert: to tell of.
            folder: of the watch, which relative names of files are in.

        Raises:
            NotDeliveredError: it was not taken; it is tried again at the next call.
        """


def kinds() -> list[str]:
    """Return the names of the sinks."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def chosen(kind: str) -> Any:
    """Return the class of a sink."""
    return importlib.import_module(f"{__name__}.{kind}").Sink

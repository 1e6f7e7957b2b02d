"""What can be asked for on the command line? One module for each command of `peftlab`, which is found by being here.

Nothing heavy is imported before a command needs it, so that all of them together are listed at once.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from typing import Any, Protocol, cast

GROUPS = ("run", "look", "use", "believe", "keep")
"""What commands are for, in the order of the help."""


class Command(Protocol):
    """What a module in this folder has."""

    GROUP: str
    """One of `GROUPS`."""
    SUMMARY: str
    """What the command does, in a line."""
    DESCRIPTION: str
    """What there is to know besides, such as exit codes of its own; may be empty."""
    EXAMPLES: tuple[str, ...]
    """Lines to be typed, each with a comment on what it does."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare what the command takes."""

    def execute(self, options: argparse.Namespace) -> None:
        """Do it: results go to stdout, everything that is said on the way to stderr."""


def commands() -> dict[str, Command]:
    """Return all commands by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: cast(Command, importlib.import_module(f"{__name__}.{name}")) for name in names}


def loaded(options: argparse.Namespace) -> Any:
    """Return the finished run that `options` name; it is looked for before anything heavy is imported.

    Raises:
        UserError: there is no such run, or it cannot be used.
    """
    from peftlab.imports import without_collecting
    from peftlab.runs.find import find

    folder = find(options.run)
    with without_collecting():
        from peftlab.terminal.console import start_logging
        from peftlab.use.finished import load

    start_logging(stderr=True)
    return load(folder, options.allow)

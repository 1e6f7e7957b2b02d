"""Which commands does `peftlab` have? One module for each, found because it lies here.

Nothing heavy is imported before a command needs it, so that listing all of them is fast.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol, cast

GROUPS = ("run", "look", "use", "believe", "improve", "keep")
"""The groups of commands, in the order of the help."""


class Command(Protocol):
    """The interface of a module in this folder."""

    GROUP: str
    """One of `GROUPS`."""
    SUMMARY: str
    """What the command does, in one line."""
    DESCRIPTION: str
    """Further facts, such as its own exit codes; may be empty."""
    EXAMPLES: tuple[str, ...]
    """Lines to type, each with a comment on its effect."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments of the command."""

    def execute(self, options: argparse.Namespace) -> None:
        """Run the command: results go to stdout, all other lines to stderr."""


def command_names() -> list[str]:
    """Return the names of all commands, without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def commands(names: Iterable[str] | None = None) -> dict[str, Command]:
    """Return the commands of these names; None: all."""
    asked = command_names() if names is None else names
    return {name: cast(Command, importlib.import_module(f"{__name__}.{name}")) for name in asked}


def loaded(options: argparse.Namespace, only_answers: bool = False) -> Any:
    """Return the finished run that `options` name; its folder is found before anything heavy is imported.

    Args:
        options: those of the command.
        only_answers: whether the process does nothing with the model but answer, so that it imports less.

    Raises:
        UserError: there is no such run, or it cannot be used.
    """
    from peftlab.runs.find import find

    folder = find(options.run)
    with computing(folder), imports_of_answers([folder]) if only_answers else nullcontext():
        from peftlab.use.finished import load

    return load(folder, options.allow)


@contextmanager
def imports_of_answers(runs: Iterable[Path]) -> Iterator[None]:
    """Around the imports of a process that only answers, as the runs in these folders do: leave slow ones out."""
    from peftlab.runs.folder import read_config
    from peftlab.seams.slow_imports import left_out

    quantized = any(read_config(folder)["model"].get("quantize", "none") != "none" for folder in runs)
    with nullcontext() if quantized else left_out():
        yield


@contextmanager
def computing(run: Path | None = None, stderr: bool = True) -> Iterator[None]:
    """Around the imports of a command that computes: prepare the process for that, and import quickly.

    Lines for the user are shown from now on, and torch's threads wait as the load of the CPU advises.

    Args:
        run: the folder of the run that is computed again, with its number of threads.
        stderr: whether lines go to stderr, which leaves stdout to results.
    """
    from peftlab.devices import openmp
    from peftlab.imports import without_collecting
    from peftlab.runs.record import RunRecord
    from peftlab.terminal.console import start_logging

    start_logging(stderr=stderr)
    openmp.settle(RunRecord.load(run).data["environment"]["threads"] if run else None)
    with without_collecting():
        yield

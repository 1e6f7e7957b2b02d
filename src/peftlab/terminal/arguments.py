"""Read the command line: a parser that takes options in any position, and the arguments that commands share."""

from __future__ import annotations

import argparse
import os.path
import re
import sys
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from peftlab.seams.python import options_of

_OPTION = re.compile(r"-(?!\d*\.?\d+$)[^\s=]+(=|$)")
"""An option as argparse sees it: no number, and no text with spaces."""


class InAnyOrder(argparse.ArgumentParser):
    """A parser that takes options before, between and after arguments; after ``--`` all are arguments.

    argparse itself gives an argument with ``nargs="*"`` only the values before the first option, maybe none.
    """

    def parse_known_args(  # type: ignore[override]  # an overload for every kind of namespace
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse the options first, and then all arguments together."""
        options: list[str] = []
        arguments: list[str] = []
        todo = list(sys.argv[1:] if args is None else args)
        while todo:
            text = todo.pop(0)
            if text == "--":
                arguments += todo
                break
            is_option = _OPTION.match(text) is not None
            (options if is_option else arguments).append(text)
            if is_option and todo and self._takes_a_value(text):
                options.append(todo.pop(0))
        return super().parse_known_args([*options, *(["--", *arguments] if arguments else [])], namespace)

    def _takes_a_value(self, text: str) -> bool:
        """Return whether an option takes a value; `text` may be an unambiguous prefix of an option."""
        options = options_of(self)
        names = [text] if text in options else [name for name in options if name.startswith(text)]
        return len(names) == 1 and options[names[0]].nargs != 0


def whole_number(text: str) -> int:
    """Return the whole number that `text` is, 0 or more; raise ValueError if it is none."""
    if (value := int(text)) < 0:
        raise ValueError
    return value


def positive_whole_number(text: str) -> int:
    """Return the whole number that `text` is, 1 or more; raise ValueError if it is none."""
    if (value := int(text)) < 1:
        raise ValueError
    return value


def positive_number(text: str) -> float:
    """Return the finite number above 0 that `text` is; raise ValueError if it is none."""
    if not 0 < (value := float(text)) < float("inf"):
        raise ValueError
    return value


def finite_number(text: str) -> float:
    """Return the finite number that `text` is; raise ValueError if it is none."""
    if not isfinite(value := float(text)):
        raise ValueError
    return value


def file_to_write(text: str) -> Path:
    """Return the path of a file to write; raise ArgumentTypeError if it is a folder, or lies in what is none."""
    if os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"'{text}' is a folder; name a file")
    folder_to_write(os.path.dirname(text))
    return Path(text)


def folder_to_write(text: str) -> Path:
    """Return the path of a folder to write; raise ArgumentTypeError if it, or what it lies in, is a file."""
    for path in (Path(text), *Path(text).parents):
        if os.path.exists(path) and not os.path.isdir(path):
            raise argparse.ArgumentTypeError(f"'{path}' is a file, where a folder is wanted; name another")
    return Path(text)


for _type in (whole_number, positive_whole_number, positive_number, finite_number):
    _type.__name__ = _type.__name__.replace("_", " ")  # argparse names the type in its message


def add_json(parser: argparse.ArgumentParser) -> None:
    """Declare ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Declare the run that a command works on, and the packages that it may import."""
    add_json(parser)
    parser.add_argument("run", metavar="RUN", help="a run folder, or the start of an id below runs/ or sweeps/")
    add_allow(parser)


def add_allow(parser: argparse.ArgumentParser) -> None:
    """Declare the packages that configurations of runs may import."""
    parser.add_argument(
        "--allow",
        metavar="PACKAGE",
        action="append",
        default=[],
        help="a package of your own, installed or in the current folder, that the run's configuration names: its code "
        "is run; may be given several times",
    )


def add_sweep(parser: argparse.ArgumentParser) -> None:
    """Declare the sweep that a command works on."""
    add_json(parser)
    parser.add_argument("sweep", metavar="SWEEP", help="its folder, or its name below sweeps/")

"""Privates of Python's own modules."""

from __future__ import annotations

import argparse
import atexit
import sys


def options_of(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return the options of `parser`, by each of their names."""
    return parser._option_string_actions


def calling_file(depth: int) -> str:
    """Return the file of the code that has called the caller of this function, `depth` calls up; 0: that caller's."""
    return sys._getframe(depth + 1).f_code.co_filename


def run_exit_functions() -> None:
    """Run and unregister the functions of `atexit`: multiprocessing's children end without running them."""
    atexit._run_exitfuncs()

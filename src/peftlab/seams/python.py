"""Privates of Python's own modules."""

from __future__ import annotations

import argparse
import atexit


def options_of(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return the options of `parser`, by each of their names."""
    return parser._option_string_actions


def run_exit_functions() -> None:
    """Run and unregister the functions of `atexit`: multiprocessing's children end without running them."""
    atexit._run_exitfuncs()

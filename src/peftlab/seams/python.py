"""Privates of Python's own modules."""

from __future__ import annotations

import argparse
import atexit


def options_of(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return the options that `parser` knows, by each of their names."""
    return parser._option_string_actions


def run_exit_functions() -> None:
    """Run what is registered with `atexit`, and unregister it: multiprocessing's children end without it."""
    atexit._run_exitfuncs()

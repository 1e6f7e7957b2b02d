"""Restore the process-wide settings that a run changes, where the process is the user's own."""

from __future__ import annotations

import csv
import logging
import os
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
import transformers

from peftlab.imports import stop_finding_here
from peftlab.terminal.console import QUIETENED, console, log

_STAYING = ("WANDB_ERROR_REPORTING",)
"""Variables that a package reads only once, on import."""


@contextmanager
def restored() -> Iterator[None]:
    """Restore the state of the process after the block, whatever a run in it sets.

    Restored are: the states of Python's, NumPy's and torch's random generators; torch's number of threads,
    deterministic algorithms, cuDNN flags, default dtype and matmul precision; environment variables; warning filters;
    handlers and levels of the loggers; the verbosity of transformers; the CSV field size limit; `sys.meta_path`.
    `peftlab.terminal.signals.Signals` restores signal handlers itself, and the working folder never changes. Imported
    modules stay, with the variables that they have read, and so does CUDA once it is initialised.
    """
    with ExitStack() as after, warnings.catch_warnings():
        after.callback(random.setstate, random.getstate())
        after.callback(np.random.set_state, np.random.get_state())  # the global generator, which libraries use
        after.callback(torch.set_rng_state, torch.get_rng_state())
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            after.callback(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
        after.callback(torch.set_num_threads, torch.get_num_threads())
        after.callback(torch.set_default_dtype, torch.get_default_dtype())
        after.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        after.callback(
            torch.use_deterministic_algorithms,
            torch.are_deterministic_algorithms_enabled(),
            warn_only=torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        for flag in ("benchmark", "deterministic"):
            after.callback(setattr, torch.backends.cudnn, flag, getattr(torch.backends.cudnn, flag))
        for name in ("peftlab", *QUIETENED):
            logger = logging.getLogger(name)
            after.callback(logger.setLevel, logger.level)
            after.callback(setattr, logger, "propagate", logger.propagate)
        after.callback(setattr, log, "handlers", list(log.handlers))
        after.callback(setattr, console, "stderr", console.stderr)
        after.callback(transformers.logging.set_verbosity, transformers.logging.get_verbosity())
        if transformers.logging.is_progress_bar_enabled():
            after.callback(transformers.logging.enable_progress_bar)
        after.callback(stop_finding_here, list(sys.meta_path))
        after.callback(csv.field_size_limit, csv.field_size_limit())
        after.callback(_set_environment, dict(os.environ))
        yield


def _set_environment(before: dict[str, str]) -> None:
    for key in {*before, *os.environ} - {*_STAYING}:
        if key not in before:
            del os.environ[key]
        elif os.environ.get(key) != before[key]:
            os.environ[key] = before[key]

"""A run from Python: what ``python -m train`` does, as a function."""

from __future__ import annotations

import threading
from pathlib import Path

from peftlab.composing.compose import compose
from peftlab.devices.process_state import restored
from peftlab.one_run import run as run_composed
from peftlab.runs.record import RunRecord

__all__ = ["run"]

_ONE_AT_A_TIME = threading.RLock()
"""Runs draw from generators that the whole process shares: at the same time none would be what its record says."""


def run(*overrides: str, config_dir: str | Path | None = None) -> RunRecord:
    """Do one run, as ``python -m train OVERRIDES`` does, and return its record.

    Example: ``peftlab.run("+experiment=ner_lora", "budget=smoke", "seed=1").score("validation", "loss")``. The plus may
    be left out.

    The process is left as it was, see `peftlab.devices.process_state.restored`, a Hydra of the caller's own included.
    Called in several threads, runs are done one after another.

    Args:
        overrides: in Hydra's grammar, as on the command line.
        config_dir: a folder with configuration of your own beside ours, as with ``--config-dir``.

    Raises:
        UserError: the configuration, a source or the data cannot be used; nothing has been written then.
    """
    with _ONE_AT_A_TIME, restored():
        return run_composed(compose(*overrides, config_dir=config_dir), ["peftlab.run"], overrides)

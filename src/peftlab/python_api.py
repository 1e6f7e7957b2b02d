"""``python -m train`` as a Python function."""

from __future__ import annotations

import threading
from pathlib import Path

from peftlab.composing.compose import compose
from peftlab.devices.process_state import restored
from peftlab.one_run import run as run_composed
from peftlab.runs.record import RunRecord

__all__ = ["run"]

_ONE_AT_A_TIME = threading.RLock()
"""Runs share the random generators of the process: concurrent runs would not match their records."""


def run(*overrides: str, config_dir: str | Path | None = None) -> RunRecord:
    """Do one run, as ``python -m train OVERRIDES`` does, and return its record.

    Example: ``peftlab.run("+experiment=ner_lora", "budget=smoke", "seed=1").score("validation", "loss")``. The plus is
    optional.

    The state of the process, including the caller's own Hydra, is restored afterwards, see
    `peftlab.devices.process_state.restored`. Calls from several threads run one after another.

    Args:
        overrides: in Hydra's grammar, as on the command line.
        config_dir: a folder with your own configuration, searched in addition to peftlab's, as with ``--config-dir``.

    Raises:
        UserError: the configuration, a source or the data cannot be used; nothing has been written.
    """
    with _ONE_AT_A_TIME, restored():
        return run_composed(compose(*overrides, config_dir=config_dir), ["peftlab.run"], overrides)

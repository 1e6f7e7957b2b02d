"""peftlab from Python: what ``python -m train`` and the command `peftlab` do, as functions."""

from __future__ import annotations

import threading
from pathlib import Path

from hydra import compose as hydra_compose
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from peftlab.errors import ConfigError
from peftlab.exits import conf_dir, explain_composition, is_no_option, search_path
from peftlab.finished_run import load
from peftlab.one_run import run as run_composed
from peftlab.own_hydra import own_hydra
from peftlab.process_state import restored
from peftlab.record import RunRecord

__all__ = ["compose", "load", "run"]

_ONE_AT_A_TIME = threading.RLock()
"""Runs draw from generators that the whole process shares: at the same time none would be what its record says."""


def run(*overrides: str, config_dir: str | Path | None = None) -> RunRecord:
    """Do one run, as ``python -m train OVERRIDES`` does, and return its record.

    Example: ``peftlab.run("+experiment=ner_lora", "budget=smoke", "seed=1").data["metrics"]``. The plus may be left
    out.

    The process is left as it was, see `peftlab.process_state.restored`, a Hydra of the caller's own included. Called in
    several threads, runs are done one after another.

    Args:
        overrides: in Hydra's grammar, as on the command line.
        config_dir: a folder with configuration of your own beside ours, as with ``--config-dir``.

    Raises:
        UserError: the configuration, a source or the data cannot be used; nothing has been written then.
    """
    with _ONE_AT_A_TIME, restored():
        return run_composed(compose(*overrides, config_dir=config_dir), ["peftlab.run"], overrides)


def compose(*overrides: str, config_dir: str | Path | None = None) -> DictConfig:
    """Return the configuration that `overrides` stand for.

    Raises:
        ConfigError: there is no such option or key; says which is the nearest.
    """
    wanted = [f"+{text}" if text.startswith("experiment=") else text for text in overrides]
    if config_dir is not None:
        wanted.append(search_path(config_dir))
    try:
        with own_hydra(conf_dir()):
            return hydra_compose("config", overrides=wanted)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if isinstance(error, ValueError) and not is_no_option(error):
            raise
        raise ConfigError(explain_composition(error, wanted)) from error

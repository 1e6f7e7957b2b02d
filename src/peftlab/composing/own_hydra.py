"""Use a separate Hydra in a process that may have initialised one: Hydra's state is global to the process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime
from hydra.version import VersionBase

from peftlab.composing.hydra_gate import composing_only
from peftlab.seams.hydra import singletons

_LOCK = threading.RLock()
_OF_ONE_HYDRA = (GlobalHydra, HydraConfig, JobRuntime, VersionBase)
"""The singletons that an initialisation sets; Hydra's others hold what modules register once, on import."""


@contextmanager
def own_hydra(config_dir: Path) -> Iterator[None]:
    """Have Hydra compose from `config_dir` in the block; its previous initialisation is restored afterwards.

    The composed configuration is checked, see `peftlab.composing.hydra_gate`.

    Threads take turns. A thread that uses Hydra without this must not do so meanwhile.
    """
    with _LOCK:
        theirs: dict[type, Any] = {kind: one for kind, one in singletons().items() if kind in _OF_ONE_HYDRA}
        try:
            _put({})
            with composing_only(), initialize_config_dir(str(config_dir), version_base="1.3"):
                yield
        finally:
            _put(theirs)


def _put(instances: dict[type, Any]) -> None:
    """Replace the singletons of one Hydra by `instances`."""
    for kind in _OF_ONE_HYDRA:
        singletons().pop(kind, None)
    singletons().update(instances)

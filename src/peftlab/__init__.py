"""peftlab: credible, cheap fine-tuning of pretrained transformers.

`run` does what ``python -m train`` does; `load` takes a finished run, to predict, evaluate and export. Everything is
imported on first use, so that the command line stays quick.
"""

import sys  # built in: anything else may come from the current folder, as `__main__` has not run yet

if sys.platform == "win32":
    raise ImportError(
        "peftlab runs on Linux and macOS; on Windows it runs in WSL: https://learn.microsoft.com/windows/wsl"
    )

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from peftlab.python_api import run
    from peftlab.use.finished import load

__all__ = ["load", "run"]

_HOMES = {"load": "peftlab.use.finished", "run": "peftlab.python_api"}
"""The modules that the names come from."""


def __getattr__(name: str) -> "Any":
    if name in _HOMES and _HOMES[name] not in sys.modules:
        from peftlab.devices import openmp

        openmp.settle()
    if name == "run":
        from peftlab.python_api import run

        return run
    if name == "load":  # which imports no Lightning, as `run` does
        from peftlab.use.finished import load

        return load
    raise AttributeError(f"module 'peftlab' has no attribute '{name}'")

"""peftlab: credible, cheap fine-tuning of pretrained transformers.

`load` a finished run to use its model. Everything is imported on first use, so that the command line stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peftlab.run import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from peftlab import run

        return getattr(run, name)
    raise AttributeError(f"module 'peftlab' has no attribute '{name}'")

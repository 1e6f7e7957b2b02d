"""Which kinds of personal data are there? One module for a kind, found because it lies here."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

from peftlab.personal_data.kind import Kind


@cache
def kinds() -> Mapping[str, type[Kind]]:
    """Return the class of each kind by its name, in the order of the names."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return {kind.name: kind for kind in sorted(Kind.__subclasses__(), key=lambda kind: kind.name)}

"""Import large packages, such as torch, quickly; and the user's own packages from the current folder."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType


@contextmanager
def without_collecting() -> Iterator[None]:
    """Around imports: collect no garbage meanwhile, and exclude the new objects from later collections.

    The imports of a run make about a million objects, all of which stay. Searching them for garbage takes a fifth of
    the import time, and another second when the process ends. Only for the entry points of processes: in the user's
    own process, the user's objects would be excluded as well.
    """
    imported = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > imported:  # else all was imported before, and is excluded already
            gc.freeze()
        gc.enable()


def find_here(packages: Sequence[str]) -> None:
    """Let `packages` be imported from the current folder where they are not installed, and nothing else from there."""
    finder = _Here(packages)
    if packages and finder not in sys.meta_path:
        sys.meta_path.append(finder)


def stop_finding_here(before: Sequence[object]) -> None:
    """Remove the finders that `find_here` has added to `before`, an earlier ``sys.meta_path``.

    Those of libraries stay: importlib_metadata, which MLflow imports, disables the standard one in favour of its own.
    """
    sys.meta_path[:] = [finder for finder in sys.meta_path if finder in before or not isinstance(finder, _Here)]


def to_be_found_here() -> list[str]:
    """Return the packages that `find_here` was called with."""
    return [name for finder in sys.meta_path if isinstance(finder, _Here) for name in finder.packages]


def imports_from_here() -> bool:
    """Return whether any module may be imported from the current folder, as with ``python -m train``."""
    return any(Path(entry).absolute() == Path.cwd() for entry in sys.path)


@dataclass(frozen=True)
class _Here(MetaPathFinder):
    packages: Sequence[str]
    folder: str = field(default_factory=os.getcwd)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a package; None: it is none of these."""
        return PathFinder.find_spec(fullname, [self.folder], target) if fullname in self.packages else None

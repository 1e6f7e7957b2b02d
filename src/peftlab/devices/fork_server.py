"""A fork server that has the heavy imports loaded, from which further processes start."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Iterator
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext

from peftlab.imports import imports_from_here


def server_context() -> ForkServerContext:
    """Return the context of the fork server, which need not run: `fork_server` starts it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["peftlab.sweep.preload"])
    return context


def fork_server() -> ForkServerContext:
    """Return the context of the fork server, which loads the heavy imports in the background.

    It starts as ``python -c``, which would import from the current folder first; here only if this process does.
    """
    context = server_context()
    with contextlib.nullcontext() if imports_from_here() else _safe_path():
        forkserver.ensure_running()
    return context


@contextlib.contextmanager
def _safe_path() -> Iterator[None]:
    """Keep Python processes started in the block from importing from the current folder."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before

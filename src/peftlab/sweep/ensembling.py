"""The ensemble that a sweep ends with, of its best runs."""

from __future__ import annotations

import logging
import subprocess
import sys

from peftlab.sweep.board import Board
from peftlab.sweep.reporting import ENSEMBLE, state_of
from peftlab.terminal.console import VERBATIM

log = logging.getLogger("peftlab")


def combine(board: Board, best: int | None) -> None:
    """Average the answers of the `best` runs of a finished sweep, where its records do not say that this was done.

    `peftlab ensemble` does it in a process of its own; what it prints is logged. The sweep is worth more than its
    ensemble: what goes wrong is a warning.

    Args:
        board: the sweep.
        best: the number of runs, those with the best validation score; None: there is no ensemble.
    """
    if best is None or board.status == "interrupted":
        return
    if board.told.get("ensemble") == f"{best} of {state_of(board.folder)}":
        return
    folder = str(board.folder)
    arguments = ["ensemble", folder, "--best", str(best), "--out", folder, "--name", ENSEMBLE]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "peftlab", *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        log.warning("the sweep has no ensemble, see above; try peftlab %s", " ".join(arguments[:4]))
        return
    log.info("the ensemble of the %d best:\n%s", best, done.stdout, extra=VERBATIM)
    board.told["ensemble"] = f"{best} of {state_of(board.folder)}"
    board.write()

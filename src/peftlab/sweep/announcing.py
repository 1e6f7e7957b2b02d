"""What a sweep says before its first trial: how many there are, what one costs, how they share devices."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence

from peftlab.devices import mps
from peftlab.errors import UserError
from peftlab.sweep.board import Board
from peftlab.sweep.ledger import Cell
from peftlab.sweep.lookers import looking
from peftlab.sweep.slots import Slot
from peftlab.sweep.spec import SweepSpec
from peftlab.sweep.worker import Estimate
from peftlab.terminal.console import clock

log = logging.getLogger("peftlab")


def pack_of(slots: Sequence[Slot], estimate: Estimate | None) -> int:
    """Return the trials of a process under `sweep.pack=auto`, and say why where that is one."""
    why = None
    if not slots:
        why = "the launcher runs each trial by itself"
    elif not slots[0].gpus:
        why = "a CPU is not idle while it computes one"
    elif slots[0].share != 1:
        why = "hydra.launcher.gpus_per_trial divides the GPUs already"
    elif estimate is None:
        why = "the memory of a trial was not estimated (sweep.probe_seconds)"
    if why is not None or estimate is None:
        log.info("sweep.pack=auto: one trial in a process: %s", why)
        return 1
    log.info("sweep.pack=auto: up to %d trials in a process, by a GPU's memory", estimate.pack)
    return estimate.pack


def sharing(slots: Sequence[Slot], environment: Mapping[str, str]) -> str | None:
    """Return how trials share a GPU, as a line for the user; None if each has its own.

    Args:
        slots: of the trials.
        environment: the variables of this process, which trials inherit.
    """
    gpus = Counter(slot.gpus for slot in slots if slot.gpus)
    most = max(gpus.values(), default=1)
    return f"up to {most} trials share a GPU, {mps.told(environment)}" if most > 1 else None


def announce(board: Board, cells: Sequence[Cell], slots: Sequence[Slot], spec: SweepSpec) -> Estimate | None:
    """Log the number of trials and their estimated cost; return the estimate for a trial, if there is one.

    Args:
        board: of the sweep.
        cells: of a grid, or examples; the first unfinished one is probed. None: nothing is left to be run.
        slots: of the trials; none under another launcher.
        spec: of the sweep.
    """
    kept = sum(trial.kept for trial in board.trials)
    left = None if board.total is None else board.total - kept
    how_many = "trials as far as the budget goes" if board.total is None else f"{board.total} trials"
    at_once = f"{board.slots} at a time" if slots else "a batch for the launcher"
    if spec.pack not in (1, "auto"):
        at_once = f"packs of up to {spec.pack}, {at_once}"
    log.info("%s: %s, %d of them done; %s", board.folder, how_many, kept, at_once)
    if left != 0 and (line := sharing(slots, os.environ)) is not None:
        log.info("%s", line)
    if not slots:  # an estimate here says nothing about other machines
        return None
    kept_ones = {trial.run_id for trial in board.trials if trial.kept}
    first = next((cell for cell in cells if cell.run_id not in kept_ones), None)
    if first is None or not spec.probe_seconds:
        return None
    try:  # in a separate process, which frees its device memory before the trials begin
        with looking(slots) as lookers:
            config = slots[0].within(first.config)
            estimate: Estimate = lookers.ask("estimate", config, spec.probe_seconds)
    except (UserError, RuntimeError) as error:
        log.warning("the cost of a trial could not be estimated: %s", str(error).strip().splitlines()[-1])
        return None
    mib = 2**20
    in_all = "" if left is None else f", {clock(estimate.seconds * left / board.slots)} in all"
    decisive = ("model", "data", "task", "regularizer", "budget")
    differ = [key for key in decisive if len({str(cell.config.get(key)) for cell in cells}) > 1]
    others = f" as the first; others differ in {', '.join(differ)}" if differ else ""
    passes = "" if estimate.passes == 1 else f" ({estimate.passes} passes a step)"
    log.info(
        "about %s each%s%s%s; on the disk %.0f MiB, and %.0f MiB more while they run",
        clock(estimate.seconds),
        passes,
        others,
        in_all,
        (left or 1) * estimate.bytes_kept / mib,
        board.slots * estimate.bytes_at_work / mib,
    )
    return estimate

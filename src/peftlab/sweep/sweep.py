"""The story of a sweep: a command goes in, trials come out, each with a record of its own."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig

from peftlab.console import clock, start_logging
from peftlab.errors import ConfigError, RunError, UserError
from peftlab.exits import Signals
from peftlab.sweep.batch import Batch, check_plan
from peftlab.sweep.board import Board, tracked
from peftlab.sweep.cells import Cells, composer
from peftlab.sweep.controller import Controller
from peftlab.sweep.display import drawing
from peftlab.sweep.grid import GridPlan
from peftlab.sweep.ledger import SELECTION, Cell, Ledger, evaluations
from peftlab.sweep.plan import Begun, Outcome, Plan, Proposal
from peftlab.sweep.processes import Looker, fork_server
from peftlab.sweep.protocols import make_plan
from peftlab.sweep.slots import Slot, divide
from peftlab.sweep.space import Space
from peftlab.sweep.spec import SweepSpec, sweep_spec
from peftlab.sweep.trials import Trials
from peftlab.sweep.worker import Estimate, Machine, summarise

log = logging.getLogger("peftlab")


def sweep(launcher: Launcher, context: HydraContext, config: DictConfig, arguments: Sequence[str]) -> Board:
    """Do the sweep that the overrides `arguments` of a command describe, or what is left of it.

    Args:
        launcher: the local one, or another of Hydra's, which gets batches.
        context: composes.
        config: what all trials share, Hydra's own part included.
        arguments: as typed.

    Raises:
        ConfigError: something cannot be run; nothing has been started then.
        RunError: trials have failed.
        Interrupted: a signal has asked for an end.
    """
    start_logging()
    spec = sweep_spec(config)
    if not is_local(launcher):
        check_plan(spec, config.hydra.runtime.choices["hydra/launcher"])
    method = config.hydra.runtime.choices.get("peft")
    space = Space.parse(arguments, spec, context.config_loader, method)
    with Signals() as signals:
        slots = slots_of(launcher, config)
        with looking(slots) as looker:
            cells = Cells(composer(context, config), space.fixed, looker)
            example = cells(Proposal(space.example()))
            objectives = _objectives(spec, example)
            plan = make_plan(spec, space, objectives, cells.default_of, slots[0].share if slots else 1.0)
            board = _run(plan, objectives, cells, slots, looker, signals, spec, launcher, config)
    if failed := board.summary()["counts"].get("failed"):
        raise RunError(f"{failed} of {len(board.trials)} trials failed; the same command tries them again")
    return board


def launch_batch(local: Any, job_overrides: Sequence[Sequence[str]]) -> list[JobReturn]:
    """Run the trials that another sweeper has chosen, and return what it wants to know of each."""
    start_logging()
    spec = sweep_spec(local.config)
    fixed = [text for text in job_overrides[0] if all(text in overrides for overrides in job_overrides)]
    proposals = [Proposal(tuple(text for text in overrides if text not in fixed)) for overrides in job_overrides]
    with Signals() as signals:
        slots = slots_of(local, local.config)
        with looking(slots) as looker:
            cells = Cells(composer(local.hydra_context, local.config), fixed, looker)
            objectives = _objectives(spec, cells(proposals[0]))
            once = {cells(proposal).run_id: proposal for proposal in proposals}  # a sweeper may repeat itself
            plan = GridPlan(list(once.values()))
            board = _run(plan, objectives, cells, slots, looker, signals, spec, local, local.config)
            trials = {trial.run_id: trial for trial in board.trials}
            of_each = [trials[cells(proposal).run_id] for proposal in proposals]
    returns = []
    for proposal, trial in zip(proposals, of_each, strict=True):
        done = JobReturn(overrides=list(proposal.overrides))
        done.status = JobStatus.COMPLETED if trial.state == "completed" else JobStatus.FAILED
        done.return_value = trial.score if trial.state == "completed" else RunError(trial.error or trial.state)
        returns.append(done)
    return returns


def _objectives(spec: SweepSpec, example: Cell) -> dict[str, str]:
    """Return what the sweep optimises, and in which direction.

    Raises:
        ConfigError: the direction of the score that selects checkpoints is not the one that is asked for.
    """
    asked = dict(spec.objectives or {SELECTION: example.mode})
    if asked.get(SELECTION, example.mode) != example.mode:
        raise ConfigError(
            f"sweep.objectives.{SELECTION} = '{asked[SELECTION]}': that is the {example.metric}, of which "
            f"{'less' if example.mode == 'min' else 'more'} is better. Set it to {example.mode}, or leave the "
            "objectives out"
        )
    return asked


def _run(
    plan: Plan,
    objectives: dict[str, str],
    cells: Cells,
    slots: Sequence[Slot],
    looker: Looker,
    signals: Signals,
    spec: SweepSpec,
    launcher: Any,
    config: DictConfig,
) -> Board:
    grid = cells.checked(plan.proposals)
    examples = grid or cells.checked(plan.examples)
    folder = folder_of(spec, config)
    command = ["python", "-m", "train", *sys.argv[1:]]
    environment = group(folder)
    kind: Callable[..., Trials] = partial(Batch, launcher=launcher)
    if slots:
        kind = partial(
            Controller,
            slots=slots,
            context=looker.context,
            command=command,
            environment=environment,
            signals=signals,
        )
    board = Board(folder.name, folder, command, objectives, len(slots), spec.price_per_device_hour, plan.total)
    board.tracked = tracked(folder)
    with Ledger(folder, look_only=spec.dry_run) as books, drawing() as show:
        trials = kind(
            plan=plan, cells=cells, ledger=books, board=board, show=show, reuse=spec.reuse, retries=spec.retries
        )
        recall(trials, grid)
        board.estimate_seconds = announce(board, examples, slots, spec)
        if spec.dry_run:
            return board
        signals.hold = bool(slots)  # another one waits within a library, which has to be left at once
        trials.run()
        board.results = plan.results(record.data for record in books.records())
        board.end()
        if settings := cells.settings("logger.wandb"):
            tell_wandb(board, settings, looker.context, environment)
    show.close(board)
    log.info("sweep folder: %s", folder)
    signals.raise_pending()
    return board


@contextmanager
def looking(slots: Sequence[Slot] = ()) -> Iterator[Looker]:
    """Around what asks about cells: the process that knows, and whose server makes the trials, too.

    Where it is known in which slots they run, it sees of the machine what they do.
    """
    with tempfile.TemporaryDirectory() as folder:
        looker = Looker(fork_server(), slots[0].environment() if slots else {}, Path(folder) / "output.txt")
        try:
            yield looker
        finally:
            looker.close()


def is_local(launcher: Any) -> bool:
    """Return whether the trials are processes of our own, rather than a batch for another of Hydra's launchers."""
    from hydra_plugins.peftlab.launcher import LocalLauncher

    return isinstance(launcher, LocalLauncher)


def slots_of(launcher: Any, config: DictConfig) -> list[Slot]:
    """Return where the local launcher has room for trials; another one sees to that itself: none."""
    if not is_local(launcher):
        return []
    with looking() as looker:
        machine: Machine = looker.ask("machine")
    gpus = [] if config.trainer.accelerator == "cpu" else machine.gpus
    given = launcher.gpus_per_trial, launcher.trials_at_once, launcher.threads_per_trial
    return divide(gpus, machine.cores, *given)


def folder_of(spec: SweepSpec, config: DictConfig) -> Path:
    """Return the folder of the sweep."""
    if config.sweep_dir is not None:
        return Path(config.sweep_dir)
    return Path(str(config.hydra.sweep.dir)) / (spec.name or config.name or f"{config.task.name}-{config.data.name}")


def group(folder: Path) -> dict[str, str]:
    """Return the variables by which W&B shows the trials of a sweep together."""
    return {} if "WANDB_RUN_GROUP" in os.environ else {"WANDB_RUN_GROUP": folder.name}


def tell_wandb(board: Board, settings: dict[str, Any], context: ForkServerContext, environment: dict[str, str]) -> None:
    """Make the W&B run that sums the sweep up, in a process of its own, under the `settings` of the trials' logger."""
    board.tracked = board.tracked or secrets.token_hex(4)
    board.write()
    options = {key: value for key, value in settings.items() if key != "_target_"}
    output = board.folder / "output" / "wandb.txt"
    process = context.Process(target=summarise, args=(environment, output, board.folder, board.document(), options))
    process.start()
    process.join()
    if process.exitcode != 0:
        log.warning("W&B: the summary of the sweep could not be made, see %s", output)


def recall(trials: Trials, grid: Sequence[Cell]) -> None:
    """Tell plan and board what there is already: of a grid its cells, of a search what it might have proposed."""
    known = {cell.sha256: cell for cell in grid}
    for one in grid:
        trials.register(one)
    past: list[tuple[Proposal, Outcome]] = []
    unfinished: list[Begun] = []
    for record in trials.ledger.records():
        cell: Cell | None = known.get(record.data["identity"]["sha256"]) or trials.cell_of_record(record)
        if cell is None:  # of another sweep in the same folder
            continue
        repeated = trials.is_to_be_repeated(record)
        if record.data["status"] in ("completed", "pruned") and not repeated:
            past.append((cell.proposal, trials.keep(cell, record)))
        else:
            unfinished.append((cell.proposal, () if repeated else evaluations(record.data)))
    trials.plan.recall(past, unfinished)


def announce(board: Board, cells: Sequence[Cell], slots: Sequence[Slot], spec: SweepSpec) -> float | None:
    """Say how many trials there are and what they are going to take; return the seconds for one, where known.

    Args:
        board: of the sweep.
        cells: those of a grid, or examples; the first that is not done is tried.
        slots: those that the trials run in; none where another launcher sees to that.
        spec: of the sweep.
    """
    kept = sum(trial.kept for trial in board.trials)
    left = None if board.total is None else board.total - kept
    how_many = "trials as far as the budget goes" if board.total is None else f"{board.total} trials"
    at_once = f"{board.slots} at a time" if slots else "a batch for the launcher"
    log.info("%s: %s, %d of them done; %s", board.folder, how_many, kept, at_once)
    if not slots:  # what this machine needs tells nothing of others
        return None
    kept_ones = {trial.run_id for trial in board.trials if trial.kept}
    first = next((cell for cell in cells if cell.run_id not in kept_ones), None)
    if first is None or not spec.probe_seconds:
        return None
    try:  # in a process of its own, whose memory on the device is free again when the trials begin
        with looking(slots) as looker:
            config = slots[0].within(first.config)
            found: Estimate = looker.ask("estimate", config, spec.probe_seconds)
    except (UserError, RuntimeError) as error:
        log.warning("what they take could not be estimated: %s", str(error).strip().splitlines()[-1])
        return None
    mib = 2**20
    in_all = "" if left is None else f", {clock(found.seconds * left / board.slots)} in all"
    log.info(
        "about %s each%s; on the disk %.0f MiB, and %.0f MiB more while they run",
        clock(found.seconds),
        in_all,
        (left or 1) * found.bytes_kept / mib,
        board.slots * found.bytes_at_work / mib,
    )
    return found.seconds

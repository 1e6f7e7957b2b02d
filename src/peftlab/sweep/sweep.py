"""Runs a sweep from the command to the finished trials, each with its own record."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from peftlab.composing.compose import whole_number
from peftlab.composing.composer import Composer
from peftlab.devices import openmp
from peftlab.devices.fork_server import fork_server, server_context
from peftlab.errors import ConfigError, RunError, UserError
from peftlab.runs.compare import differences
from peftlab.storage.names import check_folder, shortened, utf8_bytes
from peftlab.sweep import arguments
from peftlab.sweep.announcing import announce, pack_of
from peftlab.sweep.batch import Batch, check_chosen, check_plan
from peftlab.sweep.board import Board, told
from peftlab.sweep.cells import Cells, Compose, is_of_the_sweep
from peftlab.sweep.checked import Checked, checked_before
from peftlab.sweep.controller import Controller
from peftlab.sweep.display import drawing
from peftlab.sweep.ensembling import combine
from peftlab.sweep.grid import GridPlan
from peftlab.sweep.ledger import SELECTION, Cell, Ledger, evaluations
from peftlab.sweep.lookers import looking
from peftlab.sweep.plan import Outcome, Plan, Proposal
from peftlab.sweep.protocols import make_plan
from peftlab.sweep.reporting import page_of, report_on, state_of
from peftlab.sweep.slots import Slot, divide
from peftlab.sweep.space import METHOD, Space, grid, is_method
from peftlab.sweep.spec import SweepSpec, idle, sweep_spec
from peftlab.sweep.trials import Trials
from peftlab.sweep.worker import Machine, summarise
from peftlab.terminal.console import VERBATIM, start_logging
from peftlab.terminal.signals import Signals

log = logging.getLogger("peftlab")

_LONGEST_NAME = 120
"""Maximum bytes of a sweep name that joins trial names."""


def sweep(launcher: Launcher, context: HydraContext, config: DictConfig, overrides: Sequence[str]) -> Board:
    """Run or resume the sweep that `overrides` describe.

    Args:
        launcher: the local one, or another Hydra launcher, which gets batches.
        context: composes the configurations.
        config: shared by all trials; includes Hydra's own section.
        overrides: of the command line, see `peftlab.sweep.arguments`.

    Raises:
        ConfigError: a trial cannot run; none is started.
        RunError: trials failed.
        Interrupted: a signal arrived.
    """
    start_logging()
    spec = sweep_spec(config)
    if not is_local(launcher):
        check_plan(spec, config.hydra.runtime.choices["hydra/launcher"])
    # a swept experiment may choose the method, too
    method = None if arguments.sweeps_all_groups(overrides) else config.hydra.runtime.choices.get(METHOD)
    arguments.refuse_what_each_run_is_given(overrides)
    space = Space.parse(overrides, spec, context.config_loader, method)
    compose = Composer(context, config)
    check_section(space, compose, config)
    for line in idle(spec, overrides, space.methods or (space.method,)):
        log.warning("no effect: %s", line)
    fixed, proposals = [text for text in space.fixed if not is_of_the_sweep(text)], first_of(spec, space)
    checked = checked_before()
    with Signals() as signals:
        settle_threads(launcher, config)
        machine_then = checked.machine
        if not is_finished(checked, [*fixed, *proposals[0].overrides], compose):
            machine_then = None  # what is to be trained sees the devices that there are now
            fork_server()  # loads the heavy imports in the background; a finished sweep needs none
        # ask the trials, not `config`: the configuration without the choices is not a trial
        machine, slots = slots_of(launcher, accelerators(fixed, proposals, compose), machine_then)
        with looking(slots) as lookers:
            cells = Cells(compose, fixed, lookers, checked)
            examples = cells.checked(proposals)
            objectives = _objectives(spec, examples[0])
            check_scores(spec, objectives, examples)
            default_of = partial(default_under, cells, examples[0].proposal)
            plan = make_plan(spec, space, objectives, default_of, slots[0].share if slots else 1.0)
            board = _run(plan, objectives, cells, slots, signals, spec, launcher, config)
            unfinished = {trial.run_id for trial in board.trials if trial.state not in ("completed", "pruned")}
            cells.keep_facts(unfinished, machine)
    if failed := board.summary()["counts"].get("failed"):
        raise RunError(f"{failed} of {len(board.trials)} trials failed; the same command tries them again")
    return board


def launch_batch(local: Any, job_overrides: Sequence[Sequence[str]]) -> list[JobReturn]:
    """Run the trials that another sweeper chose, and return their results; it may have more to come: no report.

    Raises:
        ConfigError: a trial cannot run, or the configuration says how to choose trials.
        Interrupted: a signal arrived.
    """
    start_logging()
    spec = sweep_spec(local.config)
    check_chosen(spec, local.config.hydra.runtime.choices["hydra/sweeper"])
    fixed = [text for text in job_overrides[0] if all(text in overrides for overrides in job_overrides)]
    proposals = [Proposal(tuple(text for text in overrides if text not in fixed)) for overrides in job_overrides]
    with Signals() as signals:
        settle_threads(local, local.config)
        compose = Composer(local.hydra_context, local.config)
        _, slots = slots_of(local, {compose([*overrides])["trainer"]["accelerator"] for overrides in job_overrides})
        with looking(slots) as lookers:
            cells = Cells(compose, fixed, lookers)
            objectives = _objectives(spec, cells(proposals[0]))
            once = {cells(proposal).run_id: proposal for proposal in proposals}  # a sweeper may repeat trials
            plan = GridPlan(list(once.values()))
            board = _run(plan, objectives, cells, slots, signals, spec, local, local.config, report=False)
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
    """Return the objectives of the sweep with their directions.

    Raises:
        ConfigError: the configured direction of the selection score is wrong.
    """
    objectives = dict(spec.objectives or {SELECTION: example.mode})
    if objectives.get(SELECTION, example.mode) != example.mode:
        raise ConfigError(
            f"sweep.objectives.{SELECTION} = '{objectives[SELECTION]}': that is the {example.metric}, of which "
            f"{'less' if example.mode == 'min' else 'more'} is better. Set it to {example.mode}, or leave the "
            "objectives out"
        )
    return objectives


def _run(
    plan: Plan,
    objectives: dict[str, str],
    cells: Cells,
    slots: Sequence[Slot],
    signals: Signals,
    spec: SweepSpec,
    launcher: Any,
    config: DictConfig,
    report: bool = True,
) -> Board:
    grid = cells.checked(plan.proposals)
    examples = grid or cells.checked(plan.examples)
    folder = folder_of(config, examples)
    command = arguments.command()
    environment = group(folder)
    kind: Callable[..., Trials] = partial(Batch, launcher=launcher)
    if slots:
        kind = partial(
            Controller,
            slots=slots,
            context=server_context(),
            command=command,
            environment=environment,
            signals=signals,
            pack=1 if spec.pack == "auto" else spec.pack,
        )
    board = Board(folder.name, folder, command, objectives, len(slots), spec.price_per_device_hour, plan.total)
    board.tracked, board.told = told(folder)
    with Ledger(folder, look_only=spec.dry_run) as books, drawing() as show:
        trials = kind(
            plan=plan, cells=cells, ledger=books, board=board, show=show, reuse=spec.reuse, retries=spec.retries
        )
        recall(trials, grid)
        estimate = announce(board, () if plan.over else examples, slots, spec)
        board.estimate_seconds = None if estimate is None else estimate.seconds
        if spec.dry_run:
            return board
        if spec.pack == "auto":
            pack = pack_of(slots, estimate)
            if isinstance(trials, Controller):
                trials.pack = pack
        signals.hold = bool(slots)  # other launchers wait inside a library: interrupt them at once
        trials.run()
        board.results = plan.results(books.records())
        board.end()
        combine(board, spec.ensemble if report else None)
        page = _told(board, report and spec.report, cells.settings("logger.wandb"), environment)
    show.close(board)
    log.info("sweep folder: %s", folder, extra=VERBATIM)
    if page:
        log.info("report: %s", page, extra=VERBATIM)
    signals.raise_pending()
    return board


def _told(board: Board, report: bool, wandb: dict[str, Any] | None, environment: dict[str, str]) -> Path | None:
    """Write the report and the W&B run that summarise the sweep, where they do not show it as it is.

    Returns:
        the page of the report; None: there is none.
    """
    price = board.price_per_device_hour
    state, before = state_of(board.folder, price), dict(board.told)
    is_told = {kind for kind, told in board.told.items() if told == state and not board.has_worked}
    page = None
    if report and board.status != "interrupted":
        page = (page_of(board.folder) if "report" in is_told else None) or report_on(board.folder, price)
        board.told |= {"report": state} if page else {}
    if wandb and "wandb" not in is_told and tell_wandb(board, wandb, environment):
        board.told["wandb"] = state
    if board.told != before:
        board.write()
    return page


def is_local(launcher: Any) -> bool:
    """Return whether peftlab runs the trials itself, not another Hydra launcher."""
    from hydra_plugins.peftlab.launcher import LocalLauncher

    return isinstance(launcher, LocalLauncher)


def first_of(spec: SweepSpec, space: Space) -> list[Proposal]:
    """Return the trials of a grid; for a search, trials that cover every option."""
    if spec.search == "grid" and spec.protocol == "none":
        return grid(space)
    seed = space.seeds[0] if space.seeds else None
    return [Proposal(space.overrides_of(params, seed)) for params in space.examples()]


def default_under(cells: Cells, example: Proposal, key: str, overrides: Sequence[str]) -> Any:
    """Return the value at a dotted key under `overrides` and the other group choices of `example`."""
    chosen = {text.partition("=")[0] for text in overrides}
    groups = [text for text in example.overrides if "." not in (name := text.partition("=")[0]) and name not in chosen]
    return cells.default_of(key, [*(text for text in groups if not is_method(text.partition("=")[0])), *overrides])


def is_finished(checked: Checked, overrides: Sequence[str], compose: Compose) -> bool:
    """Return whether an earlier command has done with the cell of these overrides; its sweep may have others."""
    with suppress(ConfigError):  # reported when the trials are checked
        return checked.machine is not None and checked.knows(compose(overrides))
    return False


def accelerators(fixed: Sequence[str], proposals: Sequence[Proposal], compose: Compose) -> set[str]:
    """Return the accelerators of the trials; those that cannot be composed are reported by the later check."""
    names = set()
    for proposal in proposals:
        with suppress(ConfigError):
            names.add(compose([*fixed, *proposal.overrides])["trainer"]["accelerator"])
    return names


def check_section(space: Space, compose: Compose, config: DictConfig) -> None:
    """Check that no swept group, such as an experiment, configures the sweep itself.

    Raises:
        ConfigError: names the key.
    """
    if not any(one.key.startswith("+") for one in space.dimensions):
        return
    section: Any = OmegaConf.to_container(config.sweep, resolve=True)
    for params in space.examples():
        overrides = space.overrides_of(params)
        with suppress(ConfigError):  # reported when the trials are checked
            own = compose([*space.fixed, *overrides])["sweep"]
            for key, (_, value) in differences(section | {"name": None}, own | {"name": None}).items():
                raise UserError(
                    f"sweep.{key} = {value} under {' '.join(overrides)}: a swept group cannot configure the sweep "
                    f"itself. Write it in the command, sweep.{key}={value}"
                )


def check_scores(spec: SweepSpec, objectives: Mapping[str, str], cells: Sequence[Cell]) -> None:
    """Check that a search compares trials by one score; warn if a grid has several.

    Raises:
        ConfigError: lists the scores.
    """
    scores = sorted({f"{cell.metric} ({cell.mode})" for cell in cells})
    if SELECTION not in objectives or len(scores) == 1:
        return
    several = f"trials are selected by different scores, {', '.join(scores)}"
    if spec.search != "grid":
        raise ConfigError(f"sweep.search = '{spec.search}': {several}, and a search compares one. Sweep within one")
    log.warning("%s: none of them is called the best", several)


def settle_threads(launcher: Any, config: DictConfig) -> None:
    """Choose how the threads of trials on this machine wait, before the fork server loads torch for all of them."""
    if is_local(launcher):
        settings = [f"hydra.launcher.{name}" for name in ("threads_per_trial", "trials_at_once")]
        threads, per_trial, at_once = (whole_number(config, key) for key in ("trainer.threads", *settings))
        openmp.settle(threads or per_trial, at_once or 1, only_starts=True)


def slots_of(launcher: Any, accelerators: Set[str], machine: Machine | None = None) -> tuple[Machine, list[Slot]]:
    """Return the machine, and the slots of the local launcher on these accelerators there; none for other launchers.

    Args:
        launcher: Hydra's.
        accelerators: of the trials.
        machine: if it is known.
    """
    if not is_local(launcher):
        return Machine([], 0), []
    if machine is None:
        with looking() as lookers:
            machine = lookers.ask("machine")
    gpus = [] if accelerators == {"cpu"} else machine.gpus
    limits = launcher.gpus_per_trial, launcher.trials_at_once, launcher.threads_per_trial
    slots = divide(gpus, machine.cores, *limits)
    if not gpus and launcher.gpus_per_trial != 1:
        log.warning(
            "no effect: hydra.launcher.gpus_per_trial=%g: no trial has a GPU; hydra.launcher.trials_at_once says how "
            "many run side by side",
            launcher.gpus_per_trial,
        )
    return machine, slots


def folder_of(config: DictConfig, cells: Sequence[Cell]) -> Path:
    """Return the folder of the sweep, named after its cells: their common name, or all names joined."""
    if config.sweep_dir is not None:
        check_folder("sweep_dir", Path(config.sweep_dir))
        return Path(config.sweep_dir)
    name = OmegaConf.to_container(config.sweep)["name"]  # type: ignore[index,call-overload]  # a section
    names = sorted({_name_of(cell.config, name) for cell in cells})
    folder = Path(str(config.hydra.sweep.dir)) / (names[0] if len(names) == 1 else _joined(names))
    check_folder("sweep.name", folder)
    return folder


def _name_of(config: Mapping[str, Any], name: str | None) -> str:
    """Return the sweep name that a cell implies; `name` may refer to its configuration."""
    own = OmegaConf.create({**config, "sweep": {"name": name}}).sweep.name
    return str(own or config["name"] or f"{config['task']['name']}-{config['data']['name']}")


def _joined(names: Sequence[str]) -> str:
    joined = "+".join(name.replace("/", "_") for name in names)
    if len(joined.encode()) <= _LONGEST_NAME:
        return joined
    return f"{len(names)}+{shortened(joined, _LONGEST_NAME - 4, utf8_bytes)}"


def group(folder: Path) -> dict[str, str]:
    """Return the environment variables that group the trials of a sweep in W&B."""
    return {} if "WANDB_RUN_GROUP" in os.environ else {"WANDB_RUN_GROUP": shortened(folder.name, 128)}


def tell_wandb(board: Board, settings: dict[str, Any], environment: dict[str, str]) -> bool:
    """Create the W&B run that summarises the sweep, in a new process, with the `settings` of the trials' logger.

    Return whether that succeeded.
    """
    board.tracked = board.tracked or secrets.token_hex(4)
    board.write()
    options = {key: value for key, value in settings.items() if key != "_target_"}
    output = board.folder / "output" / "wandb.txt"
    process = fork_server().Process(
        target=summarise, args=(environment, output, board.folder, board.document(), options)
    )
    process.start()
    process.join()
    if process.exitcode != 0:
        log.warning("W&B: the summary of the sweep could not be made, see %s", output)
    return process.exitcode == 0


def recall(trials: Trials, grid: Sequence[Cell]) -> None:
    """Restore plan and board from the records of this sweep: cells of `grid`, or proposals of a search."""
    planned = {cell.sha256: cell for cell in grid}
    for one in grid:
        trials.register(one)
    begun: list[tuple[Proposal, Outcome]] = []
    for record in trials.ledger.records():
        cell: Cell | None = planned.get(record.data["identity"]["sha256"]) or trials.cell_of_record(record)
        if cell is None:  # of another sweep in the same folder
            continue
        repeated = trials.is_to_be_repeated(record)
        if record.data["status"] in ("completed", "pruned") and not repeated:
            begun.append((cell.proposal, trials.keep(cell, record)))
        else:
            begun.append((cell.proposal, Outcome("interrupted", (), () if repeated else evaluations(record))))
    trials.plan.recall(begun)

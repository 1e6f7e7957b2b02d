"""Trains a smaller model again, to answer as a teacher does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.devices.process_state import restored
from peftlab.errors import UserError
from peftlab.methods.selection import Full
from peftlab.one_run import run as train
from peftlab.regularizers.distil import Distil
from peftlab.runs.derivation import SECTION
from peftlab.use.compression.slicing import LEARNING_RATE

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun


def distil(
    run: FinishedRun,
    teacher: FinishedRun,
    *,
    max_epochs: float | None = None,
    alpha: float = 0.5,
    temperature: float = 2.0,
    hidden: float = 0.0,
    name: str | None = None,
    root: Path | None = None,
) -> FinishedRun:
    """Train the model of `run` further, with the answers of `teacher` in the place of part of the gold.

    It is an ordinary run, found by its identity or resumed like any other: the configuration of `run`, its adapter as
    the initial one, and the regulariser `Distil`. A trained `run` keeps its learning rate, a derived one takes that of
    its method.

    Args:
        run: the model to train, such as one that has lost layers.
        teacher: a finished run of the same task, or an ensemble.
        max_epochs: for how long; None: as long as `run`, or what it was made from, was trained at most.
        alpha: see `Distil`.
        temperature: see `Distil`.
        hidden: see `Distil`.
        name: the name of the run; None: that of `run` and ``-distilled``.
        root: the folder of the folders of runs, by name; None: ``runs/``.

    Raises:
        UserError: the model cannot be trained, or would be for no step; or it does not fit the teacher.
    """
    from peftlab.use.finished import load

    method = run.parts.peft
    if not method.count(run.model)["total_parameters"]:
        raise UserError(f"{run.folder.path}: peft={method.name} cannot be trained: distil before this step")
    if max_epochs is None and run.config["budget"].get("max_steps") == 0:
        raise UserError(
            f"{run.folder.path}: was trained for no step (budget.max_steps=0), and would be distilled for none: say "
            "how many epochs, distil=EPOCHS"
        )
    config = {key: value for key, value in run.config.items() if key != SECTION}
    term: dict[str, Any] = {"teacher": str(teacher.folder.path.absolute()), "sha256": None, "start_step": 1}
    term |= {"alpha": alpha, "temperature": temperature, "hidden": hidden}
    name = name or f"{run.record.data['name']}-distilled"
    changes: dict[str, Any] = {
        "adapter": str(run.folder.adapter.absolute()),
        "regularizer": {"distil": {"_target_": f"{Distil.__module__}.{Distil.__qualname__}", **term}},
        "name": name,
        "run_dir": None,
        "sweep_dir": None if root is None else str(root / name),
        "existing": "skip",
    }
    if run.record.derived is not None:  # and so no learning rate was chosen for it
        rate = LEARNING_RATE if isinstance(method, Full) else method.learning_rate
        changes["optimizer"] = {**config["optimizer"], "lr": rate}
    if max_epochs is not None:
        changes["budget"] = {**config["budget"], "max_epochs": max_epochs, "max_steps": None, "max_passes": None}
    with restored():
        record = train({**config, **changes}, ["peftlab", "compress"], ["regularizer=[distil]"])  # reports group by it
    return load(record.folder, run.folder.allow)

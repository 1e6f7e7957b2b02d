"""The decisions of a finished run: taken up where the run is used, and what its predictions say of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from peftlab.abstaining.scope import Scope
from peftlab.errors import UserError
from peftlab.runs.decisions import DECISIONS, SCOPE, SECTION, read_decisions, read_scope
from peftlab.runs.folder import RunFolder, each_prediction
from peftlab.tasks.outputs.kept_answers import Decisions
from peftlab.tasks.outputs.optimism import optimism
from peftlab.tasks.task import Task
from peftlab.use.unchanged import not_of_the_record


def decisions_of(folder: RunFolder, task: Task) -> Decisions:
    """Return the decisions of the run in `folder`, which its `task` then answers by.

    Raises:
        UserError: the file beside the adapter is damaged, or is not what the record says; or the task learns decisions,
            and the run has none.
    """
    decisions = read_decisions(folder.adapter)
    recorded = folder.record.extensions.get(SECTION, {}).get("learnt", {})
    if decisions != recorded:
        raise UserError(not_of_the_record(folder, f"adapter/{DECISIONS}", "what its record has"))
    if task.decides and not decisions:
        raise UserError(
            f"{folder.path}: task={task.name} has learnt nothing on the validation split: adapter/{DECISIONS} is "
            "missing, and the record has none. Train the run again with `peftlab reproduce`"
        )
    return decisions


def scope_of(folder: RunFolder) -> Scope | None:
    """Return what the run in `folder` has learnt of its scope; None: nothing.

    Raises:
        UserError: a file beside the adapter is damaged, or is not what the record says.
    """
    if read_scope(folder.adapter) != folder.record.extensions.get(SCOPE, {}).get("learnt"):
        raise UserError(not_of_the_record(folder, f"'{SCOPE}' in adapter/{DECISIONS}", "what its record has"))
    return Scope.load(folder.adapter)


def evident(folder: RunFolder, task: Task, tests: bool) -> dict[str, Any] | None:
    """Return the section of the record that follows from the predictions of a run; None if these cannot be read.

    Args:
        folder: the run folder; its record is not used.
        task: the run's task, which gets the decisions.
        tests: whether the run was tested.
    """
    try:
        task.decisions = task.decide(each_prediction(folder.predictions / "validation.jsonl"))
        test = partial(each_prediction, folder.predictions / "test.jsonl")
        return {"learnt": task.decisions, "optimism": optimism(task, test) if tests else {}}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # its digest shows that it was changed
        task.decisions = _beside(folder.adapter)
        return None


def contradicting(folder: RunFolder, evidence: dict[str, Any] | None) -> list[str]:
    """Return what is wrong with the decisions beside the adapter, as text."""
    try:
        decisions = read_decisions(folder.adapter)
    except UserError as error:
        return [str(error)]
    if evidence is None or decisions == evidence.get("learnt", {}):
        return []
    return [f"adapter/{DECISIONS} is not what follows from the predictions of the validation split"]


def _beside(adapter: Path) -> Decisions:
    try:
        return read_decisions(adapter)
    except UserError:
        return {}

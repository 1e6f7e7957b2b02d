"""Finished runs whose answers are averaged, or voted on, as one run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from peftlab.errors import UserError
from peftlab.tasks.batch import Batch
from peftlab.tasks.outputs.mixing import How
from peftlab.tasks.task import Task
from peftlab.use.derive import derive, derived_before
from peftlab.use.ensembles.fitting import fitted_temperature, fitted_weights, predicts_numbers, unfitted
from peftlab.use.ensembles.members import check_members, fill_members, members_of
from peftlab.use.examples import data_of
from peftlab.use.finished import FinishedRun

log = logging.getLogger("peftlab")

Weights = Literal["equal", "validation"] | Sequence[float]
Temperature = Literal["auto"] | float

_TARGET = "peftlab.methods.ensemble.Ensemble"


def average(
    runs: Sequence[FinishedRun],
    how: How = "average",
    weights: Weights = "equal",
    temperature: Temperature = "auto",
    name: str | None = None,
    root: Path | None = None,
) -> FinishedRun:
    """Return a run whose answers are the mixture of those of `runs`.

    Args:
        runs: the members; the ensemble has the data, the options and the decisions of the first one, but learns
            decisions, such as thresholds, anew.
        how: ``average`` probabilities, or ``vote``.
        weights: of the members; ``validation``: those with the largest likelihood on the validation split.
        temperature: divides the logits of an average; ``auto``: that with the largest likelihood on the validation
            split, and 1 where there is none.
        name: of the run, see `derive`.
        root: as of `derive`.

    Raises:
        UserError: the runs do not go together, or what they predict cannot be combined so.
    """
    check_members(runs)
    sections = [run.config["peft"] for run in runs]
    asked = {"how": how, "weights": weights if isinstance(weights, str) else list(weights), "temperature": temperature}
    return mixed(runs, sections, fill_members(runs), asked, name, root)


def mixed(
    parents: Sequence[FinishedRun],
    members: Sequence[Mapping[str, Any]],
    fill: Callable[[nn.Module], None],
    how: Mapping[str, Any],
    name: str | None = None,
    root: Path | None = None,
) -> FinishedRun:
    """Return a run whose answers are the mixture of those of `members`.

    Args:
        parents: the runs that they come from; the ensemble has the backbone, the task and the data of the first one.
        members: the section of the configuration for the method of each.
        fill: loads the weights of all members into a model.
        how: the options that decide the result, for the record; of them ``how`` (else ``average``), ``weights`` (else
            ``equal``) and ``temperature`` (else ``auto``) act here, see `average`.
        name: of the run, see `derive`.
        root: as of `derive`.

    Raises:
        UserError: what they predict cannot be combined so.
    """
    first = parents[0]
    kind: How = "vote" if how.get("how") == "vote" else "average"
    section: dict[str, Any] = {
        "_target_": _TARGET,
        "name": str(how.get("how", kind)),
        "how": kind,
        "members": [*members],
    }
    weights, temperature = how.get("weights", "equal"), how.get("temperature", "auto")
    _check(first.parts.task, kind, weights, temperature)
    if not isinstance(weights, str):
        section["weights"] = [float(weight) for weight in weights]
    if temperature != "auto":
        section["temperature"] = float(temperature)
    fits_weights = weights == "validation" and len(members) > 1
    fits_temperature = temperature == "auto" and _has_temperature(first.parts.task, kind)
    if fits_weights or fits_temperature:
        if (made := derived_before(parents, "ensemble", how, section["name"], name, root)) is not None:
            return made
        section |= _fitted(first, section, fill, fits_weights, fits_temperature)
    return derive(parents, by="ensemble", how=how, peft=section, fill=fill, name=name, root=root)


def _fitted(
    first: FinishedRun, section: Mapping[str, Any], fill: Callable[[nn.Module], None], weights: bool, temperature: bool
) -> dict[str, Any]:
    """Return the options of the ensemble that are learnt on the validation split."""
    model, found = members_of(first, section, fill), dict[str, Any]()
    predictor = first.predictor_of(model)
    split = data_of(first, ["validation"], predictor.task).splits["validation"]

    def batches() -> Iterator[Batch]:
        return (batch for _, batch in predictor.batches(split.examples, split.encoded))

    with torch.inference_mode(), predictor.arithmetic():
        if weights:
            found["weights"] = fitted_weights(model, predictor.task, batches())
            model.mixture = replace(model.mixture, weights=found["weights"])
            log.info("weights of the members: %s", ", ".join(f"{weight:.3f}" for weight in found["weights"]))
        if temperature:
            found["temperature"] = fitted_temperature(model, predictor.task, batches())
            log.info("temperature of the ensemble: %.4f", found["temperature"])
    return found


def _check(task: Task, how: str, weights: Any, temperature: Any) -> None:
    """Check that the options suit the task.

    Raises:
        UserError: they do not.
    """
    if how == "vote" and temperature not in ("auto", 1, 1.0):
        raise UserError("--temperature: shares of votes have none. Leave it out, or average, --how average")
    if how == "vote" and predicts_numbers(task):
        raise UserError(f"--how vote: task={task.name} predicts numbers, which are averaged, --how average")
    if how == "vote" and task.head.outputs == "span":
        raise UserError(f"--how vote: task={task.name} finds spans, whose ends are averaged, --how average")
    if predicts_numbers(task) and temperature not in ("auto", 1, 1.0):
        raise UserError(f"--temperature: task={task.name} predicts numbers, which have no probability. Leave it out")
    if weights == "validation" and not predicts_numbers(task) and (reason := unfitted(task)):
        raise UserError(f"--weights validation: task={task.name}: {reason}. Name the weights, or leave them equal")


def _has_temperature(task: Task, how: str) -> bool:
    """Return whether a temperature can be fitted; a line in the log says why not."""
    if how == "vote":
        return False
    reason = unfitted(task)
    if reason is None and task.head.outputs == "vocabulary":
        reason = "its answers are texts, and no probability of one is told"
    if reason is not None and not predicts_numbers(task):
        log.info("no temperature is fitted: task=%s: %s", task.name, reason)
    return reason is None

"""Merges finished runs of one pretrained model into one, in the space of their weights."""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from peftlab.devices.process_state import restored
from peftlab.errors import ConfigError, UserError
from peftlab.training.scoring import Scoring
from peftlab.use.derive import derive
from peftlab.use.ensembles.members import division
from peftlab.use.ensembles.rules import GreedySoup, OfChanges, Rule, Soup, generator, rule_of
from peftlab.use.ensembles.swag import SWAG, swag_run
from peftlab.use.ensembles.weights import Shelf, check_labels, check_mergeable, original_weights
from peftlab.use.evaluate import trainer_for
from peftlab.use.examples import data_of

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun

log = logging.getLogger("peftlab")

GREEDY = "greedy_soup"
"""The section of the record that says which runs a greedy soup has tried and kept."""

_SCALES = ("mean", "sd", "means", "sds")
"""What a task has standardised targets, or columns, by, as its `settled` names it."""


@restored()
def merge_runs(
    runs: Sequence[FinishedRun],
    how: str,
    options: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    root: Path | None = None,
) -> FinishedRun:
    """Return a completed run whose weights are those of `runs` merged; it is found if it was made before.

    Runs of different methods go together, for all are merged as what they have added to the pretrained weights. A head
    that is not pretrained has no such change: whatever the rule, it is averaged. Meanwhile the merged weights of all
    runs lie in the folder for temporary files; in memory are those of two models, with `Ties` of three.

    Args:
        runs: the runs; the result is scored on the data of the first.
        how: a rule in `peftlab.use.ensembles.rules.RULES`, or ``swag``, which takes one run.
        options: those of the rule, see there, or of `swag_run`.
        name: the name of the result.
        root: the folder that its folder is put into.

    Raises:
        UserError: a run cannot be merged with the others, or there is no such rule or option.
    """
    if how == SWAG:
        return swag_run(runs, options or {}, name=name, root=root)
    rule = rule_of(how, options or {})
    check(runs, rule)

    def fill(model: nn.Module) -> dict[str, dict[str, Any]]:
        tried: list[Tried] = []
        with tempfile.TemporaryDirectory(prefix="peftlab-merge-") as folder:
            shelf = Shelf(Path(folder), original_weights(runs[0]))
            for run in runs:
                log.info("merging %s", run.folder.path)
                shelf.add(run, runs[0].parts.task.labels)
            if isinstance(rule, GreedySoup):
                tried.extend(greedily(model, shelf, runs))
            kept = [each.number for each in tried if each.kept] or range(len(runs))
            merge_into(model, shelf, rule, kept)
        metric, of_each = runs[0].parts.task.selection.metric, [each.document(runs) for each in tried]
        return {GREEDY: {"metric": metric, "split": "validation", "tried": of_each}} if tried else {}

    full = {"_target_": "peftlab.methods.selection.Full", "name": how}
    return derive(runs, by="ensemble", how={"how": how, **rule.options}, peft=full, fill=fill, name=name, root=root)


def check(runs: Sequence[FinishedRun], rule: Rule) -> None:
    """Check that `rule` can merge `runs`; their weights are not looked at yet.

    Raises:
        UserError: says which run cannot be merged with the first one, and why.
    """
    if not runs:
        raise UserError("there is no run to merge: name at least one")
    rule.check(len(runs))
    first = runs[0]
    for run in runs:
        check_mergeable(run)
        if run.pretrained.weights_sha256 != first.pretrained.weights_sha256:
            raise UserError(
                f"{run.folder.path}: fine-tunes another pretrained model, {run.pretrained.origin}, than the first run, "
                f"{first.pretrained.origin}, and weights can only be merged where they began alike. Average the "
                "answers instead: --how average"
            )
        if run.parts.task.head.model != first.parts.task.head.model:
            raise UserError(
                f"{run.folder.path}: task={run.parts.task.name} has another head than task={first.parts.task.name} of "
                "the first run. Merge runs of one task"
            )
        if run.parts.model.pooling != first.parts.model.pooling:
            raise UserError(
                f"{run.folder.path}: its head reads model.pooling={run.parts.model.pooling}, and that of the first run "
                f"{first.parts.model.pooling}. Merge runs whose heads read the same"
            )
        check_labels(run, first.parts.task.labels)
        _check_scale(run, first)
        _check_data(run, first, rule)


def _check_scale(run: FinishedRun, first: FinishedRun) -> None:
    settled = [each.parts.task.settled() for each in (run, first)]
    own, wanted = ({key: each[key] for key in _SCALES if key in each} for each in settled)
    if own != wanted:
        raise UserError(
            f"{run.folder.path}: its numbers are on another scale, {_shown(own)}, than those of the first run, and "
            f"merged weights would be for neither. Train it with {_shown(wanted)}"
        )


def _shown(scale: Mapping[str, Any]) -> str:
    return " ".join(f"task.{key}={value}" for key, value in scale.items())


def _check_data(run: FinishedRun, first: FinishedRun, rule: Rule) -> None:
    digests = [each.record.data["identity"]["data_sha256"] for each in (run, first)]
    own, wanted = division(run), division(first)
    if digests[0] == digests[1] and own == wanted:
        return
    if not isinstance(rule, OfChanges):
        raise UserError(
            f"{run.folder.path}: its data is not that of the first run, on whose test split the soup is scored: it may "
            "have been trained on it. Merge runs of the same data, or tasks by --how arithmetic, ties or dare"
        )
    log.warning(
        "%s: its data is not that of the first run, on whose splits the merged model is scored: see to it that it was "
        "not trained on them",
        run.folder.path,
    )


def merge_into(model: nn.Module, shelf: Shelf, rule: Rule, runs: Sequence[int]) -> None:
    """Put the weights of some of the runs on a `shelf`, merged by `rule`, into the plain `model`."""
    cuts = [rule.cut(shelf.changes(run)) for run in runs]
    of_fresh = rule if isinstance(rule, Soup) else Soup()
    parameters = dict(model.named_parameters())
    for name in shelf.sizes:
        if not (shelf.changed(name) or name in shelf.fresh):
            continue
        parameter = parameters[name]
        random = [generator(getattr(rule, "seed", 0), run, name) for run in runs]
        merged = torch.empty(parameter.numel(), dtype=parameter.dtype)
        for place, original, weights in shelf.pieces(name, runs):
            by = of_fresh if name in shelf.fresh else rule
            merged[place] = by.merged(original, weights, cuts, random).to(merged.dtype)
        parameter.data.copy_(merged.view_as(parameter))


@dataclass(frozen=True)
class Tried:
    """A run that a greedy soup was tried with."""

    number: int
    """Its place among the runs."""
    score: float
    """The validation score of the soup with it."""
    kept: bool

    def document(self, runs: Sequence[FinishedRun]) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"id": runs[self.number].record.data["run_id"], "score": self.score, "kept": self.kept}


def greedily(model: nn.Module, shelf: Shelf, runs: Sequence[FinishedRun]) -> list[Tried]:
    """Return the runs in order of their validation scores, and whether a soup with each was no worse than before.

    The `model`, which has the head of these runs, is left with the weights of the last soup.
    """
    validation = _Validation(runs[0])
    worse_first = sorted(range(len(runs)), key=lambda run: validation.sign * validation.recorded(runs[run]))
    tried: list[Tried] = []
    best = -float("inf")
    for run in reversed(worse_first):
        kept = [each.number for each in tried if each.kept]
        merge_into(model, shelf, GreedySoup(), [*kept, run])
        score = validation.score(model)
        better = validation.sign * score >= best
        tried.append(Tried(run, score, better or not kept))
        best = validation.sign * score if better else best
        log.info("greedy soup: %s %s, %s", "with" if better else "without", runs[run].folder.path, score)
    return tried


class _Validation:
    """Scores models in place of that of a run on its validation split, before any decision is learnt from it."""

    def __init__(self, run: FinishedRun) -> None:
        spec = run.spec
        self.spec, self.task = spec, copy.copy(spec.task)
        self.task.decisions = {}
        self.data = data_of(run, ["validation"], self.task)
        if self.task.refers:
            raise ConfigError(
                f"how = 'greedy_soup': the validation score of task={spec.task.name} depends on a model to refer to. "
                "Use soup"
            )
        self.metric = spec.task.selection.metric
        self.sign = 1 if {**spec.task.scorer.directions, "loss": "min"}[self.metric] == "max" else -1

    def recorded(self, run: FinishedRun) -> float:
        """Return the score by which the best checkpoint of `run` was selected.

        Raises:
            UserError: it was selected by another one.
        """
        selection = run.record.data["selection"]
        value = selection["value"] if selection["metric"] == self.metric else None
        value = run.record.score("validation", self.metric) if value is None else value
        if value is None:
            raise UserError(f"{run.folder.path}: has no validation {self.metric}, by which the runs are put in order")
        return float(value)

    def score(self, model: nn.Module) -> float:
        """Return the score of `model`."""
        trainer = trainer_for(self.spec, [])
        trainer.validate(Scoring(model, self.task).eval(), self.data, verbose=False)
        return float(trainer.callback_metrics[f"validation/{self.metric}"])

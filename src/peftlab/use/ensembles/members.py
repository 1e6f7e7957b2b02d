"""Which finished runs can answer together, and the model of their answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from peftlab.errors import UserError
from peftlab.models.adapted_model import adapted_model, base_model
from peftlab.runs.identity import deciding_part, leaves
from peftlab.specs import build
from peftlab.tasks.outputs.mixing import Members
from peftlab.use.finished import FinishedRun

_OF_LOADING = ("dropout", "attention_dropout", "head_dropout", "name", "source")
"""Options of a model in which members may differ: only the training uses them, or digests stand for them."""
_OF_TRAINING = ("selection", "class_weights", "label_smoothing", "slot_weight", "pos_weight", "criterion", "changes")
"""Options of a task in which members may differ: only the training uses them."""
_DIVIDING = ("fold", "splits", "duplicates")
_READING = (*_DIVIDING, "subset", "format", "mask_pii", "max_tokens", "long")
"""Options of the data that divide it into splits, and those that say what is read of it."""
_OF_GROUPS = ("group", "documents")
"""Options of a format that say which examples stay together in a split."""


def check_members(runs: Sequence[FinishedRun]) -> None:
    """Check that the answers of `runs` can be combined: same pretrained weights, data, inputs, task and labels.

    Raises:
        UserError: they cannot; says which run differs in what.
    """
    first, *others = runs
    for run in others:
        for what, mine, theirs in _compared(first, run):
            if mine != theirs:
                raise UserError(
                    f"{run.folder.path} does not go with {first.folder.path}: {what} differ, {_shown(theirs)} and "
                    f"{_shown(mine)}. Members of an ensemble read and answer the same"
                )


def reading(run: FinishedRun) -> dict[str, Any]:
    """Return how `run` reads its data: the options of the section ``data`` that decide it, by dotted key.

    Digests stand for the files, and only the training uses the weights of examples.
    """
    data = deciding_part(run.config)["data"]
    options = leaves({key: data.get(key) for key in _READING})
    of_files = {f"splits.{split}" for split, place in (data.get("splits") or {}).items() if isinstance(place, str)}
    return {key: value for key, value in options if key not in of_files and not key.endswith(".weight")}


def division(run: FinishedRun) -> dict[str, Any]:
    """Return the part of `reading` that decides which examples of the files are in which split."""
    return {
        key: value
        for key, value in reading(run).items()
        if key.partition(".")[0] in _DIVIDING or key.rpartition(".")[2] in _OF_GROUPS
    }


def fill_members(runs: Sequence[FinishedRun]) -> Callable[[nn.Module], None]:
    """Return what loads the adapters of `runs` into the members of a model.

    Rows of a head whose labels are in another order than those of the first run are matched by the labels' names.
    """

    def fill(model: nn.Module) -> None:
        assert isinstance(model, Members)
        for run, member in zip(runs, model.members, strict=True):
            if run.parts.task.labels == runs[0].parts.task.labels:
                run.load_adapter(member)
            else:
                context = base_model(runs[0].parts, runs[0].pretrained).context
                run.parts.peft.adopt(member, run.folder.adapter, context)

    return fill


def members_of(first: FinishedRun, section: Mapping[str, Any], fill: Callable[[nn.Module], None]) -> Members:
    """Return the model of an ensemble on the backbone of `first`.

    Args:
        first: the run whose backbone, task and data the ensemble has.
        section: the configuration of its method.
        fill: loads the members' weights.
    """
    method = build({**section, "learning_rate": first.parts.peft.learning_rate}, "peft")
    model = adapted_model(replace(first.parts, peft=method), first.pretrained).model
    assert isinstance(model, Members)
    fill(model)
    return model.eval().to(first.device)


def _compared(first: FinishedRun, run: FinishedRun) -> list[tuple[str, Any, Any]]:
    """Return what has to be the same in two runs: its name, and the values of both."""
    identities = [one.record.data["identity"] for one in (first, run)]
    digests = [{split: one["data_sha256"].get(split) for split in ("validation", "test")} for one in identities]
    models, tasks = (
        [{key: value for key, value in one.config[section].items() if key not in free} for one in (first, run)]
        for section, free in (("model", _OF_LOADING), ("task", _OF_TRAINING))
    )
    return [
        ("the pretrained weights", *(one["weights_sha256"] for one in identities)),
        ("the validation or test data", *digests),
        *_of_sections("model", *models),
        *_of_sections("data", reading(first), reading(run)),
        *_of_sections("task", *tasks),
        ("the labels", *(sorted(one.parts.task.labels) for one in (first, run))),
    ]


def _of_sections(name: str, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    return [(f"the values of {name}.{key}", mine.get(key), theirs.get(key)) for key in sorted({*mine, *theirs})]


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

"""Finds names of people by a run of named entity recognition, for masking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from peftlab.errors import UserError, did_you_mean
from peftlab.personal_data.kind import Slice
from peftlab.personal_data.masker import Names
from peftlab.use.finished import load
from peftlab.use.predictor import Refused

_PEOPLE = ("per", "person", "people", "name", "patient", "doctor")
"""What the type of a person is usually called."""


def names_of(run: str | Path, types: Sequence[str] = (), allow: Sequence[str] = ()) -> Names:
    """Return what finds names in texts by the model of a finished run; long texts are read whole.

    Args:
        run: the run's folder, or the start of its id.
        types: the entity types that are names; by default those that are usually called so, such as ``PER``.
        allow: your own packages whose classes the run's configuration may name: their code is run.

    Raises:
        UserError: there is no such run, it finds no entities, or none of its types is a name.
    """
    finished = load(run, allow)
    task = finished.parts.task
    known: Sequence[str] = getattr(task, "types", ())
    if not known:
        raise UserError(f"--names {run}: its task={task.name} finds no entities; name a run of task=ner")
    for one in types:
        if one not in known:
            raise UserError(f"--names-types: there is no type '{one}'.{did_you_mean(one, known)} Of {', '.join(known)}")
    chosen = set(types) or {one for one in known if one.casefold() in _PEOPLE}
    if not chosen:
        raise UserError(f"--names {run}: which of its types are names? Say so: --names-types, of {', '.join(known)}")
    predictor = replace(finished.predictor, long="split", masks=())

    def names(texts: Sequence[str]) -> list[list[Slice]]:
        found = []
        for answer in predictor.answers(texts):
            if isinstance(answer, Refused):
                raise UserError(f"--names {run}: a text cannot be read: {answer.reason}") from answer.reason
            found.append([(one["start"], one["end"]) for one in answer["entities"] if one["type"] in chosen])
        return found

    return names

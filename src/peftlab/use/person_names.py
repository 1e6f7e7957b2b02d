"""Finds names of people by a run of named entity recognition, for masking. Imports no torch before it finds some."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from peftlab.errors import DataError, UserError, did_you_mean
from peftlab.personal_data.kind import Slice
from peftlab.runs.find import find
from peftlab.runs.record import RunRecord
from peftlab.storage.digests import sha256_of

if TYPE_CHECKING:
    from peftlab.use.predictor import Predictor

_PEOPLE = ("per", "person", "people", "name", "patient", "doctor")
"""What the type of a person is usually called."""


@dataclass(frozen=True)
class PersonNames:
    """Finds names in texts by the model of a finished run; long texts are read whole.

    The model is loaded when it is first called: a server's supervisor passes it on to the workers without one. Once it
    is loaded, several threads may call it.
    """

    run: Path
    """The run's folder."""
    types: tuple[str, ...] = ()
    """The entity types that are names; empty: those that are usually called so, such as ``PER``."""
    allow: tuple[str, ...] = ()
    """Your own packages whose classes the run's configuration may name: their code is run."""

    def __call__(self, texts: Sequence[str]) -> list[list[Slice]]:
        """Return where in each text the names stand.

        Raises:
            UserError: the run cannot be used, finds no entities, or none of its types is a name.
            DataError: a text cannot be read.
        """
        from peftlab.use.predictor import Refused

        found = []
        with self._lock:  # a tokenizer must not be used by two threads at once
            for answer in self._predictor.answers(texts):
                if isinstance(answer, Refused):
                    raise DataError(f"names cannot be looked for in it: {answer.reason}") from answer.reason
                found.append([(one["start"], one["end"]) for one in answer["entities"] if one["type"] in self._chosen])
        return found

    @property
    def digest(self) -> str:
        """Tells apart what may find other names, wherever the run lies."""
        return sha256_of([RunRecord.load(self.run).data["identity"]["sha256"], sorted(self.types)])

    @property
    def _place(self) -> str:
        return f"the run that finds names, {self.run}"

    @cached_property
    def _lock(self) -> threading.Lock:
        return threading.Lock()

    @cached_property
    def _predictor(self) -> Predictor:
        from peftlab.use.finished import load

        predictor = load(self.run, self.allow).predictor
        task = predictor.task
        known: Sequence[str] = getattr(task, "types", ())
        if not known:
            raise UserError(f"{self._place}: its task={task.name} finds no entities; name a run of task=ner")
        for one in self.types:
            if one not in known:
                raise UserError(
                    f"names-types: there is no type '{one}'.{did_you_mean(one, known)} Of {', '.join(known)}"
                )
        if not self.types and not any(map(_is_person, known)):
            raise UserError(
                f"{self._place}: which of its types are names? Say so with the option names-types, of "
                f"{', '.join(known)}"
            )
        return replace(predictor, long="split", masks=())

    @cached_property
    def _chosen(self) -> frozenset[str]:
        known: Sequence[str] = getattr(self._predictor.task, "types", ())
        return frozenset(self.types or filter(_is_person, known))


def names_of(run: str | Path, types: Sequence[str] = (), allow: Sequence[str] = ()) -> PersonNames:
    """Return what finds names in texts by a finished run.

    Args:
        run: the run's folder, or the start of its id.
        types: see `PersonNames`.
        allow: see `PersonNames`.

    Raises:
        UserError: there is no such run.
    """
    return PersonNames(find(run), tuple(types), tuple(allow))


def _is_person(type_: str) -> bool:
    return type_.casefold() in _PEOPLE

"""A finished run as a labelling function: it votes for what it is sure of."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from peftlab.abstaining.scope import is_escalated
from peftlab.errors import DataError, UserError
from peftlab.tasks.classification import Classification
from peftlab.tasks.inputs.texts import Text
from peftlab.use.finished import load
from peftlab.use.predictor import Predictor, Refused
from peftlab.weak_supervision.functions import Unlabelled

log = logging.getLogger("peftlab")


@dataclass(frozen=True)
class VotingRun:
    """A labelling function that asks a model."""

    name: str
    predictor: Predictor
    threshold: float
    """The probability of a label, or of an entity, from which on it votes for it."""

    def votes(self, texts: Sequence[Unlabelled]) -> Iterator[Any]:
        """Yield its vote on each text.

        It abstains on a text that it cannot read, which a line of the log counts, and on one that it finds out of scope
        or gives to a person.
        """
        unread: list[DataError] = []
        for answer in self.predictor.answers([_asked(text) for text in texts]):
            if isinstance(answer, Refused):
                unread.append(answer.reason)
                yield None
            elif "in_scope" in answer and is_escalated(answer):
                yield None
            elif "entities" in answer:
                sure = [one for one in answer["entities"] if one["probability"] >= self.threshold]
                yield [(one["start"], one["end"], one["type"]) for one in sure] or None
            else:
                yield answer["predicted"] if answer["probability"] >= self.threshold else None
        if unread:
            log.warning(
                "runs.%s: abstains on %d of %d texts that it cannot read; the first: %s",
                self.name,
                len(unread),
                len(texts),
                unread[0],
            )


def voting_run(name: str, run: str, threshold: float, words: bool, allow: Sequence[str] = ()) -> VotingRun:
    """Return a finished run that gives a text one label, or if `words`, one of ``task=ner``, as a labelling function.

    Raises:
        UserError: there is no such run, or it is of another task.
    """
    finished = load(run, allow)
    task = finished.parts.task
    fits = task.name == "ner" if words else isinstance(task, Classification) and task.example is Text
    if not fits:
        expected = "task=ner" if words else "task=classification, prompt or contrastive"
        raise UserError(f"runs.{name}: {run} is a run of task={task.name}; expected one of {expected}")
    return VotingRun(name, finished.predictor, threshold)


def _asked(text: Unlabelled) -> Any:
    if text.words:
        return list(text.words)
    return text.text if text.pair is None else {"text": text.text, "text_pair": text.pair}

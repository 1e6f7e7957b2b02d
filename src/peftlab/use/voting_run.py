"""A finished run as a labelling function: it votes for what it is sure of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from peftlab.errors import UserError
from peftlab.tasks.classification import Classification
from peftlab.tasks.inputs.texts import Text
from peftlab.use.finished import load
from peftlab.use.predictor import Predictor, Refused
from peftlab.weak_supervision.functions import Unlabelled


@dataclass(frozen=True)
class VotingRun:
    """A labelling function that asks a model."""

    name: str
    predictor: Predictor
    threshold: float
    """The probability of a label, or of an entity, from which on it votes for it."""

    def votes(self, texts: Sequence[Unlabelled]) -> Iterator[Any]:
        """Yield its vote on each text; a text that cannot be read is one on which it abstains."""
        for answer in self.predictor.answers([_asked(text) for text in texts]):
            if isinstance(answer, Refused):
                yield None
            elif "entities" in answer:
                sure = [one for one in answer["entities"] if one["probability"] >= self.threshold]
                yield [(one["start"], one["end"], one["type"]) for one in sure] or None
            else:
                yield answer["predicted"] if answer["probability"] >= self.threshold else None


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

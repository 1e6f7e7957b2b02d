"""What a run has learnt of its scope: a score, a threshold and conformal sets, and what they say of answers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from torch import nn

from peftlab.abstaining.conformal import drawn_by, draws_of, members, nonconformity
from peftlab.abstaining.features import Answers, read
from peftlab.abstaining.scores import Statistics, score_called
from peftlab.errors import UserError
from peftlab.runs.decisions import STATISTICS, read_scope
from peftlab.storage.atomic import replacing
from peftlab.tasks.batch import Batch
from peftlab.tasks.task import Task

ANSWERED, ASKED, ESCALATED = "answered", "asked", "escalated"
"""What becomes of a text: its set has the predicted label alone; it has several, to ask back with; or it is out of
scope, or the set is empty."""


@dataclass(frozen=True)
class Scope:
    """A score with what it has learnt, and the decisions of the validation split."""

    score: str
    options: Mapping[str, Any] = field(default_factory=dict)
    statistics: Statistics = field(default_factory=dict, repr=False)
    threshold: float | None = None
    """None: it is not decided yet."""
    conformal: Mapping[str, Any] | None = None
    """The ``kind`` and the ``limits`` of the sets, and the ``seed`` of their draws; None: there are none."""

    def read(self, task: Task, model: nn.Module, batch: Batch) -> tuple[Answers, np.ndarray]:
        """Return the final answers of `task` to a batch, and the score of each text; see `features.read`."""
        answers, values = read(task, model, batch, score_called(self.score).READS)
        return answers, self.scored(values)

    def scored(self, values: np.ndarray) -> np.ndarray:
        """Return the score of each text by what the score reads of it."""
        return score_called(self.score).score(values, self.statistics, **self.options)

    def verdicts(self, labels: Sequence[str], answers: Answers, scores: np.ndarray) -> list[dict[str, Any]]:
        """Return ``in_scope`` and ``score`` of each answer; with conformal sets also ``labels`` and ``action``.

        Args:
            labels: of the task.
            answers: final answers of the task, with the ``probabilities`` of its labels, as `read` returns them.
            scores: of the same texts.
        """
        assert self.threshold is not None
        verdicts: list[dict[str, Any]] = [
            {"in_scope": bool(score >= self.threshold), "score": float(score)} for score in scores
        ]
        if self.conformal is not None and answers:
            inside = self.sets([one["probabilities"] for one in answers], list(map(drawn_by, answers)))
            for verdict, answer, one in zip(verdicts, answers, inside, strict=True):
                ranked = np.argsort(-np.asarray(answer["probabilities"]), kind="stable")
                verdict["labels"] = [labels[n] for n in ranked if one[n]]
                verdict["action"] = action(verdict["in_scope"], verdict["labels"], answer["predicted"])
        return verdicts

    def sets(self, probabilities: Sequence[Sequence[float]], inputs: Sequence[Any]) -> np.ndarray:
        """Return whether each label is in the set of each text, (texts, labels)."""
        assert self.conformal is not None
        draws = draws_of(inputs, self.conformal["seed"])
        return members(
            nonconformity(np.asarray(probabilities), self.conformal["kind"], draws), self.conformal["limits"]
        )

    @property
    def described(self) -> dict[str, Any]:
        """The decisions as JSON values."""
        conformal = {} if self.conformal is None else {"conformal": dict(self.conformal)}
        return {"score": self.score, "options": dict(self.options), "threshold": self.threshold, **conformal}

    def save(self, adapter: Path) -> str | None:
        """Write the statistics beside an adapter; return their digest, or None without any."""
        if not self.statistics:
            return None
        content = save_arrays(dict(self.statistics))
        with replacing(adapter / STATISTICS, len(content)) as temporary:
            temporary.write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    @classmethod
    def load(cls, adapter: Path) -> Scope | None:
        """Return the scope of the adapter in this folder; None: it has learnt none.

        Raises:
            UserError: its files are damaged.
        """
        learnt = read_scope(adapter)
        if learnt is None:
            return None
        try:
            statistics: dict[str, np.ndarray] = {}
            if (digest := learnt.get("statistics_sha256")) is not None:
                content = (adapter / STATISTICS).read_bytes()
                if hashlib.sha256(content).hexdigest() != digest:
                    raise ValueError("it is not what the run has learnt")
                statistics = load_arrays(content)
            return cls(
                learnt["score"], learnt["options"], statistics, float(learnt["threshold"]), learnt.get("conformal")
            )
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise UserError(
                f"{adapter / STATISTICS}: is damaged ({error}). Put back the file that the run left"
            ) from error


def is_escalated(verdict: Mapping[str, Any]) -> bool:
    """Return whether a text goes to somebody else, by what `Scope.verdicts` says of it."""
    return not verdict["in_scope"] or verdict.get("action") == ESCALATED


def action(in_scope: bool, labels: Sequence[str], predicted: str) -> str:
    """Return what becomes of a text with this set of labels."""
    if not in_scope or not labels:
        return ESCALATED
    return ANSWERED if list(labels) == [predicted] else ASKED

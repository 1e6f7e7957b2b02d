"""The section ``out_of_scope`` of a run's configuration, and what it does not go together with."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.abstaining.conformal import Kind
from peftlab.abstaining.costs import Costs
from peftlab.abstaining.detection import RULE
from peftlab.abstaining.scores import Score, score_called, score_names
from peftlab.data.aside import Aside
from peftlab.data.named_files import NamedFile
from peftlab.data.written import as_written
from peftlab.errors import ConfigError, did_you_mean
from peftlab.tasks.classification import Classification
from peftlab.validation import checked

CHEAPEST = "cheapest"
"""The rule that takes the threshold of the least cost."""

_ALLOWED = "expected fpr:0.05, recall:0.9, cheapest or a number"

_STRICT = ConfigDict(extra="forbid")


def _labels_or_number(value: Any) -> Any:
    return value if isinstance(value, int) and not isinstance(value, bool) else as_written(value)


@dataclass(kw_only=True, frozen=True, config=_STRICT)
class Conformal:
    """Sets of labels that hold the right one with probability 1 - alpha, see `peftlab.abstaining.conformal`."""

    alpha: float = Field(default=0.1, gt=0, lt=1)
    """The greatest share of texts in scope whose set lacks the right label."""
    kind: Kind = "lac"
    by_class: bool = False
    """Whether it holds for the texts of each label, and not only on average: that takes at least 1 / alpha - 1
    validation texts of each, or the label is in every set."""


@dataclass(kw_only=True, config=_STRICT)
class OutOfScope:
    """How a classifier says that a text is none of its classes: decided after training, which it does not change."""

    score: str
    """A module of `peftlab.abstaining.scores`."""
    threshold: Annotated[str | float, Field(union_mode="left_to_right")] = "fpr:0.05"
    """Chosen on the validation split, see `threshold_of`; `CHEAPEST`: that of the least cost."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Those of the score, the fields of its ``Options``."""
    label: str | None = None
    """The label of the data's own texts out of scope. It is never a class."""
    held_out: Annotated[list[str] | int | None, BeforeValidator(_labels_or_number)] = None
    """Labels, or how many drawn by the seed, that are not trained on; their test texts are out of scope, and near."""
    far: NamedFile | None = None
    """A file of texts out of scope, ``.txt`` or ``.jsonl``, that have nothing to do with the task."""
    conformal: Conformal | None = None
    costs: Costs | None = None

    def __post_init__(self) -> None:
        """Check the score, its options and the rule of the threshold."""
        if self.score not in (names := score_names()):
            hint = did_you_mean(self.score, names)
            raise ValueError(f"score={self.score}: there is no such score.{hint} Allowed: {', '.join(names)}")
        self.options = asdict(checked(self.scorer.Options, self.options, "out_of_scope.options"))
        if isinstance(rule := self.threshold, str):
            try:
                self.threshold = float(rule)
            except ValueError:
                self._check_rule(rule)
        if isinstance(self.threshold, float) and not math.isfinite(self.threshold):
            raise ValueError(f"threshold={self.threshold}: no text would be on the other side of it; {_ALLOWED}")
        low, high = self.scorer.RANGE
        if isinstance(self.threshold, float) and not low < self.threshold <= high:
            raise ValueError(
                f"threshold={self.threshold:g}: scores of {self.score} are above {low:g} and at most {high:g}, so that "
                f"no text would be on the other side of it; {_ALLOWED} among them"
            )
        if self.held_out == [] or (isinstance(self.held_out, int) and self.held_out < 1):
            raise ValueError("held_out: name labels, or how many are to be drawn; null for none")

    def _check_rule(self, rule: str) -> None:
        if rule == CHEAPEST and self.costs is None:
            raise ValueError("threshold=cheapest: it needs costs, such as costs={wrong: 10, ask: 1, escalate: 3}")
        if rule != CHEAPEST and not RULE.fullmatch(rule):
            raise ValueError(f"threshold={rule}: {_ALLOWED}")
        if rule.startswith("recall") and self.label is None:
            raise ValueError(f"threshold={rule}: it needs validation texts out of scope: name their label, label=oos")

    @property
    def scorer(self) -> Score:
        """The module of the score."""
        return score_called(self.score)

    def aside(self, seed: int) -> Aside:
        """Return which examples of the data are none of the classes."""
        held_out = self.held_out if isinstance(self.held_out, int) else tuple(self.held_out or ())
        return Aside(self.label, held_out, seed, self.far)


def refuse(section: OutOfScope, spec: Any) -> None:
    """Check that a run can learn what is out of scope.

    Args:
        section: how it learns it.
        spec: the specification of the run.

    Raises:
        ConfigError: its task has no single label, or another setting is in the way.
    """
    task = spec.task
    if not isinstance(task, Classification):
        raise ConfigError(
            f"out_of_scope: task={task.name} does not give each text one of some labels, which the scores are of. Use "
            "task=classification, contrastive or prompt, or out_of_scope=none"
        )
    if spec.trainer.sharded:
        raise ConfigError(
            f"out_of_scope: one device reads the whole model after training, and trainer.strategy="
            f"{spec.trainer.strategy} divides it. Use trainer=ddp, or one device"
        )
    if spec.data.replay is not None:
        raise ConfigError(
            "out_of_scope: data.replay remembers examples that were of other classes. Leave one of them out"
        )
    if section.scorer.READS == "logits":
        return
    reasons = {
        "privacy keeps training examples secret, and the score keeps their features": spec.privacy is not None,
        "federated examples stay where they are, and the score keeps their features": spec.federated is not None,
        "trainer.compile=true calls no hooks, by which features are read": spec.trainer.compile,
        f"task={task.name} has no layer for its labels, whose inputs were features": task.head.outputs == "vocabulary",
    }
    if reason := next((reason for reason, holds in reasons.items() if holds), None):
        raise ConfigError(f"out_of_scope.score={section.score}: {reason}. Use a score of the logits, such as energy")

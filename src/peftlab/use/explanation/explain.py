"""Explains one answer of a finished run: maps of the words that speak for a logit, each with its faithfulness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from peftlab.devices.process_state import restored
from peftlab.errors import UserError
from peftlab.use.explanation.attribution import Attribution, Settings
from peftlab.use.explanation.explainers import EXPLAINERS, OF_THE_MODEL, check_names
from peftlab.use.explanation.faithfulness import Faithfulness, faithfulness
from peftlab.use.explanation.subject import Baseline, Subject, subjects
from peftlab.use.explanation.words import Word

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun

NO_EXPLANATION = "Attention shows where the model looks; it is no explanation of what it decides, and is scored as one."
"""What is said of every map of attention."""


@dataclass(frozen=True)
class Map:
    """How much each word adds to the target, by one explainer under one baseline."""

    how: str
    baseline: Baseline
    """What stands in the place of an absent word; of attention, in that of its faithfulness alone."""
    values: list[float]
    """Of each word, in logits; of attention, shares of it."""
    errors: list[float] | None
    """Standard errors of sampled values."""
    full: float
    """The logit of the text as it is."""
    empty: float
    """The logit with the baseline in the place of all words."""
    gap: float | None
    """How far the values are from summing to `full` less `empty`; None where they are not meant to."""
    faithfulness: Faithfulness | None
    """None: all orders of the words are equal."""
    beaten: float | None
    """The share of random orders with a smaller margin, see `Faithfulness.margin`; equal ones count half."""
    orders: int
    """How many random orders."""
    details: Mapping[str, Any]


@dataclass(frozen=True)
class Explanation:
    """Maps of the words that speak for one logit, and against it."""

    run: str
    target: str
    words: list[Word]
    maps: list[Map]
    left_out: dict[str, str]
    """Explainers that do not suit the model, with the reason."""
    notes: list[str]
    """What a reader must know."""

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "words": [{"index": one.index, "text": one.text} for one in self.words]}


@restored()
def explain(
    run: FinishedRun,
    text: str | Sequence[str] | Mapping[str, Any],
    target: str | None = None,
    how: str | Sequence[str] = ("ig",),
    baseline: Baseline | Sequence[Baseline] | None = None,
    settings: Settings | None = None,
) -> Explanation:
    """Explain one logit of the model of `run` by the words of one text.

    Args:
        run: the run; the model computes in fp32.
        text: the text, a list of words, or an object, see `FinishedRun.predict`.
        target: the logit, see `peftlab.use.explanation.targets.target_of`; None: what the model predicts.
        how: the explainers, see `peftlab.use.explanation.explainers.EXPLAINERS`.
        baseline: what stands in the place of an absent word: ``mask``, ``pad`` or ``delete``; None: the mask and the
            padding, as far as the model has them, one map for each.
        settings: how thorough the explainers are; None: the defaults.

    Raises:
        UserError: there is no such target or explainer, or none of the explainers suits the model.
        DataError: the task does not accept such an object.
    """
    names = [how] if isinstance(how, str) else list(how)
    check_names(names)
    predictor = run.predictor.in_fp32()
    baselines = [baseline] if isinstance(baseline, str) else baseline
    found = subjects(predictor, predictor.read(text), target, baselines)
    maps, left_out = list[Map](), dict[str, str]()
    for number, subject in enumerate(found):
        made, refused = attributions(subject, names if number == 0 else _with_baseline(names), settings or Settings())
        left_out |= refused
        maps += _maps(subject, made, settings or Settings())
    if not maps:
        raise UserError(f"{run.folder.path}: nothing explains it. {'. '.join(left_out.values())}")
    notes = [*unseen(found[0]), *_notes(run, maps)]
    return Explanation(str(run.folder.path), found[0].target.name, list(found[0].words), maps, left_out, notes)


def attributions(
    subject: Subject, names: Sequence[str], settings: Settings
) -> tuple[dict[str, Attribution], dict[str, str]]:
    """Return the attribution by each explainer, and the reasons of those that do not suit the model."""
    made, left_out = dict[str, Attribution](), dict[str, str]()
    for name in names:
        if name == "ig" and subject.baseline == "delete":
            left_out[name] = "ig: there is no path to a text without the word; take --baseline mask or pad"
            continue
        try:
            made[name] = EXPLAINERS[name](subject, settings)
        except UserError as error:
            left_out[name] = str(error)
    return made, left_out


def _with_baseline(names: Sequence[str]) -> list[str]:
    return [name for name in names if name not in OF_THE_MODEL]


def _maps(subject: Subject, made: Mapping[str, Attribution], settings: Settings) -> list[Map]:
    values = {name: one.values for name, one in made.items()}
    measured = faithfulness(subject, values, seed=settings.seed) if made else None
    maps = []
    for name, one in made.items():
        own, beaten, orders = None, None, 0
        if measured is not None:
            of_each, random, _ = measured
            own = of_each[name]
            margins = np.asarray([each.margin for each in random])
            beaten = float((margins < own.margin).mean() + (margins <= own.margin).mean()) / 2
            orders = len(random)
        errors = None if one.errors is None else one.errors.tolist()
        facts = (name, subject.baseline, one.values.tolist(), errors, subject.full, subject.empty, one.gap)
        maps.append(Map(*facts, own, beaten, orders, dict(one.details)))
    return maps


def unseen(subject: Subject) -> Iterator[str]:
    """Yield what is said of a text that the model does not see as a whole."""
    counts = [f"{name} {count}" for name, count in subject.lost.items() if name.endswith(("_words", "_tokens"))]
    if counts:
        seen = f"The model does not see all of the text (data.max_tokens={subject.predictor.max_tokens})"
        yield f"{seen}, and only what it sees is explained: {', '.join(counts)}."


def _notes(run: FinishedRun, maps: Sequence[Map]) -> list[str]:
    notes = []
    if virtual := run.parts.peft.virtual_tokens:
        notes.append(
            f"peft={run.parts.peft.name} puts {virtual} virtual tokens before every text: they belong to the model, "
            "and stay where words are taken away."
        )
    if any(one.how in OF_THE_MODEL for one in maps):
        notes.append(NO_EXPLANATION)
    if any(one.baseline == "delete" for one in maps):
        notes.append("Texts with deleted words are unlike those that the model was trained on.")
    notes.append(
        "Comprehensiveness and sufficiency are normalised for this model and this text (NAOPC). Do not compare models "
        "by the areas behind them (AOPC), which depend on the model more than on the explanation."
    )
    return notes

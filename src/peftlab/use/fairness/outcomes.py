"""What can be measured of kept predictions by group: rates by label, calibration, ranking, errors, the run's score.

No torch: all of it follows from the answers that a run left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from peftlab.errors import UserError, did_you_mean
from peftlab.report.numbers import limits
from peftlab.report.statistics.measured import score_of
from peftlab.report.statistics.measures import Measure, Ranking, Ratio, Sums, calibration_error
from peftlab.scores.bio import entities
from peftlab.scores.class_scores import ClassScores
from peftlab.scores.entity_scores import EntityScores
from peftlab.scores.label_sets import LabelSets
from peftlab.scores.numbers import NumberScores
from peftlab.scores.paired import counts_of
from peftlab.scores.relations import RelationScores
from peftlab.scores.scorer import Scorer

METRICS: Mapping[str, str] = {
    "score": "the score that selected the run's checkpoint",
    "accuracy": "share of right answers",
    "fnr": "share of the gold that is missed, 1 - recall; its gap is that of equal opportunity",
    "fpr": "share of what is not the label that is taken for it; with fnr the gaps of equalised odds",
    "selection_rate": "share that gets the label, right or wrong; its gap is that of demographic parity",
    "f1": "harmonic mean of precision and recall",
    "ece": "expected calibration error in 15 bins",
    "bpsn_auc": "ranking of background positives above the group's negatives",
    "bnsp_auc": "ranking of the group's positives above background negatives",
    "mae": "mean absolute error",
    "bias": "mean signed error: predicted minus gold",
}
"""What can be measured, in the order in which it is shown."""


_SAME = {"accuracy": "accuracy", "micro_f1": "accuracy", "entity_f1": "f1", "mae": "mae"}
"""Scores of a run that are measured under another name."""

Made = Iterator[tuple[str, Measure]]
"""Measures, each behind its name in `METRICS`."""


def measures_of(
    answers: Sequence[Mapping[str, Any]],
    scorer: Scorer,
    metric: str | None,
    metrics: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
) -> list[Measure]:
    """Return the measures of a run's answers.

    Args:
        answers: the answers, each with gold.
        scorer: the run's.
        metric: the score that selected its checkpoint.
        metrics: names of `METRICS`; None: all that the answers allow.
        labels: the labels whose rates are measured; None: all, but of two that exclude each other the last.

    Raises:
        UserError: there is no such metric or label, or the answers do not allow it.
    """
    if unknown := [name for name in metrics or () if name not in METRICS]:
        raise UserError(
            f"--metrics {unknown[0]}: there is no such metric.{did_you_mean(unknown[0], METRICS)} Allowed: "
            f"{', '.join(METRICS)}"
        )
    made = [*_of_answers(answers, scorer, labels)]
    if metric in scorer.directions and _SAME.get(metric or "") not in {kind for kind, _ in made}:
        made.insert(0, ("score", _own(answers, scorer, str(metric))))
    kinds = dict.fromkeys(kind for kind, _ in made)
    wanted = [_SAME[str(metric)] if name == "score" and name not in kinds else name for name in metrics or kinds]
    if missing := [name for name in wanted if name not in kinds]:
        raise UserError(
            f"--metrics {missing[0]}: cannot be measured of such answers. Allowed for this run: {', '.join(kinds)}"
        )
    return [measure for kind, measure in made if kind in wanted]


def _own(answers: Sequence[Mapping[str, Any]], scorer: Scorer, metric: str) -> Measure:
    return Sums(metric, counts_of(scorer, answers), score_of(scorer, metric), share=limits(metric) == (0, 1))


def _of_answers(answers: Sequence[Mapping[str, Any]], scorer: Scorer, labels: Sequence[str] | None) -> Made:
    if isinstance(scorer, NumberScores):
        error = np.array([answer["predicted"] - answer["gold"] for answer in answers], np.float64)
        yield "mae", Ratio("mae", np.abs(error), np.ones_like(error), share=False)
        yield "bias", Ratio("bias", error, np.ones_like(error), share=False)
        return
    if isinstance(scorer, EntityScores):
        yield from _of_entities(answers, scorer, labels)
        return
    if all(answer["predicted"] is None for answer in answers):  # a perplexity alone: nothing is right or wrong
        return
    right = np.array([scorer.is_right(answer) for answer in answers])
    yield "accuracy", _rate("accuracy", right, np.ones_like(right))
    if isinstance(scorer, LabelSets):
        yield from _of_labels(answers, _chosen(scorer.labels, labels))
    elif isinstance(scorer, ClassScores | RelationScores):
        names = scorer.classes[-1:] if len(scorer.classes) == 2 else scorer.classes  # one mirrors the other
        yield from _of_labels(answers, _chosen(scorer.classes, labels) if labels else names)
    elif labels:
        raise UserError("--labels: the answers of this run are none of labels")
    confidence = [answer.get("probability") for answer in answers]
    if all(isinstance(one, float) for one in confidence):
        yield "ece", calibration_error("ece", np.array(confidence, np.float64), right)


def _of_labels(answers: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> Made:
    """Yield what is measured of each label against all others."""
    for label in labels:
        gold, predicted = (np.array([_says(answer[key], label) for answer in answers]) for key in ("gold", "predicted"))
        yield "fnr", _rate(f"fnr/{label}", gold & ~predicted, gold)
        yield "fpr", _rate(f"fpr/{label}", predicted & ~gold, ~gold)
        yield "selection_rate", _rate(f"selection_rate/{label}", predicted, np.ones_like(gold))
        yield "f1", Ratio(f"f1/{label}", 2.0 * (gold & predicted), gold.astype(np.float64) + predicted)
        scores = [(answer.get("probabilities") or {}).get(label) for answer in answers]
        if None not in scores:
            for kind in ("bpsn", "bnsp"):
                yield f"{kind}_auc", Ranking(f"{kind}_auc/{label}", np.array(scores, np.float64), gold, kind)


def _of_entities(answers: Sequence[Mapping[str, Any]], scorer: EntityScores, labels: Sequence[str] | None) -> Made:
    """Yield how many entities are missed, overall and by type, and F1."""
    counts = counts_of(scorer, answers).reshape(len(answers), len(scorer.classes) + 1, len(scorer.classes) + 1)
    correct = np.diagonal(counts, axis1=1, axis2=2)[:, :-1]
    gold, predicted = counts.sum(axis=2)[:, :-1], counts.sum(axis=1)[:, :-1]
    yield "fnr", _missed("fnr", correct, gold)
    yield "f1", Ratio("f1", 2.0 * correct.sum(axis=1), (gold + predicted).sum(axis=1, dtype=np.float64))
    for label in _chosen(scorer.classes, labels):
        own = [scorer.classes.index(label)]
        yield "fnr", _missed(f"fnr/{label}", correct[:, own], gold[:, own])


def of_spans(
    answers: Sequence[Mapping[str, Any]], scorer: EntityScores, labels: Sequence[str] | None
) -> tuple[list[Measure], list[list[str]], list[int]]:
    """Return whether each gold entity is missed, its words, and the place of its answer.

    What is predicted where nothing is belongs to no gold entity, so that entities have a miss rate alone.
    """
    types = set(_chosen(scorer.classes, labels))
    missed, words, places = [], [], []
    for place, answer in enumerate(answers):
        predicted = set(entities(answer["predicted"], scorer.repair))
        for entity in entities(answer["gold"], scorer.repair):
            if entity.type in types:
                missed.append(entity not in predicted)
                words.append(list(answer["input"][entity.start : entity.end]))
                places.append(place)
    return [_rate("fnr", np.array(missed, bool), np.ones(len(missed), bool))], words, places


def _rate(name: str, happened: np.ndarray, counts: np.ndarray) -> Ratio:
    return Ratio(name, happened.astype(np.float64), counts.astype(np.float64))


def _missed(name: str, correct: np.ndarray, gold: np.ndarray) -> Ratio:
    present = gold.sum(axis=1, dtype=np.float64)
    return Ratio(name, present - correct.sum(axis=1), present)


def _says(answer: Any, label: str) -> bool:
    return bool(answer == label if isinstance(answer, str) else label in answer)


def _chosen(known: Sequence[str], labels: Sequence[str] | None) -> Sequence[str]:
    if unknown := [label for label in labels or () if label not in known]:
        raise UserError(
            f"--labels {unknown[0]}: there is no such label.{did_you_mean(unknown[0], known)} The run has: "
            f"{', '.join(known)}"
        )
    return labels or known

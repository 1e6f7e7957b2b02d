"""What follows from the scores of a run's texts: its decisions, and how well they do. Of kept answers alone. NumPy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from peftlab.abstaining.conformal import drawn_by, draws_of, limits_of, nonconformity, slack
from peftlab.abstaining.costs import Cases, at_threshold, cheapest, curve
from peftlab.abstaining.detection import aupr, auroc, fpr_at_recall, threshold_of
from peftlab.abstaining.scope import Scope
from peftlab.abstaining.spec import CHEAPEST, OutOfScope
from peftlab.data.aside import LABELLED, LABELLED_VALIDATION
from peftlab.report.statistics.membership import clopper_pearson

VALIDATION, TEST = "validation", "test"
"""The sets of the texts in scope; all others are out of it."""


@dataclass(frozen=True)
class Kept:
    """The answers to one set of texts, as a run keeps them."""

    rows: Sequence[Mapping[str, Any]]

    @property
    def scores(self) -> np.ndarray:
        """The score of each, (texts,)."""
        return np.asarray([row["score"] for row in self.rows], dtype=np.float64)

    @property
    def right(self) -> np.ndarray:
        """Whether the predicted label is the right one, (texts,); never out of scope."""
        return np.asarray([row["predicted"] == row["gold"] for row in self.rows], dtype=bool)

    def sets(self, scope: Scope) -> np.ndarray:
        """Whether each label is in the conformal set of each text, (texts, labels)."""
        return scope.sets([row["probabilities"] for row in self.rows], list(map(drawn_by, self.rows)))

    def cases(self, scope: Scope, labels: Sequence[str]) -> Cases:
        """What becomes of each text where it is accepted."""
        if scope.conformal is None:
            every = np.ones(len(self.rows), dtype=bool)
            return Cases(self.scores, ~every, every, self.right)
        inside, number = self.sets(scope), {label: n for n, label in enumerate(labels)}
        sizes, places = inside.sum(1), np.arange(len(self.rows))
        predicted = np.asarray([number[row["predicted"]] for row in self.rows], dtype=int)
        golds = np.asarray([number.get(row["gold"], -1) for row in self.rows], dtype=int)
        answered = (sizes == 1) & inside[places, predicted]
        offered = (golds >= 0) & inside[places, golds]
        return Cases(self.scores, (sizes > 0) & ~answered, answered, np.where(answered, self.right, offered))


def kept(rows: Iterable[Mapping[str, Any]]) -> dict[str, Kept]:
    """Return answers by the name of their set; those in scope without gold say nothing, and are left out."""
    sets: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["gold"] is not None or row["set"] not in (VALIDATION, TEST):
            sets.setdefault(row["set"], []).append(row)
    return {name: Kept(members) for name, members in sets.items()}


def decided(scope: Scope, section: OutOfScope, sets: Mapping[str, Kept], labels: Sequence[str], seed: int) -> Scope:
    """Return `scope` with the threshold and the conformal sets that follow from the validation split."""
    validation, outside = sets[VALIDATION], sets.get(LABELLED_VALIDATION, Kept([]))
    if section.conformal is not None:
        of = section.conformal
        number = {label: n for n, label in enumerate(labels)}
        golds = np.asarray([number[row["gold"]] for row in validation.rows], dtype=int)
        draws = draws_of(list(map(drawn_by, validation.rows)), seed)
        scores = nonconformity(np.asarray([row["probabilities"] for row in validation.rows]), of.kind, draws)
        limits = limits_of(scores, golds, len(labels), of.alpha, of.by_class)
        scope = replace(scope, conformal={"kind": of.kind, "seed": seed, "calibrated_on": len(golds), "limits": limits})
    if section.threshold == CHEAPEST:
        assert section.costs is not None
        threshold = cheapest(_joined([validation, outside]).cases(scope, labels), section.costs)
    else:
        threshold = threshold_of(section.threshold, validation.scores, outside.scores)
    return replace(scope, threshold=threshold)


def measured(
    scope: Scope, section: OutOfScope, sets: Mapping[str, Kept], labels: Sequence[str], checkpoints: int
) -> dict[str, Any]:
    """Return how well the decisions of `scope` do, as JSON values.

    Args:
        scope: with its decisions.
        section: of the configuration.
        sets: the answers by set.
        labels: of the task.
        checkpoints: how many the best one was chosen among, by the validation split.
    """
    assert scope.threshold is not None
    found: dict[str, Any] = {"texts": {name: len(members.rows) for name, members in sets.items()}}
    if VALIDATION in sets:
        found["validation"] = _inside(sets[VALIDATION], scope.threshold)
    if (test := sets.get(TEST)) is None:
        return found
    outside = {name: one for name, one in sets.items() if name not in (VALIDATION, TEST, LABELLED_VALIDATION)}
    found["test"] = _inside(test, scope.threshold)
    found["outside"] = {
        name: _outside(test, one, scope.threshold)
        | {"actions": at_threshold(one.cases(scope, labels), scope.threshold, section.costs)}
        for name, one in outside.items()
    }
    if section.conformal is not None:
        found["conformal"] = {"alpha": section.conformal.alpha} | _coverage(scope, test, labels, checkpoints)
    cases = _joined([test, sets.get(LABELLED, Kept([]))]).cases(scope, labels)
    found["actions"] = at_threshold(cases, scope.threshold, section.costs)
    found["curve"] = curve(cases, section.costs)
    if section.costs is not None and VALIDATION in sets:
        validation = _joined([sets[VALIDATION], sets.get(LABELLED_VALIDATION, Kept([]))]).cases(scope, labels)
        best = cheapest(validation, section.costs)
        found["cheapest"] = {
            "threshold": best,
            "validation": at_threshold(validation, best, section.costs),
            "test": at_threshold(cases, best, section.costs),
        }
    return found


def _joined(several: Sequence[Kept]) -> Kept:
    return Kept([row for one in several for row in one.rows])


def _inside(members: Kept, threshold: float) -> dict[str, Any]:
    accepted, right = members.scores >= threshold, members.right
    return {
        "accepted": float(accepted.mean()),
        "accuracy": float(right.mean()),
        "accuracy_of_accepted": float(right[accepted].mean()) if accepted.any() else None,
    }


def _outside(test: Kept, members: Kept, threshold: float) -> dict[str, Any]:
    inside, outside = test.scores, members.scores
    return {
        "rejected": float((outside < threshold).mean()),
        "auroc": auroc(inside, outside),
        "fpr95": fpr_at_recall(inside, outside),
        "aupr": aupr(inside, outside),
        "share": len(outside) / (len(outside) + len(inside)),
    }


def _interval(hits: int, of: int) -> list[float]:
    share = clopper_pearson(hits, of)
    return [share.low, share.high]


def _coverage(scope: Scope, test: Kept, labels: Sequence[str], checkpoints: int) -> dict[str, Any]:
    assert scope.conformal is not None
    calibrated = int(scope.conformal["calibrated_on"])
    inside, number = test.sets(scope), {label: n for n, label in enumerate(labels)}
    golds = np.asarray([number[row["gold"]] for row in test.rows], dtype=int)
    covered, sizes = inside[np.arange(len(golds)), golds], inside.sum(1)
    of_class = {}
    for n, label in enumerate(labels):
        if of := int((golds == n).sum()):
            hits = int(covered[golds == n].sum())
            of_class[label] = {"texts": of, "coverage": hits / of, "interval": _interval(hits, of)}
    return {
        "calibrated_on": calibrated,
        "coverage": float(covered.mean()),
        "interval": _interval(int(covered.sum()), len(covered)),
        "sizes": {str(size): int((sizes == size).sum()) for size in np.unique(sizes)},
        "mean_size": float(sizes.mean()),
        "by_class": of_class,
        "always": [label for label, limit in zip(labels, scope.conformal["limits"], strict=True) if limit is None],
        "checkpoints": checkpoints,
        "slack": slack(checkpoints, calibrated) if checkpoints > 1 else 0.0,
    }

"""What a scorecard is worth on the test rows, as JSON values: every number of its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from peftlab.report.statistics.gaps import gap
from peftlab.report.statistics.measures import Ratio
from peftlab.scores.ordering import auc
from peftlab.scores.paired import holm
from peftlab.tables import measures
from peftlab.tables.fitting import BOTH, COLUMNS, TEXTS, Fitted, Rows
from peftlab.tables.kept import Kept
from peftlab.tables.measures import Interval
from peftlab.tables.stability import alone, binned, stability_index

OF_MARGINS: Mapping[str, Callable[..., float]] = {"auc": auc, "gini": measures.gini, "ks": measures.ks}
"""What ranking alone decides: calibration changes nothing of it."""

OF_PROBABILITIES: Mapping[str, Callable[..., float]] = {"brier": measures.brier, "log_loss": measures.log_loss}

EXPLAINED = 100
"""Test rows over which the contributions of the columns are averaged."""

SHOWN = 5
"""Refused applications whose reasons are shown."""

MIN_GROUP = 20
"""Rows without which a group is not compared."""

Measure = Callable[[np.ndarray | None], float]


def scored(chosen: Mapping[str, Fitted], test: Rows, clusters: np.ndarray | None, seed: int) -> dict[str, Any]:
    """Return the measures of the chosen models on the test rows, and what the text adds, with 95 % intervals.

    AUCs and their differences have DeLong's intervals, all others, and all where rows come in clusters, those of a
    bootstrap with the same resamples for all models; a perfect AUC has one by the number of rows, or clusters.

    Args:
        chosen: the model of each set of columns.
        test: the test rows.
        clusters: of the test rows, such as their applicants; None: each row for itself.
        seed: of the resamples.
    """
    y, margins = test.y, {name: one.margins(test) for name, one in chosen.items()}
    probabilities = {name: one.calibrator.probabilities(margins[name]) for name, one in chosen.items()}
    single: dict[tuple[str, str], Measure] = {}
    for name in chosen:
        for key, of in OF_MARGINS.items():
            single[name, key] = partial(of, margins[name], y)
        for key, of in OF_PROBABILITIES.items():
            single[name, key] = partial(of, probabilities[name], y)
    contrasts = {f"{BOTH} - {other}": (BOTH, other) for other in (COLUMNS, TEXTS)}
    for label, (one, other) in contrasts.items():
        for key in ("auc", "ks", "brier", "log_loss"):
            single[label, key] = _difference(single[one, key], single[other, key])
    named = {f"{name}/{key}": measure for (name, key), measure in single.items()}
    units = np.arange(len(y)) if clusters is None else clusters
    drawn = measures.resampled(named, units, y, seed=seed)
    found: dict[str, dict[str, Interval]] = {}
    for name, key in single:
        found.setdefault(name, {})[key] = drawn[f"{name}/{key}"]
    for name in chosen:
        if clusters is None or found[name]["auc"].value in (0, 1):  # all resamples of which are in order, too
            own = found[name]["auc"] = measures.auc_interval(margins[name], y, clusters=clusters)
            found[name]["gini"] = Interval(*(2 * limit - 1 for limit in (own.value, own.low, own.high)))
    if clusters is None:
        for label, (one, other) in contrasts.items():
            found[label]["auc"] = measures.auc_difference(margins[one], margins[other], y)
    whole = {name: {key: asdict(interval) for key, interval in of.items()} for name, of in found.items()}
    return {
        "models": {name: whole[name] for name in chosen},
        "gains": {label: whole[label] for label in contrasts},
        "says": says(found[f"{BOTH} - {COLUMNS}"]["auc"]),
        "calibration_errors": {
            name: {
                "value": measures.calibration_error(probabilities[name], y),
                "if_calibrated": measures.error_if_calibrated(probabilities[name], seed=seed),
            }
            for name in chosen
        },
        "brier_parts": {name: measures.brier_parts(probabilities[name], y) for name in chosen},
        "calibration": {name: asdict(measures.calibration_curve(probabilities[name], y)) for name in chosen},
    }


def says(gain: Interval) -> str:
    """Return what the AUC that the text adds says."""
    if gain.low > 0:
        return "the text adds to the columns"
    return "the text takes away from the columns" if gain.high < 0 else "that the text adds to the columns is not shown"


def cut_offs(probabilities: np.ndarray, y: np.ndarray, chosen: float, loss: float, gain: float) -> list[dict[str, Any]]:
    """Return what approving the safest tenth, two tenths, ... of the rows would have meant, and the chosen cut-off.

    ``lift`` is the share of defaults among the refused over that among all.
    """
    safest = np.quantile(probabilities, np.linspace(0.1, 1, 10), method="lower")
    possible = np.append(np.unique(probabilities), 1.0)  # to approve a probability is to refuse from the next one on
    places = np.minimum(np.searchsorted(possible, safest, "right"), len(possible) - 1)
    limits = [*possible[places].tolist(), chosen]
    rows = []
    for place, limit in enumerate(limits):
        is_chosen = place == len(limits) - 1
        approved = probabilities < limit
        bad, refused = int(y[approved].sum()), int((~approved).sum())
        caught = int(y.sum()) - bad
        rows.append(
            {
                "refused_from": float(limit),
                "chosen": is_chosen,
                "approved": float(approved.mean()),
                "bad_among_approved": bad / max(int(approved.sum()), 1),
                "bad_refused": caught / max(int(y.sum()), 1),
                "lift": caught / refused / float(y.mean()) if refused else None,
                "earned_per_application": float((gain * (approved & ~y).sum() - loss * bad) / len(y)),
            }
        )
    return rows


def group_gaps(
    approved: np.ndarray, y: np.ndarray, groups: Mapping[str, Sequence[str]], clusters: np.ndarray | None, seed: int
) -> list[dict[str, Any]]:
    """Return how far groups of applicants are apart in being approved, and in being approved if they would have paid.

    The former is demographic parity, the latter equal opportunity (Hardt, Price & Srebro 2016); p values are adjusted
    for all gaps by Holm's method.

    Args:
        approved: whether each test row would be.
        y: whether the label came true.
        groups: the group of each row by column.
        clusters: of the rows; None: each for itself.
        seed: of the test's draws.
    """
    rates = {
        "approval_rate": Ratio("approval_rate", approved.astype(float), np.ones(len(y))),
        "equal_opportunity": Ratio("equal_opportunity", (approved & ~y).astype(float), (~y).astype(float)),
    }
    units = np.arange(len(y)) if clusters is None else clusters
    family = len(groups) * len(rates)
    made: list[dict[str, Any]] = []
    for column, of_rows in groups.items():
        names, numbers = np.unique(np.array(of_rows), return_inverse=True)
        for rate in rates.values():
            found = gap(rate, numbers, names.tolist(), units, fewest=MIN_GROUP, family=family, seed=seed)
            made.append({"column": column, "rate": rate.name, "gap": None if found is None else asdict(found)})
    tested = [one for one in made if one["gap"] is not None and one["gap"]["p"] is not None]
    for one, p in zip(tested, holm([one["gap"]["p"] for one in tested]), strict=True):
        one["p"] = p
    return made


def stability(splits: Mapping[str, Rows], columns: Mapping[str, bool]) -> list[dict[str, Any]]:
    """Return how each column has changed from the training rows to the test rows, and its AUC alone on validation.

    Args:
        splits: the rows.
        columns: whether each is of numbers.
    """
    train = splits["train"]
    found = []
    for name, numeric in columns.items():
        cells = {split: [row[name] for row in rows.cells] for split, rows in splits.items()}
        places, bins = binned(cells["train"], [cells["validation"], cells["test"]], numeric)
        found.append(
            {
                "column": name,
                "stability_index": stability_index(places[0], places[2], bins),
                "auc_alone": alone(places[0], train.y, places[1], splits["validation"].y, bins),
            }
        )
    return found


def explained(kept: Kept, fitted: Fitted, test: Rows, seed: int) -> dict[str, Any]:
    """Return the mean absolute contribution of each column over some test rows, and the reasons of some refusals."""
    drawn = np.sort(np.random.default_rng(seed).permutation(len(test.y))[:EXPLAINED])
    matrix = fitted.matrix(test)
    parts = kept.model.contributions(matrix[drawn], kept.background, kept.columns.features)
    sizes = sorted(zip(np.abs(parts).mean(axis=0).tolist(), kept.columns.names, strict=True), reverse=True)
    riskiest = np.argsort(-kept.model.margin(matrix), kind="stable")[:SHOWN].tolist()
    rows, places = [test.cells[one] for one in riskiest], [test.places[one] for one in riskiest]
    told = zip(places, kept.decisions(rows, places), strict=True)
    return {
        "importance": [{"column": name, "mean_absolute": value} for value, name in sizes],
        "riskiest": [{"place": place, **decision.as_json()} for place, decision in told],
    }


def _difference(one: Measure, other: Measure) -> Measure:
    return lambda weights: one(weights) - other(weights)

"""Every number of a report as JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from peftlab.report.analysis.few_labels import FewLabels, few_labels_of
from peftlab.report.analysis.groups import Group
from peftlab.report.analysis.results import Analysis, Result, Row
from peftlab.report.sections import checks, reruns
from peftlab.report.sections.cost import cost_of
from peftlab.report.sections.trade import trade_of
from peftlab.report.study import Run

VERSION = 1
"""Of the form of ``report.json``."""


def numbers(analysis: Analysis) -> dict[str, Any]:
    """Return all that the report is made of: options, comparisons, verdicts, findings, runs."""
    return plain(
        {
            "schema_version": VERSION,
            "options": asdict(analysis.options),
            "comparisons": [_comparison(result) for result in analysis.results],
            "few_labels": [_few_labels(one) for one in few_labels_of(analysis)],
            "findings": [asdict(finding) for finding in checks.findings_of(analysis)],
            "reruns": {run.id: one["verdict"] for run in analysis.runs if (one := reruns.newest(run)) is not None},
            "runs": [_run(run) for run in analysis.runs],
            "left_out": [asdict(one) for one in analysis.study.left_out],
        }
    )


def _comparison(result: Result) -> dict[str, Any]:
    comparison = result.comparison
    rows = {row.name: row for row in result.rows}
    return {
        "name": comparison.name,
        "task": comparison.task,
        "data": comparison.data,
        "metric": comparison.metric,
        "direction": comparison.direction,
        "by": comparison.keys,
        "baseline": comparison.baseline.name if comparison.baseline else None,
        "units": result.units,
        "clusters": result.clusters,
        "examples": result.examples,
        "not_told_apart_from_the_best": sorted(result.beside_the_best),
        "best_against_the_next": None if (trade := trade_of(result)) is None else asdict(trade),
        "groups": [_group(group, rows.get(group.name), result) for group in comparison.groups],
        "against_the_baseline": [asdict(pair) for pair in result.pairs],
    }


def _few_labels(found: FewLabels) -> dict[str, Any]:
    return {
        "data": found.data,
        "metric": found.metric,
        "columns": found.columns,
        "methods": [
            {"name": one.name, "budgets": sorted(one.budgets), "left_out": one.left_out, **asdict(one.mean)}
            for one in found.methods
        ],
        "differences": [
            {"first": pair[0], "second": pair[1], **asdict(of), "p": of.p(), "p_adjusted": found.p_values[pair]}
            for pair, of in found.differences.items()
        ],
    }


def _group(group: Group, row: Row | None, result: Result) -> dict[str, Any]:
    cost = cost_of(group, result.comparison.options.price_per_device_hour)
    return {
        "name": group.name,
        "values": dict(group.values),
        "runs": [run.id for run in group.runs],
        "trials": [run.id for run in group.trials],
        "lost": [run.id for run in group.lost],
        "cost": asdict(cost) | {"money": cost.money, "all_money": cost.all_money},
        "scores": None if row is None else _row(row),
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "by_seed": dict(zip(map(str, row.measured.seeds), map(float, row.measured.scores), strict=True)),
        "over_seeds": asdict(row.seeds),
        "over_test_sets": row.test_set and asdict(row.test_set),
        "over_both": asdict(row.whole),
        "variances": row.split and asdict(row.split),
    }


def _run(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "status": run.status,
        "seed": run.seed,
        "method": run.record.data["method"]["name"],
        "identity": run.record.data["identity"],
        "selection": run.record.data["selection"],
        "scores": run.record.scores(),
        "cost": run.record.data["cost"],
    }


def plain(value: Any) -> Any:
    """Return `value` as JSON values: NumPy's numbers as Python's, tuples as lists, what is not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value

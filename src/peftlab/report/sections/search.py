"""How the hyperparameters were chosen: the space, the budget of each group, and what was pruned or lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peftlab.report.analysis.groups import NO_AXES, Group
from peftlab.report.analysis.results import Result
from peftlab.report.document import Block, Cell, Column, Figure, Paragraph, Section, Table, link_names
from peftlab.report.numbers import UNKNOWN, called, duration, listed, score, share
from peftlab.report.sections.scores import axis
from peftlab.report.statistics.importance import importance
from peftlab.report.statistics.tuning import tuning_curve
from peftlab.report.study import Run

_FEWEST_FOR_CURVE = 5
"""With fewer trials, the band fills the plot."""
_FEWEST_FOR_IMPORTANCE = 10
_LEAST_FIT = 0.6
"""A forest that predicts less of the variance explains nothing."""
_MOST_CURVES = 8
_MOST_VALUES = 6


def section(result: Result) -> Section | None:
    """Return the search of a comparison; None if none of its groups was searched."""
    comparison = result.comparison
    searched = [group for group in comparison.groups if group.trials or _settings(group.runs)]
    if not searched:
        return None
    keys = sorted({key for group in searched for key in tuned(group)})
    blocks: list[Block] = [Paragraph(_explained(result, searched, keys)), _table(result, searched, keys)]
    blocks += _curves(result, searched)
    blocks += _importance(result, searched, keys)
    return Section(f"{comparison.name}-search", "Search for hyperparameters", tuple(blocks))


def tuned(group: Group) -> list[str]:
    """Return the keys that differ between the runs of a group, but for the seed."""
    return _settings(group.trials or group.runs)


def _settings(runs: Sequence[Run]) -> list[str]:
    keys = dict.fromkeys(key for run in runs for key in run.overrides if key not in NO_AXES)
    return [key for key in keys if len({str(run.value(key)) for run in runs}) > 1]


def _explained(result: Result, searched: Sequence[Group], keys: Sequence[str]) -> str:
    sizes = {len(group.trials) for group in searched if group.trials}
    text = f"Tuned: {listed(list(keys), 12)}. "
    if not sizes:
        return text + (
            "The runs that were compared are also those that were tested; of several with the same seed, the one with "
            "the best validation score counts."
        )
    text += "Trials of the search were scored on the validation split and never tested. "
    if len(sizes) == 1 and len(searched) == len(result.comparison.groups):
        return text + f"Every group had the same number of trials, {sizes.pop()}."
    untuned = [group.name for group in result.comparison.groups if not group.trials]
    text += f"The groups had unequal numbers of trials, from {min(sizes)} to {max(sizes)}: "
    text += "what was tuned longer has had more chances."
    return text + (f" Not tuned at all: {listed(untuned)}." if untuned else "")


def _table(result: Result, searched: Sequence[Group], keys: Sequence[str]) -> Table:
    metric = result.comparison.metric
    columns = [
        Column(", ".join(result.comparison.keys)),
        Column("trials", True),
        Column("pruned", True),
        Column("failed", True, "runs without a result, of the search and after it"),
        Column("epochs", True, "of all trials together"),
        Column("time", True, "of all trials together"),
        Column("best validation", True),
        *(Column(key, note="values tried; the tested one in brackets") for key in keys),
    ]
    rows = []
    for group in searched:
        trials = group.trials or group.runs
        seconds = sum(run.record.data["cost"]["wall_seconds"] or 0 for run in trials)
        epochs = sum(run.record.data["cost"]["epochs"] or 0 for run in trials)
        best = best_of([run for run in trials if run.status == "completed"], result)
        pruned = sum(run.status == "pruned" for run in trials)
        rows.append(
            (
                Cell(group.name),
                Cell(f"{len(trials):,}", len(trials)),
                Cell(f"{pruned:,}", pruned),
                Cell(f"{len(group.lost):,}", len(group.lost)),
                Cell(f"{epochs:g}", epochs),
                Cell(duration(seconds), seconds),
                Cell(score(best, metric), best),
                *(Cell(_values(group, key)) for key in keys),
            )
        )
    caption = "Trials by group, and what they tried"
    return Table(f"{result.comparison.name}-search-table", tuple(columns), tuple(rows), caption)


def best_of(runs: Sequence[Run], result: Result) -> float | None:
    """Return the best validation score of `runs`."""
    scores = [value for run in runs if (value := result.comparison.score(run, "validation")) is not None]
    return (max if result.comparison.direction == "max" else min)(scores, default=None)


def _values(group: Group, key: str) -> str:
    tried = {str(value): value for run in (group.trials or group.runs) for value in [run.value(key)]}.values()
    chosen = sorted({_text(run.value(key)) for run in group.final})
    ordered = sorted(
        tried, key=lambda value: (isinstance(value, str), str(type(value)), value if _number(value) else 0)
    )
    texts = [_text(value) for value in ordered]
    few = texts if len(texts) <= _MOST_VALUES else [texts[0], "...", texts[-1]]
    return f"{', '.join(few)} [{', '.join(chosen) if len(chosen) <= _MOST_VALUES else 'many'}]"


def _number(value: Any) -> bool:
    return isinstance(value, int | float)


def _text(value: Any) -> str:
    return UNKNOWN if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _curves(result: Result, searched: Sequence[Group]) -> list[Block]:
    comparison = result.comparison
    order = {row.name: place for place, row in enumerate(result.ranked)}
    series = []
    for group in sorted(searched, key=lambda one: order.get(one.name, len(order)))[:_MOST_CURVES]:
        done = [run for run in group.trials if run.status == "completed"]
        scores = [value for run in done if (value := comparison.score(run, "validation")) is not None]
        if len(scores) >= _FEWEST_FOR_CURVE:
            curve = tuning_curve(scores, level=comparison.options.level, direction=comparison.direction)
            series.append(
                {
                    "label": group.name,
                    "budget": list(curve.budgets),
                    "best": list(curve.point),
                    "low": list(curve.low),
                    "high": list(curve.high),
                }
            )
    if not series:
        return []
    metric = called(comparison.metric)
    caption = (
        f"Median of the best validation {metric} of so many trials, with a band for the whole curve. Both hold for "
        "trials drawn at random; those of a grid or of a search that learns are not."
    )
    if len(searched) > _MOST_CURVES:
        caption += f" The {_MOST_CURVES} best of {len(searched)} groups."
    data = {"y": axis(comparison.metric, f"best validation {metric}"), "series": series}
    return [Figure(f"{comparison.name}-tuning", "tuning_curve", data, caption)]


def _importance(result: Result, searched: Sequence[Group], keys: Sequence[str]) -> list[Block]:
    comparison = result.comparison
    points = []
    for group in searched:
        for run in group.trials or group.runs:
            value = comparison.score(run, "validation")
            if run.status == "completed" and value is not None:
                points.append((group.name, {key: run.value(key) for key in keys}, value))
    blocks: list[Block] = []
    shown = [row.name for row in result.ranked[:_MOST_CURVES]] or [group.name for group in searched[:_MOST_CURVES]]
    some = f" The {len(shown)} best groups." if len(searched) > len(shown) else ""
    for key, of_link in link_names(keys).items():
        there = [
            (name, settings[key], value)
            for name, settings, value in points
            if settings[key] is not None and name in shown
        ]
        if len({str(value) for _, value, _ in there}) < 2:
            continue
        numeric = all(_number(value) for _, value, _ in there)
        data = {
            "x": {"label": key, "unit": "plain", "log": None},
            "y": axis(comparison.metric, f"validation {called(comparison.metric)}"),
            "points": [{"x": x if numeric else str(x), "y": y, "label": name} for name, x, y in there],
        }
        blocks.append(
            Figure(
                f"{comparison.name}-slice-{of_link}",
                "slices",
                data,
                f"Validation score of every trial against {key}.{some}",
            )
        )
    if len(points) < _FEWEST_FOR_IMPORTANCE:
        return blocks
    settings = [{", ".join(comparison.keys): name, **own} for name, own, _ in points]
    shares = importance(settings, [value for *_, value in points])
    if shares.fit < _LEAST_FIT:
        return blocks
    bars = [{"label": one.name, "share": one.share, "sd": one.sd} for one in shares.of]
    explained = share(shares.fit)
    caption = (
        "How much of the variance of the validation scores each choice explains by itself: functional ANOVA of "
        f"a random forest (Hutter et al. 2014), which predicts {explained} of the variance of the trials."
    )
    return [*blocks, Figure(f"{comparison.name}-importance", "importance", {"shares": bars}, caption)]

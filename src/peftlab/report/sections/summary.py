"""The answer in plain words: which one, at what price, how sure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from peftlab.report.analysis.groups import METHOD, Comparison
from peftlab.report.analysis.results import Analysis, Result, Row
from peftlab.report.document import Paragraph, Section
from peftlab.report.numbers import (
    called,
    count,
    duration,
    interval,
    level,
    listed,
    money,
    plural,
    points,
    with_unit,
)
from peftlab.report.sections import checks, reruns
from peftlab.report.sections.cost import cost_of, device_hours
from peftlab.report.sections.trade import said, trade_of
from peftlab.report.statistics.comparison import FEWEST_SEEDS
from peftlab.report.statistics.comparison import Comparison as Pair
from peftlab.report.statistics.power import minimum_detectable_effect

_MOST_STEPS = 5
"""Groups of a front that a sentence has room for."""


def section(analysis: Analysis) -> Section:
    """Return the summary."""
    texts = [text for result in analysis.results for text in _of(result, len(analysis.results) > 1)]
    if not analysis.results:
        texts.append("No run records what it is scored by: there is nothing to compare.")
    texts.append(_price(analysis))
    texts.append(_trust(analysis))
    return Section("summary", "Summary", tuple(Paragraph(text) for text in texts if text))


def lines(analysis: Analysis) -> list[str]:
    """Return the summary as lines for a terminal."""
    return [block.text for block in section(analysis).blocks if isinstance(block, Paragraph)]


def _of(result: Result, several: bool) -> list[str]:
    comparison = result.comparison
    trials = sum(len(group.trials) for group in comparison.groups)
    lost = sum(len(group.lost) for group in comparison.groups)
    text = f"{place(comparison)}: {_compared(comparison, len(result.rows))}"
    text += f", {_seeds(result.rows)} ({plural(len(comparison.runs), 'tested run')}" if result.rows else ""
    text += f", after {plural(trials, 'trial')} of a search" if trials and result.rows else ""
    text += ")" if result.rows else f", {plural(trials, 'trial')} of a search that were not tested" if trials else ""
    text += f", {plural(lost, 'run')} without a result" if lost else ""
    text += f". The score is test {called(comparison.metric)}.{setup_of(result)}"
    if not result.rows:
        why = "No tested run has this score and a seed" if comparison.runs else "No run was tested"
        return [f"{text} {why}, so there is no result to report."]
    return [text, _best(result), _choice(result), _baseline(result)]


def place(comparison: Comparison) -> str:
    """Return the task and the data as a sentence begins with them: ``On NER, data “news”``."""
    task = comparison.task and (comparison.task.upper() if comparison.task == "ner" else comparison.task)
    data = f"data “{comparison.data}”" if comparison.data else "unnamed data"
    return f"On {task}, {data}" if task else f"On {data}"


def setup_of(result: Result) -> str:
    """Return what the tested runs were trained from, on how much and for how long, where the records tell."""
    runs = [run for row in result.rows for run in row.group.final]
    models = sorted({str(run.value("model")) for run in runs if run.value("model") is not None})
    parts = [f"from {listed(models, 3)}"] if models else []
    rows = [(run.record.data["data"]["splits"].get("train") or {}).get("rows") for run in runs]
    parts += [f"on {_span(rows, ',')} examples"] if _span(rows, ",") else []
    epochs = [run.record.data["cost"]["epochs"] for run in runs]
    parts += [f"for {_span(epochs, 'g')} epoch{'' if set(epochs) == {1} else 's'}"] if _span(epochs, "g") else []
    return f" Trained {', '.join(parts)}." if parts else ""


def _span(values: Sequence[Any], form: str) -> str:
    """Return the least and the largest of the numbers among `values`, such as ``3 to 5``."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    ends = sorted({min(numbers), max(numbers)}) if numbers else []
    return " to ".join(format(end, form) for end in ends)


def _compared(comparison: Comparison, number: int) -> str:
    keys = listed(list(comparison.keys), 4)
    if comparison.keys == (METHOD,):
        what = plural(number, "method")
    elif len(comparison.keys) == 1:
        what = plural(number, f"value of {keys}", f"values of {keys}")
    else:
        what = plural(number, f"combination of {keys}", f"combinations of {keys}")
    return f"{what} compared" if number > 1 else what


def _seeds(rows: Sequence[Row]) -> str:
    numbers = sorted({len(row.measured.seeds) for row in rows})
    seeds = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    return (
        f"{seeds} seed{'' if numbers == [1] else 's'} for each"
        if len(rows) > 1
        else f"{seeds} seed{'' if numbers == [1] else 's'}"
    )


def shown(row: Row, result: Result) -> str:
    """Return the mean score of a row with its widest interval: ``84.12 % (83.20 to 85.01)``."""
    metric = result.comparison.metric
    low, high = (row.whole.low, row.whole.high) if row.test_set is not None else (row.seeds.low, row.seeds.high)
    value = with_unit(row.value, metric)
    return value if low is None or high is None else f"{value} ({interval(low, high, metric)})"


def _best(result: Result) -> str:
    comparison = result.comparison
    best = result.ranked[0]
    covers = "seeds and test sets" if best.test_set is not None else "seeds, for this test split"
    few = len(best.measured.seeds) < FEWEST_SEEDS
    probability = level(comparison.options.level)
    if len(result.rows) == 1:
        text = f"{best.name} reaches {shown(best, result)}"
        text += "." if few else f"; the {probability} interval is over {covers}."
        return text + (
            f" With fewer than {FEWEST_SEEDS} seeds that is one result, and no claim about the method." if few else ""
        )
    extreme = "highest" if comparison.direction == "max" else "lowest"
    text = f"The {extreme} mean is that of {best.name}: {shown(best, result)}"
    text += "." if best.seeds.low is None else f", with a {probability} interval over {covers}."
    short = [row.name for row in result.rows if len(row.measured.seeds) < FEWEST_SEEDS]
    if len(short) == len(result.rows):
        return f"{text} With fewer than {FEWEST_SEEDS} seeds each, nothing can be claimed: chance may rank them so."
    others = [row.name for row in result.ranked[1:] if row.name in result.beside_the_best]
    of = len(result.rows) - 1
    if not others:
        return f"{text} It is better than {'the other group' if of == 1 else 'every other group'}."
    if len(others) == of:
        return f"{text} None of the others can be told apart from it: the runs do not say which is best."
    nearest = f", the nearest being {listed(others[:5])}" if len(others) > 5 else f" ({listed(others)})"
    return f"{text} It cannot be told apart from {len(others)} of the {of} others{nearest}; the rest are worse."


def _choice(result: Result) -> str:
    """Say what the best costs against the next best, and which is the cheapest of those that come near it."""
    if len(result.rows) < 2 or (trade := trade_of(result)) is None:
        return ""
    comparison = result.comparison
    metric = comparison.metric
    costs = {row.name: cost_of(row.group, comparison.options.price_per_device_hour) for row in result.rows}
    if len(result.beside_the_best) == 1:
        dearer = any(times > 1 for times in trade.times.values())
        return f"{said(trade, metric)}{' Whether that is worth it is yours to decide.' if dearer else ''}"
    front = front_of(result)
    if len(front) == 1:
        return f"{said(trade, metric)} None of those that are not told apart from it trains fewer parameters."
    steps = [
        f"{row.name} ({with_unit(row.value, metric)}, {count(costs[row.name].trainable)} parameters, "
        f"{duration(costs[row.name].train_seconds)})"
        for row in front
    ]
    return (
        f"To choose by cost among those that are not told apart: {listed(steps, _MOST_STEPS)}. Each has the highest "
        "mean of all that train no more parameters than it does. That they are not told apart does not show that they "
        "are equally good. Training times are those of machines that may have been shared."
    )


def front_of(result: Result) -> list[Row]:
    """Return the groups not told apart from the best that train fewer parameters than each better one, the best first.

    Empty where a number of parameters is unknown.
    """
    front: list[Row] = []
    least = math.inf
    for row in result.ranked:
        trained = cost_of(row.group, None).trainable
        if row.name in result.beside_the_best and trained is not None and trained < least:
            front.append(row)
            least = trained
    return front


def _baseline(result: Result) -> str:
    comparison = result.comparison
    if comparison.baseline is None:
        return ""
    if not result.pairs:
        scored = comparison.baseline.name in [row.name for row in result.rows]
        return "" if scored else f"{comparison.baseline.name} has no test score, so that nothing is compared with it."
    metric = comparison.metric
    by_verdict: dict[str, list[str]] = {}
    for row in result.ranked:
        if (pair := result.pair(row.name)) is not None:
            by_verdict.setdefault(pair.verdict.says, []).append(row.name)
    if len(result.beside_the_best) == 1 and result.ranked[0].name == comparison.baseline.name:
        return _detectable(result)
    if set(by_verdict) == {"no claim"}:
        return f"Against {comparison.baseline.name}, nothing can be claimed with so few seeds."
    words = {
        "better": "better",
        "worse": "worse",
        "tie": f"tied (within {points(comparison.margin, metric)})",
        "not told apart": "not told apart",
        "no claim": "too few seeds for a verdict",
    }
    parts = [f"{words[says]}: {listed(by_verdict[says], 8)}" for says in words if says in by_verdict]
    text = f"Against {comparison.baseline.name}, {'; '.join(parts)}."
    alone = sum(pair.verdict.says == "not told apart" and _is_small(pair, comparison) for pair in result.pairs)
    if alone:
        text += (
            f" The verdicts hold for {plural(len(result.pairs), 'comparison')} at once; {alone} of those not told "
            "apart have a p below the threshold before the adjustment, which is no evidence by itself."
        )
    return f"{text} {_detectable(result)}".strip()


def _detectable(result: Result) -> str:
    """Say how large a difference must be to be seen reliably, by the verdicts as they are given."""
    detectable = sorted(
        minimum_detectable_effect(about.se, about.df, (1 - result.comparison.options.level) / max(1, pair.family))
        for pair in result.pairs
        if pair.detectable is not None and (about := pair.difference).se and about.df is not None
    )
    if not detectable:
        return ""
    middle = points(detectable[len(detectable) // 2], result.comparison.metric)
    seeds = max(len(row.measured.seeds) for row in result.rows)
    family = max(pair.family for pair in result.pairs)
    adjusted = f", with the adjustment for {family} comparisons" if family > 1 else ""
    return (
        f"With {plural(seeds, 'seed')}, a comparison with the baseline has a power of 80 % only for true differences "
        f"of {middle} or more{adjusted}."
    )


def _is_small(pair: Pair, comparison: Comparison) -> bool:
    return pair.p is not None and pair.p < 1 - comparison.options.level


def _price(analysis: Analysis) -> str:
    hours = sum(device_hours(run) or 0.0 for run in analysis.runs)
    price = analysis.options.price_per_device_hour
    paid = "" if price is None else f", which costs {money(hours * price)} at {price:g} per device hour"
    return f"All {plural(len(analysis.runs), 'run')} took {duration(hours * 3600)} of device time{paid}."


def _trust(analysis: Analysis) -> str:
    judged = [(run, one) for run in analysis.runs if (one := reruns.newest(run)) is not None]
    again = reruns.said(judged, len(analysis.runs)) if judged else "No run has been trained again."
    return f"{again} {checks.said(checks.findings_of(analysis))}"

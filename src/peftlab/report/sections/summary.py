"""The answer in plain words: which one, at what price, how sure."""

from __future__ import annotations

from collections.abc import Sequence

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
    share,
    with_unit,
)
from peftlab.report.sections import checks, reruns
from peftlab.report.sections.cost import Cost, cost_of, device_hours
from peftlab.report.sections.trade import said, trade_of
from peftlab.report.statistics.comparison import FEWEST_SEEDS
from peftlab.report.statistics.comparison import Comparison as Pair

NEAR = 2
"""A group comes near another if their means differ by at most so many margins."""


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
    text += f". The score is test {called(comparison.metric)}."
    if not result.rows:
        why = "No tested run has this score and a seed" if comparison.runs else "No run was tested"
        return [f"{text} {why}, so there is no result to report."]
    return [text, _best(result), _choice(result), _baseline(result)]


def place(comparison: Comparison) -> str:
    """Return the task and the data as a sentence begins with them: ``On NER, data “news”``."""
    task = comparison.task and (comparison.task.upper() if comparison.task == "ner" else comparison.task)
    data = f"data “{comparison.data}”" if comparison.data else "unnamed data"
    return f"On {task}, {data}" if task else f"On {data}"


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
    best = result.ranked[0]
    if len(result.beside_the_best) == 1:
        dearer = any(times > 1 for times in trade.times.values())
        return f"{said(trade, metric)}{' Whether that is worth it is yours to decide.' if dearer else ''}"
    reach = NEAR * comparison.options.margin
    near = [row for row in result.ranked if row.name in result.beside_the_best and abs(row.value - best.value) <= reach]
    if len(near) == 1:
        return f"{said(trade, metric)} No other mean lies within {points(reach, metric)} of the best."
    text = f"Of those, {listed([row.name for row in near[1:]], 8)} come within {points(reach, metric)} of it"
    smallest = _least([(row.name, costs[row.name].trainable) for row in near])
    fastest = _least([(row.name, costs[row.name].train_seconds) for row in near])
    parts = []
    if smallest:
        parts.append(f"{smallest} trains the fewest parameters ({_parameters(costs[smallest])})")
    if fastest:
        parts.append(f"{fastest} trains fastest ({duration(costs[fastest].train_seconds)})")
    if parts:
        text += f"; among them and {best.name}, {' and '.join(parts)}"
    dearest = (
        f"{best.name} itself trains {_parameters(costs[best.name])}, in {duration(costs[best.name].train_seconds)}"
    )
    return f"{text}. {dearest}. The scores give no reason to prefer one of these, so choose by cost."


def _parameters(cost: Cost) -> str:
    if cost.trainable is None:
        return "an unknown number of parameters"
    of = f", {share(cost.trainable / cost.total)} of all" if cost.total else ""
    return f"{count(cost.trainable)} parameters{of}"


def _least(values: Sequence[tuple[str, float | None]]) -> str | None:
    """Return the name with the least value; None if all are equal."""
    there = [(value, name) for name, value in values if value is not None]
    return min(there)[1] if len({value for value, _ in there}) > 1 else None


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
        "tie": f"tied (within {points(comparison.options.margin, metric)})",
        "not told apart": "not told apart",
        "no claim": "too few seeds for a verdict",
    }
    parts = [f"{words[says]}: {listed(by_verdict[says], 8)}" for says in words if says in by_verdict]
    text = f"Against {comparison.baseline.name}, {'; '.join(parts)}."
    alone = sum(pair.verdict.says == "not told apart" and _is_small(pair, comparison) for pair in result.pairs)
    if alone:
        text += (
            f" Without the adjustment for {plural(len(result.pairs), 'comparison')} at once, {alone} of those not told "
            "apart would be: single comparisons that were planned may count them."
        )
    return f"{text} {_detectable(result)}".strip()


def _detectable(result: Result) -> str:
    """Say how large a difference must be to be seen reliably."""
    detectable = sorted(pair.detectable for pair in result.pairs if pair.detectable is not None)
    if not detectable:
        return ""
    middle = points(detectable[len(detectable) // 2], result.comparison.metric)
    seeds = max(len(row.measured.seeds) for row in result.rows)
    return (
        f"With {plural(seeds, 'seed')}, a comparison with the baseline shows a true difference of {middle} in four of "
        "five studies, and a smaller one less often."
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

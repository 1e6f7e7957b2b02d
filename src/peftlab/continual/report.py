"""A stream on the terminal, as JSON, and as a page: what was learnt, what was forgotten, and what it cost. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from peftlab.continual.matrix import MEASURES
from peftlab.continual.stream import Result, Walk
from peftlab.reading.json_form import finite
from peftlab.report import html, markdown
from peftlab.report.document import Block, Cell, Column, Document, Paragraph, Section, Table
from peftlab.report.numbers import called, interval, possible, score, unit
from peftlab.report.statistics.two_way import TwoWay, crossed, paired_crossed
from peftlab.scores.paired import holm_of_known
from peftlab.storage.atomic import replacing
from peftlab.terminal.output import table

FILE = "stream.json"
"""The file of a stream with its results."""

SCENARIOS = {
    "class": "Each stage brings new classes; a text is put into one of all classes seen so far, without a hint from "
    "which stage it is.",
    "domain": "All stages have the same labels, and texts of other domains.",
    "task": "Each stage is a task with a head of its own: it is known of each test text which task it belongs to, "
    "which is an easier problem than telling all classes apart.",
}

_SHOWN = ("accuracy", "learnt", "forgetting", "backward_transfer")
"""The measures on the terminal."""


_NO_WAY = 1e-9
"""A distance between means of scores that is rounding alone."""

_CHANGES = ("backward_transfer", "forgetting")
"""The measures that are differences of scores."""


def summary(walks: Sequence[Walk], metric: str) -> dict[str, dict[str, TwoWay | None]]:
    """Return the measures of each contender, with intervals for other seeds and other orders."""
    return {
        name: {measure: _over(own, measure, metric) for measure in MEASURES}
        for name, own in _by_contender(walks).items()
    }


def _over(walks: Sequence[Walk], measure: str, metric: str) -> TwoWay | None:
    if (values := tabled(walks, measure)) is None:
        return None
    over = crossed(values)
    low, high = (over.low, over.high) if measure in _CHANGES else possible(over.low, over.high, metric)
    return replace(over, low=low, high=high)


def differences(walks: Sequence[Walk]) -> list[tuple[str, str, str, TwoWay, float | None]]:
    """Return every pair of contenders and measure, with the first minus the second on the same seeds and orders, and
    the p value, adjusted for all of them (Holm); None where nothing is known."""
    found = list(_differences(walks))
    adjusted = holm_of_known([difference.p() for *_, difference in found])
    return [(*each, p) for each, p in zip(found, adjusted, strict=True)]


def _differences(walks: Sequence[Walk]) -> Iterator[tuple[str, str, str, TwoWay]]:
    by_name = list(_by_contender(walks).items())
    for place, (name, own) in enumerate(by_name):
        for other, theirs in by_name[place + 1 :]:
            for measure in MEASURES:
                one, two = tabled(own, measure), tabled(theirs, measure)
                if one is not None and two is not None:
                    yield name, other, measure, paired_crossed(one, two)


def closed(walks: Sequence[Walk], base: Sequence[Walk]) -> float | None:
    """Return how much of the way from `base` to training on all the data at once a contender has gone; None: unknown.

    That is the mean difference to `base` over the mean distance of joint training to `base`, in the accuracy after the
    last stage.
    """
    if any(walk.joint is None for walk in walks):
        return None
    own, theirs = (np.mean([walk.matrix.accuracy for walk in each]) for each in (walks, base))
    way = float(np.mean([walk.joint for walk in walks if walk.joint is not None]) - theirs)
    return None if abs(way) < _NO_WAY else float(own - theirs) / way


def tabled(walks: Sequence[Walk], measure: str) -> np.ndarray | None:
    """Return a measure of a contender, shape (seeds, orders); None where it is unknown."""
    seeds = list(dict.fromkeys(walk.seed for walk in walks))
    orders = list(dict.fromkeys(walk.order for walk in walks))
    values = np.full((len(seeds), len(orders)), np.nan)
    for walk in walks:
        values[seeds.index(walk.seed), orders.index(walk.order)] = getattr(walk.matrix, measure)
    return None if np.isnan(values).any() else values


def document(result: Result) -> dict[str, Any]:
    """Return all results as JSON values."""
    by_name = _by_contender(result.walks)
    base = by_name[result.walks[0].contender]
    return {
        "schema_version": 1,
        "scenario": result.spec.scenario,
        "task_known_at_test": result.spec.scenario == "task",
        "metric": result.metric,
        "measures": MEASURES,
        "contenders": {
            name: {
                **{measure: _of(found) for measure, found in of.items()},
                "closed": closed(by_name[name], base) if by_name[name] is not base else None,
            }
            for name, of in summary(result.walks, result.metric).items()
        },
        "controls": {
            name: {measure: _of(found) for measure, found in of.items()}
            for name, of in summary(result.controls, result.metric).items()
        },
        "differences": [
            {"of": [one, two], "measure": measure, **(_of(found) or {}), "p": p}
            for one, two, measure, found, p in differences(result.walks)
        ],
        "walks": [_walk(walk) for walk in result.walks],
        "beside": [_walk(walk) for walk in result.controls],
        "runs": {run["name"]: run for run in result.runs},
    }


def write(result: Result) -> Path:
    """Write ``stream.json``, ``report.md`` and ``report.html`` to the folder of the stream, and return the last."""
    whole = page(result)
    with replacing(result.folder / FILE) as temporary:
        content = json.dumps(finite(document(result)), indent=2, ensure_ascii=False)
        temporary.write_text(content + "\n", encoding="utf-8")
    with replacing(result.folder / "report.md") as temporary:
        temporary.write_text(markdown.page(whole), encoding="utf-8")
    return html.write(whole, result.folder, {})


def printed(result: Result) -> str:
    """Return what is shown on the terminal."""
    percent = f" in {unit(result.metric)}" if unit(result.metric) else ""
    lines = [f"{called(result.metric)}{percent}; {_extent(result)}", SCENARIOS[result.spec.scenario], ""]
    rows = [["", *(name.replace("_", " ") for name in _SHOWN), "of the way to joint", "s / stage"]]
    rows += [[cell.text for cell in row] for row in _rows(result, _SHOWN)]
    lines.append(table(rows))
    if len(result.walks) == 1:
        walk = result.walks[0]
        lines += ["", f"after (row) on (column), {walk.contender}", table(_matrix_rows(walk, result.metric))]
    return "\n".join(lines)


def page(result: Result) -> Document:
    """Return the results as a document."""
    metric = result.metric
    columns = [Column(""), *(Column(name.replace("_", " "), True, MEASURES[name]) for name in MEASURES)]
    columns += [Column("of the way to joint", True, "from the first contender to joint training, by accuracy")]
    columns += [Column("s / stage", True, "seconds of training on the device")]
    caption = f"{called(metric)}; in brackets 95 % intervals for other seeds and other orders (crossed bootstrap)"
    whole = Table("summary", tuple(columns), tuple(_rows(result, tuple(MEASURES), True)), caption)
    blocks: list[Block] = [Paragraph(SCENARIOS[result.spec.scenario]), Paragraph(f"{_extent(result)}."), whole]
    sections = [Section("what", "What was learnt and what was forgotten", tuple(blocks))]
    if rows := [_difference(*each, metric) for each in differences(result.walks)]:
        titles = (Column("first"), Column("second"), Column("measure"), Column("difference", True), Column("p", True))
        caption = (
            "First minus second, on the same seeds and orders, with 95 % intervals of each alone; p is adjusted for "
            "all of them (Holm)"
        )
        sections.append(Section("differences", "Differences", (Table("differences", titles, tuple(rows), caption),)))
    matrices: list[Block] = [
        _matrix(walk, metric, number) for number, walk in enumerate([*result.walks, *result.controls])
    ]
    sections.append(Section("matrices", "The matrices", tuple(matrices)))
    sections.append(Section("labels", "Which labels each run has seen", (_labels(result),)))
    return Document(f"Stream: {result.folder.name}", f"{_extent(result)}. Made by peftlab.", sections)


def _by_contender(walks: Sequence[Walk]) -> dict[str, list[Walk]]:
    by_name: dict[str, list[Walk]] = {}
    for walk in walks:
        by_name.setdefault(walk.contender, []).append(walk)
    return by_name


def _extent(result: Result) -> str:
    seeds, orders = ({getattr(walk, key) for walk in result.walks} for key in ("seed", "order"))
    count = len(result.walks[0].stages)
    return f"{count} stages, {len(seeds)} seed{'s' * (len(seeds) > 1)} x {len(orders)} order{'s' * (len(orders) > 1)}"


def _rows(result: Result, measures: Sequence[str], intervals: bool = False) -> Iterator[tuple[Cell, ...]]:
    of_runs = {run["name"]: run for run in result.runs}
    base = _by_contender(result.walks)[result.walks[0].contender]
    for walks in (result.walks, result.controls):
        for (name, found), own in zip(
            summary(walks, result.metric).items(), _by_contender(walks).values(), strict=True
        ):
            part = closed(own, base) if walks is result.walks and own != base else None
            seconds = [of_runs[run].get("seconds") for walk in own for run in walk.runs if run in of_runs]
            spent = [each for each in seconds if each is not None]
            yield (
                Cell(name),
                *(_cell(found[measure], result.metric, intervals) for measure in measures),
                Cell("-" if part is None else f"{part:.0%}", part),
                Cell(f"{np.mean(spent):.1f}" if spent else "-", float(np.mean(spent)) if spent else None),
            )


def _cell(found: TwoWay | None, metric: str, intervals: bool) -> Cell:
    if found is None:
        return Cell("-")
    limits = f" [{interval(found.low, found.high, metric)}]" if found.low is not None else ""
    return Cell(score(found.value, metric) + (limits if intervals else ""), found.value)


def _difference(one: str, two: str, measure: str, found: TwoWay, p: float | None, metric: str) -> tuple[Cell, ...]:
    limits = f" [{interval(found.low, found.high, metric, signed=True)}]" if found.low is not None else ""
    shown = Cell(score(found.value, metric, signed=True) + limits, found.value)
    return Cell(one), Cell(two), Cell(measure.replace("_", " ")), shown, Cell("-" if p is None else f"{p:.2g}", p)


def _matrix_rows(walk: Walk, metric: str) -> list[list[str]]:
    rows = [["", *walk.stages]]
    for name, values in zip(walk.stages, walk.matrix.rows(), strict=True):
        rows.append([name, *(score(value, metric) for value in values)])
    return rows


def _matrix(walk: Walk, metric: str, number: int) -> Table:
    head, *rows = _matrix_rows(walk, metric)
    columns = tuple(Column(name or "after", numeric=bool(name)) for name in head)
    cells = tuple(
        (Cell(name), *(Cell(text, value) for text, value in zip(texts, values, strict=True)))
        for (name, *texts), values in zip(rows, walk.matrix.rows(), strict=True)
    )
    caption = f"{walk.contender}, seed {walk.seed}, order {walk.order}: {called(metric)} after the stage of the row"
    return Table(f"matrix-{number}", columns, cells, caption)


def _labels(result: Result) -> Table:
    titles = ("run", "trained on", "remembered", "selected on", "trainable")
    keys = ("trained_on", "remembered", "selected_on", "trainable")
    notes = (
        "",
        "its own labelled examples",
        "of earlier stages, trained on again",
        "validation examples",
        "parameters",
    )
    columns = tuple(
        Column(title, place > 0, note) for place, (title, note) in enumerate(zip(titles, notes, strict=True))
    )
    rows = tuple(
        (Cell(run["name"]), *(Cell(f"{run[key]:,}", run[key]) for key in keys)) for run in result.runs if keys[0] in run
    )
    return Table("labels", columns, rows, "Labelled examples that each run has seen; those of its validation count too")


def _walk(walk: Walk) -> dict[str, Any]:
    return {
        "contender": walk.contender,
        "seed": walk.seed,
        "order": walk.order,
        "stages": list(walk.stages),
        "runs": list(walk.runs),
        "matrix": walk.matrix.rows(),
        "joint": walk.joint,
        **walk.matrix.measures(),
    }


def _of(found: TwoWay | None) -> dict[str, float | None] | None:
    return None if found is None else {"value": found.value, "low": found.low, "high": found.high}

"""``peftlab slices``: on which parts of its data a run fails."""

from __future__ import annotations

import argparse
import math
from typing import Any

from peftlab.terminal.arguments import add_json, positive_whole_number, whole_number
from peftlab.terminal.output import cell, print_json, table

GROUP = "believe"
SUMMARY = "on which parts of its data a run fails"
DESCRIPTION = (
    "What it finds is kept in the run's folder, slices.json, and is no part of the record. Of several runs, the others "
    "are compared with the first on each slice."
)
EXAMPLES = (
    "peftlab slices 3f9c2a                                     # all slicers that suit the run",
    "peftlab slices 3f9c2a --by abbreviation,negation,seen",
    "peftlab slices 3f9c2a 8b1e0d --by column:source --json    # a column of the data; two runs, paired",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the runs, and how they are sliced."""
    add_json(parser)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="as with the other commands")
    parser.add_argument(
        "--by",
        metavar="NAMES",
        help="of abbreviation, negation, length, document, seen, rare, question and column:NAME; by default all that "
        "suit the run, but for columns",
    )
    parser.add_argument("--metric", metavar="NAME", help="by default the score that selected the checkpoint")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument(
        "--min-slice",
        type=positive_whole_number,
        default=20,
        metavar="N",
        help="smaller slices are listed, not measured (default 20)",
    )
    parser.add_argument("--seed", type=whole_number, default=0, metavar="N", help="of the draws (default 0)")
    parser.add_argument(
        "--allow", metavar="PACKAGE", action="append", default=[], help="a package whose classes the run may name"
    )


def execute(options: argparse.Namespace) -> None:
    """Measure, and print a line for each slice."""
    from peftlab.imports import without_collecting
    from peftlab.runs.find import find

    with without_collecting():
        from peftlab.use.slices.measure import Settings, slices

    settings = Settings(
        by=options.by and tuple(name.strip() for name in options.by.split(",")),
        metric=options.metric,
        split=options.split,
        min_slice=options.min_slice,
        seed=options.seed,
    )
    result = slices([find(run) for run in options.runs], settings, options.allow)
    if options.json:
        print_json(result.document())
    else:
        _print(result)


def _print(result: Any) -> None:
    print(f"run: {result.run}")
    whole = ", ".join(f"{name} {value:.4f}" for name, value in result.whole.items())
    print(f"{result.examples:,} {result.split} examples, {result.clusters:,} {result.units} ({result.scorer}): {whole}")
    others = [name for name in result.whole if name != result.metric]
    columns = ["slice", "", "size", result.metric, "95 %", "rest", "difference", "95 %", "p", "detectable", "verdict"]
    rows = [[*columns, *others]]
    for one in result.found:
        rows.append(
            [
                one.slicer,
                cell(one.name),
                f"{one.size:,} {one.unit}",
                _number(one.score.value),
                _limits(one.score),
                _number(one.rest),
                "-" if one.difference is None else _number(one.difference.value, "+"),
                "-" if one.difference is None else _limits(one.difference, "+"),
                "-" if one.p is None else f"{one.p:.2g}",
                _number(one.detectable),
                one.says,
                *(_number(one.scores[name]) for name in others),
            ]
        )
    print(table(rows))
    if result.compared:
        rows = [["run", "slice", "", f"{result.metric}: difference from the first", "95 %", "p", "verdict"]]
        for each in result.compared:
            gained, p = _number(each.difference.value, "+"), "-" if each.p is None else f"{each.p:.2g}"
            rows.append(
                [
                    *(cell(each.run), each.slicer, cell(each.name), gained, _limits(each.difference, "+")),
                    *(p, each.says),
                ]
            )
        print(table(rows))
    for name, size in result.small.items():
        print(f"too small: {cell(name)}, {size}")
    for name, why in result.left_out.items():
        print(f"left out: {name}: {cell(why)}")


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None or math.isnan(value) else f"{value:{sign}.4f}"


def _limits(interval: Any, sign: str = "") -> str:
    return "-" if interval.low is None else f"{interval.low:{sign}.4f} to {interval.high:{sign}.4f}"

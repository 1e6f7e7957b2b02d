"""``peftlab fairness``: how far groups of examples are apart with a run's model, or with those of several methods."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peftlab.errors import UserError
from peftlab.terminal.arguments import add_json, positive_whole_number, whole_number
from peftlab.terminal.output import cell, print_json, table

GROUP = "believe"
SUMMARY = "whom a run's model fails: gaps between groups, and which of them are real"
DESCRIPTION = (
    "What it finds is kept in the run's folder, fairness.json, and is no part of the record. Of several runs, or a "
    "sweep, it also compares methods: is one fairer than another? Kept predictions are enough; only names and columns "
    "of the data take longer than a few seconds."
)
EXAMPLES = (
    "peftlab fairness 3f9c2a --groups terms=gender                # by what the texts say",
    "peftlab fairness 3f9c2a --groups column=dialect --metrics fnr,fpr --labels negative",
    "peftlab fairness 3f9c2a --groups terms=gender --groups terms=religion --intersect",
    "peftlab fairness 3f9c2a --groups entities=names.txt          # named entities: whose names are missed",
    "peftlab fairness 3f9c2a --groups names --places us,in        # the same texts with names of many places",
    "peftlab fairness sweeps/methods --groups terms=gender        # is one method fairer than another?",
)

_MOST_PAIRS = 6
"""Pairs of groups that are printed for a gap."""
_OF_GAPS = ("intersect", "metrics", "labels", "attributes", "min_group", "correction", "split", "baseline")
"""Options that act on groups of examples alone; those that are not given have the defaults of `Settings`."""
_OF_NAMES = ("places", "names", "templates")
"""Options that act on names swapped in alone."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the runs, the groups and what is measured of them."""
    add_json(parser)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a run folder, the start of an id, or a folder of runs")
    parser.add_argument(
        "--allow",
        metavar="PACKAGE",
        action="append",
        default=[],
        help="a package of your own that a run's configuration names: its code is run; may be given several times",
    )
    parser.add_argument(
        "--groups",
        metavar="HOW",
        action="append",
        required=True,
        help="column=NAME: a column of the data; terms=THEME or FILE: what texts say; entities=THEME or FILE: what "
        "gold entities say; names: names swapped in; may be given several times",
    )
    parser.add_argument("--intersect", action="store_true", help="cross the groups, in place of each for itself")
    parser.add_argument("--metrics", metavar="NAMES", help="such as accuracy,fnr,fpr; by default all that the task has")
    parser.add_argument(
        "--labels",
        metavar="NAMES",
        help="whose rates are measured; by default all, of two that exclude each other the last",
    )
    parser.add_argument(
        "--attributes", metavar="FILE", help="a file with the columns of column=NAME, and with the ids of the examples"
    )
    parser.add_argument(
        "--min-group", type=positive_whole_number, metavar="N", help="leave smaller groups out (default 20)"
    )
    parser.add_argument("--correction", choices=("holm", "none"), help="over all gaps (default holm)")
    parser.add_argument("--split", choices=("validation", "test"), help="default test")
    parser.add_argument("--baseline", metavar="NAME", help="of several methods: the one to compare the others with")
    parser.add_argument("--seed", type=whole_number, default=0, metavar="N", help="of all that is drawn (default 0)")
    names = parser.add_argument_group("names swapped in")
    names.add_argument("--places", metavar="NAMES", help="default us,de,in,ng,cn")
    names.add_argument(
        "--names", type=positive_whole_number, metavar="N", help="of a place and gender, 2 at least (default 40)"
    )
    names.add_argument(
        "--templates", metavar="FILE", help="sentences with a slot for the name; by default the package's"
    )


def execute(options: argparse.Namespace) -> None:
    """Measure, keep and print the gaps."""
    from peftlab.report.study import reading
    from peftlab.report.unpacking import is_archive

    swapped = "names" in options.groups
    specs = tuple(dict.fromkeys(spec for spec in options.groups if spec != "names"))
    _check(options, specs, swapped)
    documents: list[dict[str, Any]] = []
    with reading(options.runs) as study:
        runs = [run for run in study.runs if run.status == "completed"]
        left_out = [(one.place, one.reason) for one in study.left_out]
        left_out += [(run.place, f"it is {run.status}") for run in study.runs if run.status != "completed"]
        for path in filter(is_archive, options.runs):
            print(f"{path}: an archive is only read, what is found is not kept in it", file=sys.stderr)
        for place, reason in left_out:
            print(f"left out: {cell(place)}: {cell(reason)}", file=sys.stderr)
        if not runs:
            raise UserError(f"{', '.join(options.runs)}: no run is completed, and only those have answers")
        if options.baseline and len(runs) == 1:
            raise UserError(f"--baseline {options.baseline}: there is only one run, and no method to compare with it")
        if specs:
            documents += _gaps(options, specs, runs)
        if swapped:
            documents += _names(options, [run.record.folder for run in runs])
    if options.json:
        print_json(documents if len(documents) > 1 else documents[0])


def _check(options: argparse.Namespace, specs: Sequence[str], swapped: bool) -> None:
    """Check that no option is without effect."""
    acts = {**dict.fromkeys(_OF_GAPS, bool(specs)), **dict.fromkeys(_OF_NAMES, swapped)}
    if idle := [f"--{name.replace('_', '-')}" for name, acting in acts.items() if not acting and _given(options, name)]:
        where = "names swapped in, and needs --groups names" if specs else "groups of examples, and not on names"
        raise UserError(f"{idle[0]} acts on {where}")
    if options.intersect and len(specs) == 1:
        raise UserError("--intersect crosses several --groups, and there is only one")
    if options.attributes and not any(spec.startswith("column=") for spec in specs):
        raise UserError(f"--attributes {options.attributes}: no --groups column=NAME reads a column of it")


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return the options that are given: those that are not have the defaults of what they are handed to."""
    return {name: value for name in names if (value := getattr(options, name))}


def _gaps(options: argparse.Namespace, specs: tuple[str, ...], runs: Sequence[Any]) -> list[dict[str, Any]]:
    from peftlab.use.fairness.measure import Settings, fairness
    from peftlab.use.fairness.methods import methods

    settings = Settings(
        groups=specs,
        metrics=_listed(options.metrics),
        labels=_listed(options.labels),
        attributes=options.attributes and Path(options.attributes),
        seed=options.seed,
        **_given(options, "intersect", "min_group", "correction", "split"),
    )
    documents = []
    for run in runs:
        result = fairness(run.record.folder, settings, options.allow)
        documents.append(result.document())
        if not options.json:
            _print(result)
    if len(runs) > 1:
        compared = methods(runs, settings, options.baseline, options.allow)
        documents.append(compared.document())
        if not options.json:
            _print_methods(compared)
    return documents


def _names(options: argparse.Namespace, folders: Sequence[Path]) -> list[dict[str, Any]]:
    from peftlab.commands import computing

    documents = []
    for folder in folders:
        with computing(folder):
            from peftlab.use.fairness.names import names
            from peftlab.use.finished import load
        given: dict[str, Any] = {"templates": options.templates and Path(options.templates), "seed": options.seed}
        if options.places:
            given["places"] = options.places.split(",")
        if options.names:
            given["number"] = options.names
        result = names(load(folder, options.allow), **given)
        documents.append(result.document())
        if not options.json:
            print("\n".join(result.lines()))
    return documents


def _print(result: Any) -> None:
    sizes = f"{result.examples:,} {result.split} examples"
    print(f"run: {result.run}: {sizes}" + (f" in {result.clusters:,} groups" if result.units == "groups" else ""))
    rows = [["groups", "metric", "gap", "95 %", "if equal", "debiased", "p", "detectable", "verdict"]]
    for one in result.found:
        gap = one.gap
        rows.append(
            [
                cell(one.attribute),
                cell(gap.metric),
                cell(gap.value),
                "-" if gap.low is None else f"{gap.low:.4f} to {gap.high:.4f}",
                cell(gap.expected),
                cell(gap.debiased),
                "-" if one.p is None else f"{one.p:.2g}",
                cell(gap.detectable),
                one.says,
            ]
        )
    print(table(rows))
    for one in result.found:
        values = [f"{cell(each.name)} {each.value:.4f} ({each.size:,})" for each in one.gap.groups]
        values += [f"{cell(name)} left out ({size:,})" for name, size in one.gap.left_out.items()]
        print(f"{cell(one.attribute)}, {cell(one.gap.metric)}: {', '.join(values)}")
        apart = [pair for pair in one.gap.pairs if pair.p is not None and pair.p <= 0.05]
        for pair in apart[:_MOST_PAIRS]:
            limits = "" if pair.low is None else f", {pair.low:+.4f} to {pair.high:+.4f}"
            print(f"  {cell(pair.first)} - {cell(pair.second)}: {pair.difference:+.4f}{limits}, p = {pair.p:.2g}")
    for odds in result.equalised_odds:
        print(f"{cell(odds['attribute'])}, {cell(odds['label'])}: equalised odds difference {odds['value']:.4f}")
    for attribute, small in result.left_out.items():
        print(f"left out of {cell(attribute)}: {', '.join(f'{cell(name)} ({size})' for name, size in small.items())}")
    if result.not_measured:
        print(f"not measured, too few examples that count or no value: {cell(', '.join(result.not_measured))}")


def _print_methods(compared: Any) -> None:
    rows = [["groups", "metric", "difference", "method", "seeds", "gap", "95 %", "against", "95 %", "p", "verdict"]]
    for one in compared.rows:
        gap, against = one.gap, one.against
        rows.append(
            [
                cell(one.attribute),
                cell(one.metric),
                cell(f"{one.pair[0]} - {one.pair[1]}"),
                cell(one.method),
                str(one.seeds),
                f"{gap.value:+.4f}",
                _interval(gap),
                "-" if against is None else f"{against.value:+.4f}",
                "-" if against is None else _interval(against),
                "-" if one.p is None else f"{one.p:.2g}",
                one.says,
            ]
        )
    print(f"methods, each against {cell(compared.baseline)}; a smaller gap is fairer")
    print(table(rows))
    for reason in compared.notes:
        print(f"left out: {cell(reason)}")


def _interval(estimate: Any) -> str:
    return "-" if estimate.low is None else f"{estimate.low:+.4f} to {estimate.high:+.4f}"


def _listed(names: str | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names.split(","))

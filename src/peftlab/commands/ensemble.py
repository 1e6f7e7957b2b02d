"""``peftlab ensemble``: several finished runs as one."""

from __future__ import annotations

import argparse
from typing import Any

from peftlab.commands import computing
from peftlab.errors import UserError
from peftlab.terminal.arguments import add_allow, add_json, finite_number, folder_to_write, positive_whole_number
from peftlab.terminal.output import cell, print_json, table

GROUP = "improve"
SUMMARY = "average the answers, or the weights, of several runs"
DESCRIPTION = (
    "The result is a run like any other, for predict, evaluate, report and the rest; its record names the runs that it "
    "was computed from. It is printed beside them, with what it gains and costs."
)
EXAMPLES = (
    "peftlab ensemble 3f9c2a 81b0de c4417e                     # the mean of their probabilities",
    "peftlab ensemble sweeps/ner --best 5 --weights validation # the five best of a sweep, weights learnt",
    "peftlab ensemble sweeps/ner --how greedy_soup             # one model whose weights are a mean of theirs",
)

_ANSWERS = ("average", "vote")
_HOWS = (*_ANSWERS, "soup", "greedy_soup", "arithmetic", "ties", "dare", "swag")
_OF_MERGING = ("scale", "density", "then", "seed", "samples")
"""Options of the other hows alone."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the runs, and how they are combined."""
    add_json(parser)
    add_allow(parser)
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help="run folders, starts of ids, or folders of runs, such as a sweep's: all that were completed",
    )
    parser.add_argument(
        "--how",
        choices=_HOWS,
        default="average",
        help="average: mean probabilities, vote: the most frequent answer; the others make one model: soup and "
        "greedy_soup (means of weights), arithmetic, ties and dare (sums of changes), swag (samples around one run)",
    )
    parser.add_argument(
        "--best", type=positive_whole_number, metavar="K", help="only the K best runs, by their validation score"
    )
    parser.add_argument(
        "--weights",
        type=_weights,
        metavar="W",
        help="average, vote, soup: one number for each run, 2,1,1, or equal (default); average, vote: also validation, "
        "those that make the validation split most likely",
    )
    parser.add_argument(
        "--temperature",
        type=_temperature,
        metavar="T",
        help="average: divides the logits of the mean; auto (default): as makes the validation split most likely",
    )
    parser.add_argument("--name", help="of the new run; by default that of the first one, and how")
    parser.add_argument(
        "--out", type=folder_to_write, metavar="DIR", help="the folder that it is kept below (default runs/)"
    )
    merging = parser.add_argument_group("weights as one model")
    merging.add_argument(
        "--scale", type=finite_number, metavar="S", help="arithmetic, ties, dare, swag: of the changes"
    )
    merging.add_argument(
        "--density", type=finite_number, metavar="D", help="ties, dare: the share of changes that are kept"
    )
    merging.add_argument("--then", choices=("mean", "ties"), help="dare: how changes are joined after some are dropped")
    merging.add_argument("--seed", type=int, metavar="N", help="dare, swag: of what is drawn")
    merging.add_argument("--samples", type=int, metavar="N", help="swag: how many models are drawn")


def execute(options: argparse.Namespace) -> None:
    """Combine the runs, and print the result beside them."""
    given = {name: value for name in _OF_MERGING if (value := getattr(options, name)) is not None}
    if options.how in _ANSWERS and given:
        raise UserError(f"--{next(iter(given))}: --how {options.how} has no such option. `peftlab ensemble --help`")
    if options.how not in _ANSWERS and options.temperature is not None:
        raise UserError(f"--temperature: --how {options.how} averages no answers. Leave it out")
    from peftlab.use.ensembles.chosen import chosen

    records = chosen(options.runs, options.best)
    with computing(records[0].folder):
        from peftlab.use.ensembles.averaging import average
        from peftlab.use.ensembles.comparing import compare
        from peftlab.use.finished import load
    members = [load(record.folder, options.allow) for record in records]
    if options.how in _ANSWERS:
        mixing = {key: value for key in ("weights", "temperature") if (value := getattr(options, key)) is not None}
        run = average(members, options.how, name=options.name, root=options.out, **mixing)
    else:
        from peftlab.use.ensembles.merging import merge_runs

        if options.weights not in (None, "equal"):
            given["weights"] = options.weights
        run = merge_runs(members, options.how, given, name=options.name, root=options.out)
    comparison = compare(run, members)
    if options.json:
        print_json({"run": str(run.folder.path), "how": options.how, **comparison.document()})
    else:
        _print(run, options.how, comparison)


def _print(run: Any, how: str, comparison: Any) -> None:
    rows = [["", "method", "seed", "validation", "test", "ECE", "parameters", "s / 1,000"]]
    for line in comparison.members:
        mark = " (best by validation)" if line.id == comparison.best else ""
        rows.append(_row(f"{line.id}{mark}", line))
    rows.append(["mean", "", "", "", cell(comparison.mean), "", "", ""])
    rows.append(_row(comparison.ensemble.id, comparison.ensemble))
    print(f"{comparison.metric} of the validation and the test split ({comparison.scorer})")
    print(table(rows))
    for gain, what in ((comparison.over_best, "the best by validation"), (comparison.over_mean, "the mean")):
        if gain is not None:
            limits = "" if gain.low is None else f", 95 % {gain.low:+.4f} to {gain.high:+.4f} over {comparison.units}"
            p = "" if gain.p is None else f", p {gain.p:.2g}"
            print(f"{how} over {what}: {gain.value:+.4f}{limits}{p}")
    if comparison.uncompared:
        missing = "the mean" if comparison.over_best else "the best by validation, nor with the mean"
        print(f"not compared with {missing}: {comparison.uncompared}")
    if comparison.weights and len(set(comparison.weights)) > 1:
        print(f"weights: {', '.join(f'{weight:.3f}' for weight in comparison.weights)}")
    if comparison.temperature != 1:
        print(f"temperature: {comparison.temperature:.4g}; ECE without it {cell(comparison.ece_before)}")
    if comparison.device_seconds is not None:
        print(f"training of the members: {comparison.device_seconds:,.0f} s on the device")
    print(f"run: {run.folder.path}")


def _row(name: str, line: Any) -> list[str]:
    numbers = [cell(value) for value in (line.validation, line.test, line.ece)]
    return [name, line.method, cell(line.seed), *numbers, f"{line.parameters:,}", f"{line.seconds:.2f}"]


def _weights(text: str) -> Any:
    return text if text in ("equal", "validation") else [float(part) for part in text.split(",")]


def _temperature(text: str) -> Any:
    if text == "auto":
        return text
    if not 0 < (value := float(text)) < float("inf"):
        raise ValueError
    return value


_weights.__name__, _temperature.__name__ = "list of weights", "positive number or auto"  # argparse names the type

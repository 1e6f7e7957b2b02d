"""``peftlab audit``: what a run tells of its training examples."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from typing import Any

from peftlab.commands import loaded
from peftlab.terminal.arguments import add_run, positive_number, whole_number
from peftlab.terminal.output import cell, print_json, table

GROUP = "believe"
SUMMARY = "attack a run: can its training examples be told from others?"
DESCRIPTION = (
    "Membership inference by the loss, against reference models, and by likelihood ratios with shadow models (LiRA); "
    "and a lower limit of epsilon. What it finds is kept in the run's folder, audit.json, and is no part of the "
    "record. Train on a half, budget.half=0: the other half is then the best comparison."
)
EXAMPLES = (
    "peftlab audit 3f9c2a                                      # by the loss alone: a minute",
    "peftlab audit 3f9c2a --reference 81b0de                   # against a run on other examples",
    "peftlab audit 3f9c2a --shadows 16 --limit 250             # and with 16 shadow models, which are trained first",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run, what helps to attack it, and the examples."""
    add_run(parser)
    parser.add_argument(
        "--reference",
        metavar="RUN",
        action="append",
        default=[],
        help="a run of the same task on other examples; may be given several times",
    )
    parser.add_argument(
        "--shadows",
        type=whole_number,
        default=0,
        metavar="K",
        help="so many runs on random halves of the training examples, in sweeps/audit-ID; those that are finished are "
        "not trained again (default 0)",
    )
    parser.add_argument(
        "--nonmembers",
        choices=("rest", "test", "validation"),
        help="where the examples that the run has not seen come from: rest, what its budget left out of the training "
        "split, or another split; by default the first that has some",
    )
    parser.add_argument(
        "--limit",
        type=whole_number,
        default=1000,
        metavar="N",
        help="the most members, and the most others, random samples; 0: all (default 1000)",
    )
    parser.add_argument(
        "--delta", type=_delta, metavar="D", help="of the guarantee that is tested; by default the run's, else 1e-5"
    )
    parser.add_argument(
        "--seed", type=whole_number, default=0, metavar="N", help="of samples, and of the tested half (default 0)"
    )


def execute(options: argparse.Namespace) -> None:
    """Attack, and print what that reveals."""
    run = loaded(options)
    with redirect_stdout(sys.stderr):  # training prints lines of its own
        result = run.audit(
            references=tuple(options.reference),
            shadows=options.shadows,
            nonmembers=options.nonmembers,
            limit=options.limit or None,
            delta=options.delta,
            seed=options.seed,
        )
    if options.json:
        print_json(result.document())
    else:
        _print(result)


def _print(result: Any) -> None:
    sources = {"rest": "training examples that it left out"}
    print(f"run: {result.run}")
    print(f"{result.members:,} training examples, {result.others:,} others: ", end="")
    print(sources.get(result.source, f"of the {result.source} split"))
    allowed = [one.allowed for one in result.attacks[0].rates]
    rows = [["attack", "on", "AUC", "95 %", *(f"hits at {share:g}" for share in allowed), "epsilon at least"]]
    for one in result.attacks:
        limits = "-" if one.epsilon is None else f"{max(one.epsilon.rates, one.epsilon.guesses):.2f}"
        hits = [f"{rate.tpr.value:.1%}{'' if rate.measurable else ' *'}" for rate in one.rates]
        rows.append([one.name, one.of, f"{one.auc.value:.3f}", _between(one.auc), *hits, limits])
    print(table(rows))
    for control in result.controls:
        differs = ": members and others differ in kind" if control.differs else ""
        print(f"control, {control.name}: {control.auc.value:.3f}, {_between(control.auc)}{differs}")
    for name, reason in result.left_out.items():
        print(f"left out: {name}: {reason}")
    for text in result.warnings:
        print(f"mind: {cell(text)}")
    claim = "none" if result.claim is None else f"{result.claim['epsilon']:.2f}"
    print(f"epsilon: at least {result.epsilon:.2f} at delta {result.delta:g}; claimed: {claim}: {result.verdict}")


def _between(area: Any) -> str:
    return f"{area.low:.3f} to {area.high:.3f}"


def _delta(text: str) -> float:
    if (value := positive_number(text)) >= 1:
        raise ValueError
    return value


_delta.__name__ = "number between 0 and 1"  # argparse names the type in its message

"""``peftlab robustness``: how a run's model holds up when its inputs change."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from peftlab.commands import loaded
from peftlab.errors import UserError
from peftlab.terminal.arguments import add_run, positive_number, positive_whole_number, whole_number
from peftlab.terminal.output import cell, print_json, table

GROUP = "believe"
SUMMARY = "how a run's model holds up when its inputs change"
DESCRIPTION = "What it finds is kept in the run's folder, robustness.json, and is no part of the record."
EXAMPLES = (
    "peftlab robustness 3f9c2a                                 # every perturbation that suits the task",
    "peftlab robustness 3f9c2a --perturb typo,pgd --limit 0    # two of them, on the whole test split",
    "peftlab robustness 3f9c2a --behaviour suite.jsonl         # and behaviour tests, as CheckList has them",
)


_SOURCES = ("typo", "synonym", "neighbour")
_OF_GREEDY = ("max_queries", "max_changed")
_OF_PGD = ("epsilon", "norm", "steps", "step_size", "restarts")
_ATTACKS = {"greedy": (*_OF_GREEDY, "substitutes"), "pgd": _OF_PGD}
"""The options that act on one attack alone."""
WHOLE = ("back_translation", "context", "counterfactual")
"""The slices that edit a text as a whole, at no strength."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run, the perturbations and their strengths."""
    add_run(parser)
    parser.add_argument(
        "--perturb",
        metavar="NAMES",
        help="slices, which are augmentations (typo, case, synonym, mention, ...), and attacks (greedy, pgd); "
        "none: only --behaviour; by default all named here that suit the run",
    )
    parser.add_argument("--split", choices=("validation", "test"), help="default test")
    parser.add_argument(
        "--limit",
        type=whole_number,
        metavar="N",
        help="how many examples, a random sample; 0: all (default 500)",
    )
    parser.add_argument("--seed", type=whole_number, metavar="N", help="of the sample and the slices (default 0)")
    parser.add_argument(
        "--strength", type=_share, metavar="S", help="share of words that a slice changes (default 0.1)"
    )
    greedy = parser.add_argument_group("greedy substitution of words")
    greedy.add_argument("--max-queries", type=positive_whole_number, metavar="N", help="for an example (default 300)")
    greedy.add_argument("--max-changed", type=_share, metavar="S", help="share of words it may change (default 1)")
    greedy.add_argument(
        "--substitutes",
        metavar="NAMES",
        help="of typo, synonym (WordNet, for English), neighbour (in the model's embeddings); of several that break an "
        "answer, the first is taken (default typo,neighbour)",
    )
    pgd = parser.add_argument_group("projected gradient descent on the input embeddings")
    pgd.add_argument("--epsilon", type=positive_number, metavar="E", help="largest norm of a change (default 0.2)")
    pgd.add_argument("--norm", choices=("l2", "linf"), help="default l2")
    pgd.add_argument("--steps", type=positive_whole_number, metavar="N", help="default 10")
    pgd.add_argument("--step-size", type=positive_number, metavar="S", help="by default 2.5 E / N")
    pgd.add_argument(
        "--restarts",
        type=positive_whole_number,
        metavar="N",
        help="the worst counts; the first is from zero (default 3)",
    )
    behaviour = parser.add_argument_group("behaviour tests of a classifier")
    behaviour.add_argument("--behaviour", metavar="FILE", help="JSON Lines of test, type, texts and label")
    behaviour.add_argument(
        "--sentiments",
        metavar="NAMES",
        help="the run's labels for 0, 1 and 2 in that file, negative,neutral,positive; - for one that it lacks; by "
        "default those whose names begin so",
    )


def execute(options: argparse.Namespace) -> None:
    """Perturb, and print what that does to the scores."""
    perturb = None if options.perturb is None else [] if options.perturb == "none" else options.perturb.split(",")
    if perturb == [] and options.behaviour is None:
        raise UserError("--perturb none leaves nothing to do but --behaviour FILE")
    if options.sentiments and options.behaviour is None:
        raise UserError("--sentiments names the labels of --behaviour FILE, and there is none")
    _check_acting(options, perturb)
    sources = options.substitutes.split(",") if options.substitutes else []
    if unknown := [name for name in sources if name not in _SOURCES]:
        raise UserError(f"--substitutes {unknown[0]}: there are no such substitutes. Allowed: {', '.join(_SOURCES)}")
    if options.max_queries is not None and options.max_queries < 3:
        raise UserError(f"--max-queries {options.max_queries}: greedy replaces nothing with fewer than 3")
    run = loaded(options)
    from peftlab.use.robustness.greedy import Greedy
    from peftlab.use.robustness.perturbations import Settings
    from peftlab.use.robustness.pgd import Pgd

    seed = _given(options, "seed")
    given = _given(options, "strength") | seed | ({"substitutes": tuple(sources)} if sources else {})
    settings = Settings(
        greedy=Greedy(**_given(options, *_OF_GREEDY)),
        pgd=Pgd(**_given(options, *_OF_PGD), **seed),
        **given,
    )
    of_examples: dict[str, Any] = _given(options, "split")
    if options.limit is not None:
        of_examples["limit"] = options.limit or None
    labels = options.sentiments.split(",") if options.sentiments else ()
    result = run.robustness(
        perturb, settings=settings, behaviour=options.behaviour, sentiment_labels=labels, **of_examples
    )
    if options.json:
        print_json(result.document())
    else:
        _print(result)


def _check_acting(options: argparse.Namespace, perturb: Sequence[str] | None) -> None:
    """Check that no option is without effect."""
    if perturb is None:
        return
    acts = {
        "perturbations": (bool(perturb), ("split", "limit", "seed")),
        "slices of some words": (any(name not in (*_ATTACKS, *WHOLE) for name in perturb), ("strength",)),
        **{attack: (attack in perturb, names) for attack, names in _ATTACKS.items()},
    }
    for what, (acting, names) in acts.items():
        if not acting and (idle := next(iter(_given(options, *names)), None)):
            raise UserError(f"--{idle.replace('_', '-')} acts on {what}, and --perturb {options.perturb} names none")


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return the options that are given: those that are not have the defaults of what they are handed to."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _print(result: Any) -> None:
    print(f"run: {result.run}")
    if result.outcomes:
        sample = "" if result.examples == result.of else f" of {result.of:,}"
        grouped = ", drawn by group" if result.units == "groups" else ""
        print(f"{result.metric} of {result.examples:,}{sample} {result.split} examples ({result.scorer}){grouped}")
        rows = [["perturbation", "changed", "clean", "perturbed", "drop", "95 %", "broken", "mended", "p", "seconds"]]
        for one in result.outcomes:
            drop = one.drop
            rows.append(
                [
                    one.perturbation,
                    f"{one.changed:,}",
                    cell(result.clean[result.metric]),
                    cell(one.scores[result.metric]),
                    f"{drop.value:+.4f}",
                    "-" if drop.low is None else f"{drop.low:+.4f} to {drop.high:+.4f}",
                    f"{one.broken:,}",
                    f"{one.mended:,}",
                    "-" if one.p is None else f"{one.p:.2g}",
                    f"{one.seconds:.1f}",
                ]
            )
        print(table(rows))
        for one in result.outcomes:
            facts = [f"{key.replace('_', ' ')} {_shown(value)}" for key, value in one.details.items()]
            print(f"{one.perturbation}: {', '.join([*facts, f'{one.queries:,} queries, {one.passes:,} passes'])}")
    for name, reason in result.left_out.items():
        print(f"left out: {reason if reason.startswith(f'{name}: ') else f'{name}: {reason}'}")
    if result.behaviour:
        rows = [["type", "behaviour test", "cases", "failed", "rate", "left out"]]
        for one in result.behaviour:
            rate = "-" if one.failure_rate is None else f"{one.failure_rate:.3f}"
            rows.append([one.type, cell(one.test), f"{one.cases:,}", f"{one.failed:,}", rate, f"{one.left_out:,}"])
        print(table(rows))


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else cell(value)


def _share(text: str) -> float:
    if not 0 < (value := float(text)) <= 1:
        raise ValueError
    return value


_share.__name__ = "share between 0 and 1"  # argparse names the type in its message

"""``peftlab explain``: which words speak for an answer of a run's model, and whether that can be believed."""

from __future__ import annotations

import argparse
import json
from typing import Any

from peftlab.commands import loaded
from peftlab.errors import UserError
from peftlab.terminal.arguments import add_run, file_to_write, positive_whole_number, whole_number
from peftlab.terminal.output import cell, print_json, table

GROUP = "improve"
SUMMARY = "which words speak for an answer, and whether that can be believed"
DESCRIPTION = (
    "Words are named by their index, from 0. What --faithfulness finds is kept in the run's folder, explanation.json, "
    "and is no part of the record."
)
EXAMPLES = (
    'peftlab explain 3f9c2a "Marie Curie moved to Paris." --target LOC@4   # a word\'s tag; else the first entity',
    'peftlab explain 8e2d1b "what a day" --how ig,shapley --html why.html  # a label; by default the predicted one',
    "peftlab explain 3f9c2a --faithfulness --examples 200 --seeds          # are the explainers better than chance?",
)

OF_MANY = ("ig", "occlusion", "shapley", "attention")
"""The explainers that ``--faithfulness`` measures by default."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run, the text and the explainers."""
    add_run(parser)
    parser.add_argument("text", metavar="TEXT", nargs="?")
    parser.add_argument("--object", metavar="JSON", help="an object in place of TEXT, such as one with text_pair")
    parser.add_argument(
        "--target",
        metavar="NAME",
        help="LABEL; TAG@WORD or TYPE@WORD, WORD an index or the word itself; intent/NAME; the number of a choice; an "
        "answer in the text; TOKEN@N, the Nth token of what is written; by default what the model predicts",
    )
    parser.add_argument(
        "--how",
        metavar="NAMES",
        help="of ig (integrated gradients), occlusion, shapley, attention (last layer), rollout (all layers); by "
        "default ig, with --faithfulness ig,occlusion,shapley,attention",
    )
    parser.add_argument(
        "--baseline",
        choices=("mask", "pad", "delete"),
        help="what stands in the place of an absent word; by default both mask and pad, with --faithfulness mask",
    )
    parser.add_argument("--steps", type=positive_whole_number, metavar="N", help="of integrated gradients (default 50)")
    parser.add_argument(
        "--samples",
        type=positive_whole_number,
        metavar="N",
        help="orders of the words for Shapley values of more than eight (default 32)",
    )
    parser.add_argument("--seed", type=whole_number, default=0, metavar="N", help="of what is random (default 0)")
    parser.add_argument("--html", type=file_to_write, metavar="FILE", help="write the explanation of a text as a page")
    measured = parser.add_argument_group("faithfulness on many examples, in place of TEXT")
    measured.add_argument("--faithfulness", action="store_true", help="hold the explainers against random orders")
    measured.add_argument("--examples", type=positive_whole_number, metavar="N", help="default 200")
    measured.add_argument("--split", choices=("validation", "test"), help="default test")
    measured.add_argument(
        "--most-words", type=positive_whole_number, metavar="N", help="pass over longer texts (default 40)"
    )
    measured.add_argument("--seeds", action="store_true", help="explain the runs of other seeds beside it too")


def execute(options: argparse.Namespace) -> None:
    """Explain, and print the values of the words, or how the explainers do."""
    given = [options.text is not None, options.object is not None, options.faithfulness]
    if sum(given) != 1:
        raise UserError("explain takes a TEXT, --object JSON or --faithfulness, one of them")
    if options.faithfulness and (options.target or options.html):
        raise UserError("--faithfulness explains what is predicted for many texts: leave --target and --html out")
    if options.html and not options.html.parent.is_dir():
        raise UserError(f"--html {options.html}: there is no such folder")
    of_many = _given(options, "examples", "split", "most_words", "seeds")
    if of_many and not options.faithfulness:
        name = next(iter(of_many)).replace("_", "-")
        raise UserError(f"--{name} acts on many texts: add --faithfulness, in place of TEXT")
    names = tuple(options.how.split(",")) if options.how else OF_MANY if options.faithfulness else ("ig",)
    for option, explainer in (("steps", "ig"), ("samples", "shapley")):
        if getattr(options, option) and explainer not in names:
            raise UserError(f"--{option} acts on --how {explainer}, and --how is {','.join(names)}")
    text = options.text if options.object is None else _parsed(options.object)
    run = loaded(options)
    from peftlab.use.explanation.attribution import Settings

    settings = Settings(**_given(options, "steps", "samples", "seed"))
    if options.faithfulness:
        from peftlab.use.explanation.measure import measure

        measured = measure(run, names, baseline=options.baseline, settings=settings, **of_many)
        print_json(measured.document()) if options.json else _print_measured(measured)
        return
    explanation = run.explain(text, options.target, names, options.baseline, settings)
    if options.html:
        from peftlab.use.explanation.page import write

        write(explanation, options.html)
    if options.json:
        print_json(explanation.document())
    else:
        _print(explanation)


def _print(explanation: Any) -> None:
    from peftlab.use.explanation.page import summary, title

    print(f"run: {explanation.run}\ntarget: {cell(explanation.target)}")
    for one in explanation.maps:
        print(f"\n{title(one)}")
        rows = []
        for n, word in enumerate(explanation.words):
            error = [f"+- {one.errors[n]:.4f}"] if one.errors else []
            rows.append([str(word.index), cell(word.text), f"{one.values[n]:+.4f}", *error])
        print(table(rows, indent="  "))
        print(summary(one))
    for note in (*explanation.notes, *(f"left out: {reason}" for reason in explanation.left_out.values())):
        print(f"\n{note}")


def _print_measured(measured: Any) -> None:
    print(f"run: {measured.run}")
    print(
        f"{measured.examples:,} of {measured.of:,} {measured.split} examples, {measured.words:.1f} words each; "
        f"baseline {measured.baseline}; limits of all orders for {measured.exact:.0%}, else of a beam search"
    )
    for reason, count in measured.skipped.items():
        print(f"passed over: {count:,} {reason}")
    rows = [["explainer", "compr.", "suff.", "above random", "95 %", "better", "complete", "gap", "seconds"]]
    for one in measured.outcomes:
        above = one.above_random
        is_better = above.low is not None and above.low > 0
        is_worse = above.high is not None and above.high < 0
        rows.append(
            [
                one.how,
                f"{one.comprehensiveness:.4f}",
                f"{one.sufficiency:.4f}",
                f"{above.value:+.4f}",
                "-" if above.low is None else f"{above.low:+.4f} to {above.high:+.4f}",
                "yes" if is_better else "worse" if is_worse else "not shown",
                "-" if one.complete is None else f"{one.complete:.1%}",
                "-" if one.gap is None else f"{one.gap:.1e}",
                f"{one.seconds:.1f}",
            ]
        )
    print(table(rows))
    for one in measured.stability:
        rho = one.correlation
        seeds = ", ".join(map(str, one.seeds))
        between = "" if rho.low is None else f" ({rho.low:.3f} to {rho.high:.3f})"
        print(f"{one.how}: rank correlation over seeds {seeds}: {rho.value:.3f}{between}")
    for reason in measured.left_out.values():
        print(f"left out: {reason}")
    print("Normalised for each text by the least and the largest area of any order of its words (NAOPC).")


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return the options that are given: those that are not have the defaults of what they are handed to."""
    return {name: value for name in names if (value := getattr(options, name))}


def _parsed(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise UserError(f"--object: is no JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise UserError('--object: expected a JSON object, such as {"text": "...", "text_pair": "..."}')
    return parsed

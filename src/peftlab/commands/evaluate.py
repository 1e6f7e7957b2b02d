"""``peftlab evaluate``: score a run anew, and compare with its record."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from peftlab.commands import loaded
from peftlab.scores.scorer import SCORED
from peftlab.terminal.arguments import add_run, folder_to_write, positive_whole_number
from peftlab.terminal.output import print_json, table
from peftlab.terminal.scope import scope_lines

GROUP = "use"
SUMMARY = "score a run anew, and compare with its record"
DESCRIPTION = (
    "The exit code is 1 where a score is not that of the record, to the last digit, or where none could be compared as "
    "the scorer is another by now."
)
EXAMPLES = (
    "peftlab evaluate 3f9c2a                                   # the recorded scores, again",
    "peftlab evaluate 3f9c2a --data new.conll --out answers    # new labelled data; keeps the answers",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run, and the data it is scored on."""
    add_run(parser)
    parser.add_argument("--data", metavar="PATH", help="score new labelled data, a file or a folder, instead")
    parser.add_argument(
        "--split",
        choices=SCORED,
        action="append",
        default=[],
        help="may be given twice; by default those of the record, of new data test",
    )
    parser.add_argument(
        "--threads", type=positive_whole_number, metavar="N", help="of the CPU; by default as many as the run had"
    )
    parser.add_argument("--out", type=folder_to_write, metavar="DIR", help="keep predictions there, <split>.jsonl")


def execute(options: argparse.Namespace) -> None:
    """Score it, and print the scores next to the recorded ones."""
    run = loaded(options)
    evaluation = run.evaluate(options.data, options.split, options.threads, options.out)
    if options.json:
        scores = [vars(score) | {"equal": score.equal} for score in evaluation.scores]
        elsewhere = {key: {"run": then, "here": here} for key, (then, here) in evaluation.elsewhere.items()}
        document = {"run": str(run.folder.path), "equal": evaluation.equal, "scores": scores}
        scope = {} if evaluation.scope is None else {"out_of_scope": evaluation.scope}
        more = {"lost": evaluation.lost, "elsewhere": elsewhere, "not_compared": evaluation.not_compared}
        print_json(document | more | scope)
    else:
        _print_scores(run, evaluation)
    if evaluation.equal is False or (evaluation.equal is None and evaluation.not_compared):
        sys.exit(1)


def _print_scores(run: Any, evaluation: Any) -> None:
    print(f"run: {run.folder.path}")
    lines = [["split", "score", "recorded", "now", ""]]
    for score in evaluation.scores:
        verdict = {True: "equal", False: "differs", None: ""}[score.equal]
        lines.append([score.split, score.name, _digits(score.recorded), _digits(score.value), verdict])
    print(table(lines))
    print(f"scorer: {run.spec.task.scorer.name}")
    if evaluation.scope is not None:
        print("\n".join(scope_lines(evaluation.scope)))
    for split, counts in evaluation.lost.items():
        print(f"not seen of the {split} split: {', '.join(f'{count:,} {what}' for what, count in counts.items())}")
    for line in evaluation.not_compared:
        print(f"not compared, {line}")
    if evaluation.equal is None and evaluation.not_compared:
        print("nothing could be compared with the record")
    if evaluation.equal is not None:
        surroundings = ", and the surroundings are not those of the run: the last digits may differ"
        differs = f"not equal to the record{surroundings if evaluation.elsewhere else ''}"
        equal = f"{'the others are ' if evaluation.not_compared else ''}equal to the record to the last digit"
        print(equal if evaluation.equal else differs)
    for key, (then, here) in evaluation.elsewhere.items():
        print(f"not as in the run: {key}: {here}, was {then}")


def _digits(value: float | None) -> str:
    return "-" if value is None else repr(value)

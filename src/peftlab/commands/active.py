"""``peftlab active``: which examples are worth a label, asked for round by round."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.commands import computing
from peftlab.errors import UserError
from peftlab.terminal.arguments import add_json, positive_whole_number
from peftlab.terminal.output import print_json, table

if TYPE_CHECKING:
    from peftlab.active_learning.loop import Settings

GROUP = "improve"
SUMMARY = "ask for the labels that help most, round by round"
DESCRIPTION = (
    "The configuration is chosen as for `peftlab train`. By default it is a study: labels of the training split are "
    "hidden, and uncovered as the query asks for them. With --ask FILE people label: each call that finds the last "
    "file filled in trains on it and writes the next one. The same command goes on where it stopped."
)
EXAMPLES = (
    "peftlab active +experiment=banking77_lora data.path=DATA --query random --query breaking_ties --seeds 5",
    "peftlab active +experiment=banking77_lora data.path=DATA --query badge --ask pool.csv     # people label",
    "peftlab active +experiment=ner_lora --query mnlp --initial 2000 --batch-tokens 1000       # budgets in words",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the configuration, the query and the budget."""
    add_json(parser)
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="as of `peftlab train`")
    parser.add_argument(
        "--query",
        action="append",
        metavar="NAME",
        help="random, least_confidence, breaking_ties, entropy, bald, badge, cal, coreset or mnlp; in a study several "
        "may be given, whose curves are compared; by default breaking_ties",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--batch", type=positive_whole_number, metavar="N", help="labels a round; by default 20")
    size.add_argument(
        "--batch-tokens",
        type=positive_whole_number,
        metavar="N",
        help="words a round, for tasks that label words; --initial then counts words, too",
    )
    parser.add_argument(
        "--rounds", type=positive_whole_number, default=7, metavar="N", help="after the first run; by default 7"
    )
    parser.add_argument(
        "--initial",
        type=positive_whole_number,
        metavar="N",
        help="labels of the random sample that a study begins with",
    )
    parser.add_argument("--seeds", type=positive_whole_number, metavar="N", help="of a study; by default 1")
    parser.add_argument(
        "--validation",
        type=_validation,
        default="none",
        metavar="none | split | SHARE",
        help="whose labels choose checkpoints: nobody's, so that the last weights are kept (the default); those of the "
        "validation split, which count; or a share of those asked for, such as 0.2",
    )
    parser.add_argument(
        "--warm-start", action="store_true", help="begin each run with the adapter of the round before, not anew"
    )
    parser.add_argument(
        "--ask",
        type=Path,
        metavar="FILE",
        help="a pool without labels, CSV or JSON Lines, about which people are asked",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder of the loop; by default active/NAME")


def execute(options: argparse.Namespace) -> None:
    """Do the rounds that are missing, and print the curves, or what is to be labelled."""
    if options.ask is not None:
        for name in ("seeds", "initial"):
            if getattr(options, name) is not None:
                raise UserError(f"--{name} is for studies; with --ask a loop begins with the training split")
        if len(options.query or ()) > 1:
            raise UserError("--ask: people answer one query; name one")
    with computing():
        from peftlab.active_learning.loop import Settings

    settings = Settings(
        overrides=tuple(options.overrides),
        batch=options.batch_tokens or options.batch or 20,
        initial=0 if options.ask else options.initial or options.batch_tokens or 20,
        in_words=options.batch_tokens is not None,
        validation=options.validation,
        warm_start=options.warm_start,
    )
    asked = list(dict.fromkeys(options.query or ["breaking_ties"]))
    if options.ask is None:
        _study(options, settings, asked)
    else:
        _ask(options, settings, asked[0])


def _study(options: argparse.Namespace, settings: Settings, asked: list[str]) -> None:
    from peftlab.active_learning.curve import as_json, outcome, rows, write_page
    from peftlab.active_learning.loop import default_folder, study

    with redirect_stdout(sys.stderr):  # training prints lines of its own
        folder = options.out or default_folder(settings)
        stages = study(folder, settings, asked, options.rounds, options.seeds or 1, sys.argv)
        found = outcome(stages, "words" if settings.in_words else "labels")
        page = folder / "curve.html"
        write_page(found, folder.name, page)
    if options.json:
        print_json({"folder": str(folder), "page": str(page), **as_json(found), "stages": stages})
        return
    print(table(rows(found)))
    print(f"\nTest {found.metric}; the area under the curve over its width is a mean score. {page} shows the curves.")


def _ask(options: argparse.Namespace, settings: Settings, query: str) -> None:
    from peftlab.active_learning.asking import ask
    from peftlab.active_learning.loop import default_folder

    with redirect_stdout(sys.stderr):
        folder = options.out or default_folder(settings)
        state = ask(folder, settings, query, options.rounds, options.ask, sys.argv)
    if options.json:
        print_json(state.as_json())
    else:
        print(state.said)


def _validation(text: str) -> Any:
    """Return what ``--validation`` says; raise ValueError if it is nothing allowed."""
    if text in ("none", "split"):
        return text
    if not 0 < (share := float(text)) < 1:
        raise ValueError
    return share


_validation.__name__ = "none, split, or share between 0 and 1"  # argparse names the type in its message

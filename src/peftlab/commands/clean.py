"""``peftlab clean``: which examples may be wrong, and why."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from peftlab.commands import computing
from peftlab.errors import UserError
from peftlab.terminal.arguments import add_json, file_to_write, whole_number
from peftlab.terminal.output import cell, print_json, table

GROUP = "improve"
SUMMARY = "which examples may be wrong: label errors, conflicts, duplicates, leaks"
DESCRIPTION = (
    "Of a RUN it lists the label errors that its model suggests; of data, chosen as for `peftlab train`, all else. "
    "It writes nothing but the list, and with --split train the runs on the folds."
)
EXAMPLES = (
    "peftlab clean 3f9c2a                                          # label errors in validation and test",
    "peftlab clean 3f9c2a --split train --csv errors.csv           # in training: trains 5 runs on its folds",
    "peftlab clean task=classification data=csv data.path=my.csv   # conflicts, duplicates, leaks, cut texts",
)

_WIDTH = 60
"""The characters of a text that the table shows."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run or the data, and the form of the list."""
    add_json(parser)
    parser.add_argument(
        "subject",
        metavar="RUN | KEY=VALUE",
        nargs="+",
        help="a run folder, or the start of an id below runs/ or sweeps/; or overrides that choose the data",
    )
    parser.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        action="append",
        default=[],
        help="of a RUN; may be given several times; by default validation and test. train takes a run for each fold",
    )
    parser.add_argument("--folds", type=int, metavar="K", help="of the training split; by default 5")
    parser.add_argument(
        "--score",
        choices=(
            "self_confidence",
            "normalized_margin",
            "confidence_weighted_entropy",
            "adjusted_self_confidence",
        ),
        help="ranks label errors; by default self_confidence, the probability of the label",
    )
    parser.add_argument(
        "--csv", type=file_to_write, metavar="FILE", help="also write the whole list there, for a person to edit"
    )
    parser.add_argument(
        "--limit", type=whole_number, default=20, metavar="N", help="rows of the table; by default 20, 0: all"
    )
    parser.add_argument(
        "--allow",
        metavar="PACKAGE",
        action="append",
        default=[],
        help="a package of your own that the run's configuration names: its code is run; may be given several times",
    )


def execute(options: argparse.Namespace) -> None:
    """Print the list."""
    of_data = ["=" in text and not Path(text).is_dir() for text in options.subject]
    if not all(of_data) and len(options.subject) > 1:
        raise UserError("clean takes one RUN, or overrides that choose data, such as data=conll2003")
    of_labels = [name for name in ("split", "folds", "score", "allow") if getattr(options, name) not in (None, [])]
    if all(of_data) and of_labels:
        raise UserError(f"--{of_labels[0]} is for label errors, which a RUN finds: name one")
    if options.folds is not None and "train" not in options.split:
        raise UserError(f"--folds {options.folds}: only the training split has folds: --split train")
    if options.csv is not None and options.csv.exists():
        raise UserError(f"--csv {options.csv}: is there already; it may have been edited. Name a new file")
    with computing():
        from peftlab.use.clean import label_errors_of, problems_of

    with redirect_stdout(sys.stderr):  # training prints lines of its own
        if all(of_data):
            findings = problems_of(options.subject)
        else:
            asked = {key: value for key in ("folds", "score") if (value := getattr(options, key)) is not None}
            findings = label_errors_of(options.subject[0], options.split, allow=options.allow, **asked)
    _show(findings, options)


def _show(findings: list[Any], options: argparse.Namespace) -> None:
    from peftlab.data.cleaning.listing import rows_of, text_of
    from peftlab.storage.atomic import replacing

    if options.csv is not None:
        text = text_of(findings).encode()
        with replacing(options.csv, needed=len(text)) as temporary:
            temporary.write_bytes(text)
    if options.json:
        print_json(rows_of(findings))
        return
    shown = findings[: options.limit] if options.limit else findings
    if shown:
        head = ["rank", "id", "reason", "score", "gold", "suggested", "text", ""]
        print(table([head, *(_row(rank, one) for rank, one in enumerate(shown, start=1))]))
    counts = Counter(f"{one.reason} in {one.split}" for one in findings)
    rest = len(findings) - len(shown)
    if counts:
        print("; ".join(f"{what}: {count:,}" for what, count in counts.items()))
    if rest:
        print(f"{rest:,} more: --limit 0 shows all, --csv FILE writes them")
    if not findings:
        print("nothing found")


def _row(rank: int, one: Any) -> list[str]:
    score = "" if one.score is None else cell(one.score)
    return [
        str(rank),
        cell(one.id),
        one.reason,
        score,
        *(_short(text) for text in (one.gold, one.suggested, one.text)),
        cell(one.note),
    ]


def _short(text: str) -> str:
    flat = cell(" ".join(text.split()))
    return flat if len(flat) <= _WIDTH else f"{flat[: _WIDTH - 3]}..."

"""``peftlab scorecard``: a model of a table with texts, what the texts add to it, and its answers."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from peftlab.commands import computing
from peftlab.errors import UserError
from peftlab.terminal.arguments import add_allow, add_json, positive_number, positive_whole_number
from peftlab.terminal.output import cell, print_json, table

GROUP = "believe"
SUMMARY = "texts beside a table: what they add to its columns, and decisions with reasons"
DESCRIPTION = (
    "The text model is chosen as for `peftlab train`; it reads the text of each row, and scores it out of fold. Models "
    "of the columns, of the text and of both are compared on later rows, and that of both is kept. The same command "
    "goes on where it stopped. With --predict, a scorecard that was built decides new rows."
)
EXAMPLES = (
    "peftlab scorecard task=classification data=csv data.path=applications.csv --time date --out credit",
    "peftlab scorecard +experiment=scorecard_head data.path=applications.csv --split random --out credit --groups sex",
    "peftlab scorecard task=classification data=csv data.path=DATA --time date --out credit --after-granting recovered",
    "peftlab scorecard credit --predict new.csv --json",
)

_OF_BUILDING = (
    *("out", "columns", "categorical", "after_granting", "time", "split", "groups", "positive", "validation", "test"),
    *("folds", "calibration", "loss", "gain", "cut_off"),
)
"""Options that act on a scorecard which is built; those that are not given have the defaults of `Settings`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the text model, the columns, the splits and the decision."""
    add_json(parser)
    add_allow(parser)
    parser.add_argument(
        "overrides",
        metavar="KEY=VALUE | FOLDER",
        nargs="+",
        help="as of `peftlab train`; or a scorecard, with --predict",
    )
    parser.add_argument("--predict", type=Path, metavar="FILE", help="new rows, which FOLDER decides")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="the folder of the scorecard")
    columns = parser.add_argument_group("columns, each a list with commas")
    columns.add_argument("--columns", metavar="NAMES", help="read beside the text; by default all others")
    columns.add_argument("--categorical", metavar="NAMES", help="columns whose numbers are names, such as codes")
    columns.add_argument("--after-granting", metavar="NAMES", help="columns that are known only later, and left out")
    columns.add_argument("--groups", metavar="NAMES", help="columns whose groups are compared, and not read by default")
    splits = parser.add_argument_group("splits")
    splits.add_argument("--time", metavar="COLUMN", help="dates: the last rows are for test")
    splits.add_argument("--split", choices=("random",), help="in place of --time, where there is no date")
    splits.add_argument("--validation", type=positive_number, metavar="SHARE", help="of the rows; by default 0.2")
    splits.add_argument("--test", type=positive_number, metavar="SHARE", help="of the rows; by default 0.2")
    splits.add_argument("--folds", type=positive_whole_number, metavar="N", help="of the training rows; by default 5")
    decision = parser.add_argument_group("decision")
    decision.add_argument("--positive", metavar="LABEL", help="what is forecast; by default the last of the two")
    decision.add_argument("--calibration", choices=("platt", "isotonic", "none"), help="by default platt")
    decision.add_argument("--loss", type=positive_number, metavar="X", help="of an approved bad row; by default 5")
    decision.add_argument("--gain", type=positive_number, metavar="X", help="of an approved good row; by default 1")
    decision.add_argument(
        "--cut-off", type=positive_number, metavar="P", help="refuse from here on; by default gain / (gain + loss)"
    )


def execute(options: argparse.Namespace) -> None:
    """Build a scorecard and print what it is worth, or decide new rows."""
    if options.predict is not None:
        _predict(options)
        return
    if options.out is None:
        raise UserError("--out FOLDER: name the folder of the scorecard")
    if (options.time is None) == (options.split is None):
        raise UserError(
            "--time COLUMN or --split random: a score is for later applications, so that rows are best split by their "
            "date; say which"
        )
    with computing():
        from peftlab.tables import page
        from peftlab.tables.scorecard import build
        from peftlab.tables.settings import Settings

    given = {name: value for name in _OF_BUILDING if (value := getattr(options, name)) is not None}
    for name in ("columns", "categorical", "after_granting", "groups"):
        if name in given:
            given[name] = tuple(part.strip() for part in given[name].split(",") if part.strip())
    folder = given.pop("out")
    given.pop("split", None)
    with redirect_stdout(sys.stderr):  # training prints lines of its own
        result = build(folder, Settings(overrides=tuple(options.overrides), **given), sys.argv)
        file = page.write(result, folder)
    if options.json:
        print_json({"folder": str(folder), "page": str(file), **result})
        return
    print(page.printed(result))
    print(f"\n{file} has the rest; peftlab scorecard {folder} --predict FILE decides new rows.")


def _predict(options: argparse.Namespace) -> None:
    if len(options.overrides) > 1 or "=" in options.overrides[0]:
        raise UserError("--predict FILE: name the folder of one scorecard, which is not built again")
    if idle := [name for name in _OF_BUILDING if getattr(options, name) is not None]:
        raise UserError(f"--{idle[0].replace('_', '-')} acts on a scorecard that is built, and not with --predict")
    folder = Path(options.overrides[0])
    with computing():
        from peftlab.tables.answering import decide

    with redirect_stdout(sys.stderr):
        decided = list(decide(folder, options.predict, options.allow))
    if options.json:
        print_json([{"place": place, **decision.as_json()} for place, decision in decided])
        return
    rows: list[list[Any]] = [["row", "probability", "decision", "reasons"]]
    for place, one in decided:
        why = "; ".join(reason.says for reason in one.reasons)
        rows.append([cell(place), f"{one.probability:.3f}", "approve" if one.approved else "refuse", cell(why)])
    print(table(rows))

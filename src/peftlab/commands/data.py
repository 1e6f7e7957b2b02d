"""``peftlab data``: what is in a data set, and what to know before training on it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

from peftlab.commands import computing
from peftlab.errors import UserError
from peftlab.terminal.arguments import add_json
from peftlab.terminal.output import cell, print_json, table

GROUP = "look"
SUMMARY = "what is in a data set: splits, labels, lengths, copies, examples, warnings"
DESCRIPTION = (
    "DATA is an option of data=..., or a file or folder of your own, which is read by its suffix (.csv, .tsv, .jsonl, "
    ".parquet, .arrow, .conll), and objects by their keys (messages, prompt and answer, source and target, chosen and "
    "rejected), unless data=... names the format. It is read as for a run, and nothing is written."
)
EXAMPLES = (
    "peftlab data conll2003                                  # one of the options of data=...",
    "peftlab data my.csv --model minilm                      # your own; lengths in tokens, and what a run would cut",
    "peftlab data my.csv data.format.text=body data.splits.test=0.2   # with settings as for `peftlab train`",
)

_WIDTH = 70
"""The characters of a text that the table shows."""
_BAR = 30
"""The characters of the longest bar of a histogram."""
_CLASSES = 20
"""The classes that the table shows."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the data set, the model whose tokens are counted, and the form of the card."""
    add_json(parser)
    parser.add_argument("data", metavar="DATA", help="an option of data=..., or a file or folder")
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="settings, as for `peftlab train`")
    parser.add_argument(
        "--model",
        metavar="NAME|FOLDER",
        help="count the tokens of this model, one of conf/model/ or a folder; by default words are counted",
    )


def execute(options: argparse.Namespace) -> None:
    """Print the card."""
    for text in options.overrides:
        if "=" not in text:
            raise UserError(f"'{text}' is no setting: expected one data set, and then KEY=VALUE")
    with computing():
        from peftlab.use.data_set import card_of

    with redirect_stdout(sys.stderr):  # a download prints lines of its own
        card = card_of(options.data, options.overrides, options.model)
    if options.json:
        print_json(card.document())
        return
    print("\n\n".join(_parts(card)))


def _parts(card: Any) -> Iterator[str]:
    """Yield the parts of the card as text."""
    head = [
        ["data", card.name],
        ["task", card.task],
        ["source", card.origin],
        ["licence", card.licence or "not stated"],
    ]
    yield table([[key, cell(value)] for key, value in head])
    yield _of_splits(card)
    if card.splits["train"].classes:
        yield _of_classes(card)
    yield _of_lengths(card.splits["train"].lengths)
    rows = [[cell(one.id), _short(one.gold), _short(one.text)] for one in card.examples]
    yield table([["example", "gold", "text"], *rows])
    lines = [f"- {cell(warning)}" for warning in card.warnings] or ["none"]
    yield "\n".join(["warnings", *lines])


def _of_splits(card: Any) -> str:
    unit = card.splits["train"].lengths.unit
    head = ["split", "rows", f"{unit}, median", "90 %", "most", "duplicates", "near", "conflicts", "left out", "file"]
    rows = []
    for name, split in card.splits.items():
        lengths = split.lengths
        counts = (split.duplicates, split.near_duplicates, split.conflicts, sum(split.dropped.values()))
        rows.append(
            [
                name,
                f"{split.rows:,}",
                *(f"{number:,.0f}" for number in (lengths.median, lengths.p90, lengths.most)),
                *("-" if count is None else f"{count:,}" for count in counts),
                cell(split.file),
            ]
        )
    return table([head, *rows])


def _of_classes(card: Any) -> str:
    names = list(card.splits["train"].classes)
    rows = []
    for name in names[:_CLASSES]:
        counts = [split.classes.get(name, 0) for split in card.splits.values()]
        rows.append([cell(name), *map(_share, counts, card.splits.values())])
    without = [split.without_class for split in card.splits.values()]
    if any(without):
        rows.append(["examples without one", *(f"{count:,}" for count in without)])
    if more := names[_CLASSES:]:
        rows.append([f"{len(more)} more: --json", *("" for _ in card.splits)])
    return table([["class", *card.splits], *rows])


def _share(count: int, split: Any) -> str:
    total = sum(split.classes.values())
    return f"{count:,} ({count / total:.1%})" if total else "0"


def _of_lengths(lengths: Any) -> str:
    most = max(one.examples for one in lengths.histogram)
    rows = []
    for one in lengths.histogram:
        limits = f"{one.least}-{one.most}" if one.most is not None else f"{one.least} and more"
        rows.append([limits, f"{one.examples:,}", "#" * -(-one.examples * _BAR // most)])
    return table([[lengths.unit, "train", ""], *rows])


def _short(text: str) -> str:
    flat = cell(" ".join(text.split()))
    return flat if len(flat) <= _WIDTH else f"{flat[: _WIDTH - 3]}..."

"""``peftlab mask``: files without personal data."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.commands import computing
from peftlab.errors import UserError
from peftlab.personal_data.arguments import add_masking, is_asked_for, masker_of
from peftlab.terminal.arguments import add_allow, add_json, whole_number
from peftlab.terminal.output import cell, print_json, table

if TYPE_CHECKING:
    from peftlab.personal_data.masker import Names

GROUP = "improve"
SUMMARY = "files without personal data: masked, pseudonymised, or only checked"
DESCRIPTION = (
    "Reads CSV, JSON, JSON lines, column files (CoNLL), plain text and Parquet, alone or in a folder, and writes the "
    "same format. Prints what was found by column and kind, never a value. With --check, the exit code is 1 where "
    "something is. Patterns miss what they do not describe: docs/personal_data.md says how much."
)
EXAMPLES = (
    "peftlab mask tickets.csv --check                                     # what is there, by column",
    "peftlab mask tickets.csv --out masked.csv --kinds email,phone,iban   # [EMAIL] in place of an address",
    "peftlab mask --new-key secret.key                                    # the secret of surrogates",
    "peftlab mask texts/ --out masked/ --with surrogate --key secret.key --names 3f9c2a",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the data, what is looked for in it, and where the rest goes."""
    from peftlab.data.masked.files import FORMATS

    add_json(parser)
    parser.add_argument("data", metavar="FILE | FOLDER", nargs="?", type=Path)
    parser.add_argument("--out", type=Path, metavar="PATH", help="the file or folder to write")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if something is found")
    parser.add_argument("--new-key", type=Path, metavar="FILE", help="write a new key for surrogates, and stop")
    add_masking(parser)
    parser.add_argument("--format", choices=list(FORMATS), help="of every file; by default as its name says")
    parser.add_argument(
        "--word-column", type=whole_number, default=0, metavar="N", help="of column files, from 0 (default 0)"
    )
    add_allow(parser)


def execute(options: argparse.Namespace) -> None:
    """Write a key, or the masked files, and print what was found."""
    from peftlab.data.masked.files import mask_files
    from peftlab.personal_data.key import new_key

    if options.new_key is not None:
        if any((options.data, options.out, options.check, options.format, is_asked_for(options))):
            raise UserError("--new-key FILE writes a key and stops: leave the rest out")
        new_key(options.new_key)
        if options.json:
            print_json({"new_key": str(options.new_key)})
        else:
            print(f"{options.new_key}: a new key; whoever has it can tell which surrogate belongs to whom")
        return
    if options.data is None or options.check == (options.out is not None):
        raise UserError("mask takes a FILE or FOLDER, and --out PATH or --check, one of them")
    if options.check and options.mask_with not in (None, "tag"):
        raise UserError(f"--with {options.mask_with} says what to write, and --check writes nothing: leave one out")
    masker = masker_of(options, _names_of)
    report = mask_files(options.data, options.out, masker, options.format, options.word_column)
    if options.json:
        print_json({"files": report.files, "found": report.found, "left_out": report.left_out})
    else:
        _print(report)
    for file in report.left_out:
        print(f"left out, of an unknown format: {cell(file)}", file=sys.stderr)
    if options.check and report.total:
        sys.exit(1)


def _names_of(run: str, types: Sequence[str], allow: Sequence[str]) -> Names:
    from peftlab.use.person_names import names_of

    names = names_of(run, types, allow)
    with computing(names.run):
        names([])  # its model is loaded
    return names


def _print(report: Any) -> None:
    kinds = sorted({kind for of_column in report.found.values() for kind in of_column})
    if report.found:
        rows = [["column", *kinds]]
        for column, of_column in report.found.items():
            rows.append([cell(column), *(f"{of_column.get(kind, 0):,}" for kind in kinds)])
        print(table(rows))
    number = f"{report.files:,} file" + "s" * (report.files != 1)
    print(f"{report.total:,} found in {number}" if report.total else f"nothing found in {number}")

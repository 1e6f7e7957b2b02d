"""``peftlab keys``: make, list, revoke and rotate the keys of a server."""

from __future__ import annotations

import argparse
import re
import sys
from datetime import timedelta
from typing import Any

from peftlab.errors import UserError
from peftlab.serving.access.callers import ADMIN
from peftlab.terminal.arguments import add_json, file_to_write, positive_whole_number
from peftlab.terminal.output import cell, print_json, table

GROUP = "use"
SUMMARY = "make, list, revoke and rotate the keys of a server"
DESCRIPTION = (
    "The file holds hashes only, and a key is printed once. A server reads the file again when it changes: no restart"
)
EXAMPLES = (
    "peftlab keys add keys.yaml reporting --models 'ner-*' --expires 90d      # prints the key",
    "peftlab keys add keys.yaml operator --admin                              # for administration, no models",
    "peftlab keys list keys.yaml",
    "peftlab keys rotate keys.yaml reporting --overlap 24h                    # the key before holds for a day more",
    "peftlab keys revoke keys.yaml reporting                                  # at once",
)

_SECONDS = {"m": 60, "h": 3600, "d": 86400}
_MOST_DAYS = 36_500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to do, with which file and key."""
    add_json(parser)
    parser.add_argument("action", choices=("add", "list", "revoke", "rotate"))
    parser.add_argument("file", metavar="FILE", type=file_to_write, help="for its owner alone; add makes it")
    parser.add_argument("name", metavar="NAME", nargs="?", help="of the key, as logs and metrics show it")
    parser.add_argument(
        "--models",
        metavar="PATTERN",
        action="append",
        help="add: the models that it is for, such as 'ner-*'; may be given several times; by default all",
    )
    parser.add_argument("--admin", action="store_true", help="add: for administration; for models only with --models")
    parser.add_argument("--expires", type=duration, metavar="TIME", help="add, rotate: valid for, such as 12h or 90d")
    parser.add_argument("--requests-per-minute", type=positive_whole_number, metavar="N", help="add: at most")
    parser.add_argument("--tokens-per-minute", type=positive_whole_number, metavar="N", help="add: at most")
    parser.add_argument(
        "--overlap", type=duration, metavar="TIME", help="rotate: how long the key before stays valid; by default 24h"
    )


def duration(text: str) -> timedelta:
    """Return a time such as ``30m``, ``12h`` or ``90d``; raise ArgumentTypeError if it is none."""
    match = re.fullmatch(r"(\d{1,9})([mhd])", text)
    if not match or (time := timedelta(seconds=int(match[1]) * _SECONDS[match[2]])).days > _MOST_DAYS:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 30m, 12h or 90d")
    return time


_OF = {
    "add": ("models", "admin", "expires", "requests_per_minute", "tokens_per_minute"),
    "list": (),
    "revoke": (),
    "rotate": ("expires", "overlap"),
}
"""The options of each action."""


def execute(options: argparse.Namespace) -> None:
    """Change or show the file."""
    from peftlab.serving.access import keys

    _check(options)
    file, name = options.file, options.name
    if options.action == "list":
        _show(keys.listed(file), options.json)
    elif options.action == "revoke":
        keys.revoke(file, name)
        print(f"{name} is revoked; servers refuse it from their next request on", file=sys.stderr)
    elif options.action == "rotate":
        overlap = timedelta(days=1) if options.overlap is None else options.overlap
        _hand_over(name, keys.rotate(file, name, overlap, options.expires), options.json)
        if any(row["name"] == name and row["state"] == "disabled" for row in keys.listed(file)):
            print(f"{name} is disabled: servers refuse it until {file} no longer says so", file=sys.stderr)
    else:
        models = options.models or ([] if options.admin else ["*"])
        key = keys.add(
            file,
            name,
            scopes=(*models, *(["admin"] if options.admin else [])),
            lasts=options.expires,
            requests=options.requests_per_minute,
            tokens=options.tokens_per_minute,
        )
        _hand_over(name, key, options.json)


def _check(options: argparse.Namespace) -> None:
    action = options.action
    if ADMIN in (options.models or ()):
        raise UserError(f"--models {ADMIN}: is the scope of administration, no model; if it is meant, say --admin")
    if (options.name is None) != (action == "list"):
        raise UserError("list takes no NAME" if action == "list" else f"{action}: name the key: {action} FILE NAME")
    if options.expires == timedelta():
        raise UserError(
            "--expires: the key would be over before anybody has it; name a longer time, such as 90d, or leave the "
            "option out, and it is valid until it is revoked"
        )
    every = {option for names in _OF.values() for option in names}
    for option in sorted(every - set(_OF[action])):
        if getattr(options, option) not in (None, False):
            actions = " and ".join(one for one, names in _OF.items() if option in names)
            raise UserError(f"--{option.replace('_', '-')} is for {actions}, not for {action}")


def _hand_over(name: str, key: str, as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "key": key})
    else:
        print(key)
    print("keep it now: it is shown this once", file=sys.stderr)


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    head = ["name", "state", "scopes", "created", "expires", "requests/min", "tokens/min"]
    keys = ("name", "state", "scopes", "created", "expires", "requests_per_minute", "tokens_per_minute")
    if rows:
        print(table([head, *([_cell(row[key]) for key in keys] for row in rows)]))
    else:
        print("no keys", file=sys.stderr)


def _cell(value: Any) -> str:
    return cell(" ".join(value) if isinstance(value, tuple) else value)

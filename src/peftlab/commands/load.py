"""``peftlab load``: how a server does under load."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from peftlab.errors import DataError, UserError
from peftlab.terminal.arguments import add_json, positive_number, positive_whole_number, whole_number
from peftlab.terminal.output import cell, print_json, table

GROUP = "use"
SUMMARY = "send requests to a server at a rate, and say how long the answers took"
DESCRIPTION = (
    "Requests come when they are due, whatever has become of those before, and their latency counts from then. Exit "
    "code 1: not all of them were answered, an input in one was refused, or the client could not keep up the rate."
)
EXAMPLES = (
    "peftlab load http://127.0.0.1:8000 --rate 50 --seconds 30 --file texts.txt",
    "peftlab load http://127.0.0.1:8000 --rate 200 --file texts.txt --model ner --model topics   # two models mixed",
    "peftlab load https://test.example.com --rate 20 --file texts.txt --key-file key --yes-it-is-mine",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the server and the requests."""
    add_json(parser)
    parser.add_argument("url", metavar="URL", help="where the server is, such as http://127.0.0.1:8000")
    parser.add_argument(
        "--file", required=True, help="texts, one a line; or objects, in a file .jsonl; - for stdin. Taken in turn"
    )
    parser.add_argument(
        "--rate", type=positive_number, default=20.0, metavar="N", help="requests a second, in the mean (default 20)"
    )
    parser.add_argument(
        "--seconds", type=positive_number, default=10.0, metavar="S", help="for so long they are sent (default 10)"
    )
    parser.add_argument(
        "--arrivals",
        choices=("poisson", "fixed"),
        default="poisson",
        help="poisson: as of many independent users (default); fixed: equal times between requests",
    )
    parser.add_argument(
        "--model", action="append", default=[], metavar="NAME", help="may be given several times: drawn at random"
    )
    parser.add_argument(
        "--each", type=positive_whole_number, default=1, metavar="N", help="inputs of a request (default 1)"
    )
    parser.add_argument(
        "--timeout", type=positive_number, default=10.0, metavar="S", help="a request is given up then (default 10)"
    )
    parser.add_argument(
        "--connections",
        type=positive_whole_number,
        default=512,
        metavar="N",
        help="the most that are open at a time (default 512)",
    )
    parser.add_argument("--seed", type=whole_number, default=0, metavar="N", help="of the arrivals (default 0)")
    key = parser.add_mutually_exclusive_group()
    key.add_argument("--key-file", metavar="FILE", help="the key, in a file")
    key.add_argument("--key-env", metavar="NAME", help="the environment variable that has the key")
    parser.add_argument("--ca", metavar="FILE", help="the certificate of the authority that the server's is checked by")
    parser.add_argument(
        "--yes-it-is-mine",
        action="store_true",
        help="the server is on another machine, and whoever runs it wants this load",
    )


def execute(options: argparse.Namespace) -> None:
    """Put the load on, and print what became of it."""
    from peftlab.serving.load import Load, is_loopback, put_on

    load = Load(
        url=options.url,
        inputs=tuple(_inputs(options.file)),
        rate=options.rate,
        seconds=options.seconds,
        models=tuple(options.model),
        arrivals=options.arrivals,
        each=options.each,
        timeout=options.timeout,
        connections=options.connections,
        key=_key(options),
        ca=options.ca,
        seed=options.seed,
    )
    if not is_loopback(options.url) and not options.yes_it_is_mine:
        raise UserError(
            f"{options.url}: is not on this machine. A load may hinder others: if the server is yours, or whoever runs "
            "it agrees, say so: --yes-it-is-mine"
        )
    outcome = put_on(load)
    if options.json:
        print_json(outcome.document())
    else:
        _print(outcome)
    if outcome.answered < outcome.due or outcome.inputs_refused or not outcome.keeps_up:
        raise SystemExit(1)


def _inputs(file: str) -> list[Any]:
    from peftlab.use.inputs import lines, objects

    read = list(objects(file) if Path(file).suffix in (".jsonl", ".ndjson") else lines(file))
    for one in read:
        if isinstance(one, DataError):
            raise one
    return [one for one in read if one]


def _key(options: argparse.Namespace) -> str | None:
    """Return the key; it is no argument, for others on the machine see those."""
    if options.key_env is not None:
        if not (key := os.environ.get(options.key_env, "").strip()):
            raise UserError(f"--key-env {options.key_env}: there is no such environment variable, or it is empty")
    elif options.key_file is not None:
        try:
            key = Path(options.key_file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeError) as error:
            raise UserError(f"--key-file {options.key_file}: cannot be read as a key") from error
    else:
        return None
    if not key.isascii() or not key.isprintable():
        raise UserError("the key has characters that no key has: give the one that peftlab keys has printed")
    return key


def _print(outcome: Any) -> None:
    print(f"{outcome.due:,} requests in {outcome.seconds:.1f} s: {outcome.answered:,} answered, ", end="")
    print(f"{outcome.throughput:.1f} a second")
    names = list(outcome.latency.percentiles)
    rows = [["milliseconds", "requests", "mean", *names, "longest"], _row("answered", outcome.latency, names)]
    rows += [_row(f"answered, {cell(model)}", latency, names) for model, latency in outcome.by_model.items()]
    if outcome.refusals.count:
        rows.append(_row("refused", outcome.refusals, names))
    rows.append(_row("sent after it was due", outcome.lag, names))
    print(table(rows))
    for title, counts in (("status", outcome.by_status), ("errors", outcome.errors)):
        if counts:
            print(f"{title}: {', '.join(f'{cell(name)} {count:,}' for name, count in sorted(counts.items()))}")
    if outcome.inputs_refused:
        print(
            f"{outcome.inputs_refused:,} inputs in answered requests were refused, each with a reason: the times say "
            "little about answers. Try one of the inputs by POST /v1/predict"
        )
    print(f"client: {outcome.connections:,} connections, {outcome.client_cpu:.2f} ms of CPU a request")
    if not outcome.keeps_up:
        print(
            f"the client could not keep up: it sent {outcome.late:,} requests more than 10 ms late, so that this says "
            "little about the server. Lower --rate, or send from another machine"
        )


def _row(name: str, latency: Any, percentiles: list[str]) -> list[str]:
    values = [latency.mean, *(latency.percentiles[one] for one in percentiles), latency.largest]
    return [name, f"{latency.count:,}", *("-" if value is None else f"{1000 * value:.1f}" for value in values)]

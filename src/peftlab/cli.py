"""The command `peftlab`: look at runs, go on with unfinished ones and use finished ones.

Results go to stdout, everything that is said on the way to stderr. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

from peftlab.errors import DataError, UserError
from peftlab.exits import stdout_exits, user_exits
from peftlab.imports import find_here, without_collecting
from peftlab.masking.streams import mask_streams, masked
from peftlab.runs.find import find, runs_below

_CHUNK = 1024
"""How many texts are predicted at once: they are sorted by length, and answers come as they are there."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (by default those of the process) name; return the exit code 0.

    Other ends are SystemExit, see `peftlab.exits`; a failure while running is raised as it is.
    """
    with stdout_exits():
        mask_streams(stdout=False)
        given = _parser().parse_args(arguments)
        find_here(getattr(given, "allow", []))
        with user_exits():
            given.command(given)
    return 0


_OPTION = re.compile(r"-(?!\d*\.?\d+$)[^\s=]+(=|$)")
"""What an option looks like, as argparse sees it: no number, and no text with spaces."""


class _InAnyOrder(argparse.ArgumentParser):
    """A parser whose options may stand before, between and after its arguments; after ``--`` all are arguments.

    argparse itself gives an argument that takes any number all that stand before the first option, none maybe.
    """

    def parse_known_args(  # type: ignore[override]  # an overload for every kind of namespace
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse the options first, and then all arguments together."""
        options: list[str] = []
        arguments: list[str] = []
        todo = list(sys.argv[1:] if args is None else args)
        while todo:
            text = todo.pop(0)
            if text == "--":
                arguments += todo
                break
            is_option = _OPTION.match(text) is not None
            (options if is_option else arguments).append(text)
            if is_option and todo and self._takes_a_value(text):
                options.append(todo.pop(0))
        return super().parse_known_args([*options, *(["--", *arguments] if arguments else [])], namespace)

    def _takes_a_value(self, text: str) -> bool:
        """Return whether what follows an option belongs to it; an option may be cut short where only one begins so."""
        known = self._option_string_actions
        names = [text] if text in known else [name for name in known if name.startswith(text)]
        return len(names) == 1 and known[names[0]].nargs != 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="peftlab", description="Look at runs and use finished ones.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_InAnyOrder)
    anew = _InAnyOrder(add_help=False)
    anew.add_argument("--json", action="store_true", help="print JSON")
    finished = _InAnyOrder(add_help=False, parents=[anew])
    finished.add_argument("run", metavar="RUN", help="a run folder, or the start of an id below runs/ or sweeps/")
    finished.add_argument(
        "--allow",
        metavar="PACKAGE",
        action="append",
        default=[],
        help="a package of your own, installed or in the current folder, that the run's configuration names: its code "
        "is run; may be given several times",
    )
    swept = _InAnyOrder(add_help=False, parents=[anew])
    swept.add_argument("sweep", metavar="SWEEP", help="its folder, or its name below sweeps/")

    command = commands.add_parser("runs", parents=[anew], help="a table of runs, the newest first")
    command.add_argument("folder", metavar="DIR", nargs="?", help="where to look; by default runs/ and sweeps/")
    command.set_defaults(command=_runs)

    command = commands.add_parser("resume", parents=[finished], help="go on with a run that was interrupted or killed")
    command.set_defaults(command=_resume)

    command = commands.add_parser(
        "evaluate",
        parents=[finished],
        help="score a run anew, and compare with its record",
        description="The exit code is 1 where a score is not that of the record, to the last digit.",
    )
    command.add_argument("--data", metavar="PATH", help="score new labelled data, a file or a folder, instead")
    command.add_argument(
        "--split",
        choices=("validation", "test"),
        action="append",
        default=[],
        help="may be given twice; by default those of the record, of new data test",
    )
    command.add_argument("--threads", type=int, metavar="N", help="of the CPU; by default as many as the run had")
    command.add_argument("--out", metavar="DIR", help="keep predictions there, <split>.jsonl")
    command.set_defaults(command=_evaluate)

    command = commands.add_parser("predict", parents=[finished], help="what a run's model finds in texts")
    command.add_argument("texts", metavar="TEXT", nargs="*")
    source = command.add_mutually_exclusive_group()
    source.add_argument("--file", metavar="FILE", help="one text a line; - is stdin")
    source.add_argument(
        "--jsonl",
        metavar="FILE",
        help="one JSON object a line, with `text` and what else the task takes (`words`, or `text_pair`), or as the "
        "run's data calls them; its other keys are passed on, as given_KEY where an answer has KEY; - is stdin; prints "
        "JSON",
    )
    command.set_defaults(command=_predict)

    command = commands.add_parser("export", parents=[finished], help="write a plain transformers folder")
    command.add_argument("folder", metavar="DIR", help="new or empty")
    command.set_defaults(command=_export)

    command = commands.add_parser(
        "reproduce",
        parents=[finished],
        help="train a run again: identical, equivalent, different, incomplete or not comparable, and why",
        description="The exit code is 0 only where the verdict is identical or equivalent.",
    )
    command.add_argument("--check-only", action="store_true", help="check what is recorded, without training")
    command.add_argument("--out", metavar="DIR", help="train there; by default below reproductions/")
    command.add_argument(
        "--spread",
        type=float,
        metavar="S",
        help="how far scores may differ in another environment; by default the range over the runs beside it that "
        "differ in the seed alone, if there are 3, else 0.01",
    )
    command.set_defaults(command=_reproduce)

    command = commands.add_parser("status", parents=[swept], help="how a sweep stands")
    command.set_defaults(command=_status)

    command = commands.add_parser(
        "sync",
        parents=[swept],
        help="send what W&B kept offline for a sweep to the server",
        description="What has been sent is not sent again. The exit code is 1 where something could not be sent.",
    )
    command.set_defaults(command=_sync)

    command = commands.add_parser("compare", parents=[anew], help="what two runs differ in")
    command.add_argument("runs", metavar="RUN", nargs=2, help="as with the other commands")
    command.set_defaults(command=_compare)

    command = commands.add_parser("methods", parents=[anew], help="what peft=... there is, and what each trains")
    command.add_argument("method", metavar="NAME", nargs="?", help="one of them, in detail")
    command.add_argument(
        "--model",
        metavar="NAME|FOLDER",
        help="count on this model, one of conf/model/ or a folder; by default on one of the sizes of BERT-base",
    )
    command.add_argument("--markdown", action="store_true", help="print a table in Markdown")
    command.set_defaults(command=_methods)
    return parser


def _methods(given: argparse.Namespace) -> None:
    with without_collecting():
        from peftlab import method_table
        from peftlab.console import start_logging

    start_logging(stderr=True)
    found = list(method_table.rows([given.method] if given.method else [], given.model))
    if given.json:
        print(json.dumps([row.document() for row in found], indent=2, ensure_ascii=False))
    elif given.markdown:
        print(method_table.markdown(found), end="")
    elif given.method:
        print(_table([[key, value] for key, value in method_table.details(found[0]).items()]))
    else:
        head = ["method", "family", "paper", "trainable", "share", "MB", "merges", "tasks", "learning rate"]
        abouts = [[row.about.name, row.about.family, row.about.authors or "-"] for row in found]
        print(_table([head, *(known + method_table.cells(row) for known, row in zip(abouts, found, strict=True))]))


def _runs(given: argparse.Namespace) -> None:
    rows = runs_below(given.folder)
    if given.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    known = [row for row in rows if "error" not in row]
    if known:
        head = ["id", "name", "status", "metric", "validation", "test", "trainable", "seconds", "started"]
        print(_table([head, *([_cell(value) for value in _shown(row)] for row in known)]))
    for row in rows:
        if "error" in row:
            print(f"{row['id']}: broken: {row['error']}")
    if not rows:
        print("no runs", file=sys.stderr)


def _resume(given: argparse.Namespace) -> None:
    folder = find(given.run)
    with without_collecting():
        from peftlab.one_run import resume

    with redirect_stdout(sys.stderr if given.json else masked(sys.stdout)):
        record = resume(folder, given.allow)
    if given.json:
        document = {"run": str(record.folder), **{key: record.data[key] for key in ("run_id", "status", "metrics")}}
        print(json.dumps(document, indent=2, ensure_ascii=False))


def _evaluate(given: argparse.Namespace) -> None:
    with _loaded(given) as run:
        found = run.evaluate(given.data, given.split, given.threads, given.out)
    if given.json:
        scores = [vars(score) | {"equal": score.equal} for score in found.scores]
        elsewhere = {key: {"run": then, "here": here} for key, (then, here) in found.elsewhere.items()}
        document = {"run": str(run.folder.path), "equal": found.equal, "scores": scores}
        document |= {"lost": found.lost, "elsewhere": elsewhere}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _print_scores(run, found)
    if found.equal is False:
        sys.exit(1)


def _print_scores(run: Any, found: Any) -> None:
    print(f"run: {run.folder.path}")
    lines = [["split", "score", "recorded", "now", ""]]
    for score in found.scores:
        verdict = {True: "equal", False: "differs", None: ""}[score.equal]
        lines.append([score.split, score.name, _digits(score.recorded), _digits(score.value), verdict])
    print(_table(lines))
    print(f"scorer: {run.spec.task.scorer.name}")
    for split, counts in found.lost.items():
        print(f"not seen of the {split} split: {', '.join(f'{count:,} {what}' for what, count in counts.items())}")
    if found.equal is not None:
        surroundings = ", and the surroundings are not those of the run: the last digits may differ"
        differs = f"not equal to the record{surroundings if found.elsewhere else ''}"
        print("equal to the record to the last digit" if found.equal else differs)
    for key, (then, here) in found.elsewhere.items():
        print(f"not as in the run: {key}: {here}, was {then}")


def _predict(given: argparse.Namespace) -> None:
    if bool(given.texts) == bool(given.file or given.jsonl):
        raise UserError("predict wants texts, --file FILE or --jsonl FILE, one of them")
    with _loaded(given) as run:
        texts = _objects(given.jsonl, run) if given.jsonl else given.texts or _lines(given.file)
        for answer in run.answers(texts, _CHUNK):
            print(json.dumps(answer, ensure_ascii=False) if given.json or given.jsonl else _answer(answer))


def _export(given: argparse.Namespace) -> None:
    with _loaded(given) as run:
        found = run.export(given.folder)
    if given.json:
        document = {"folder": str(found.folder), "largest_difference": found.largest_difference}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        print(f"{found.folder}: its logits on the validation split differ by at most {found.largest_difference:.2g}")


def _reproduce(given: argparse.Namespace) -> None:
    folder = find(given.run)
    with without_collecting():
        from peftlab.console import start_logging
        from peftlab.use.reproduce import reproduce

    start_logging(stderr=True)
    with redirect_stdout(sys.stderr):  # where a run says things of its own
        verdict = reproduce(folder, given.out, given.check_only, given.spread, given.allow)
    print(json.dumps(verdict.document(), indent=2, ensure_ascii=False) if given.json else verdict.text())
    if not verdict.reproduced:
        sys.exit(1)


def _compare(given: argparse.Namespace) -> None:
    from peftlab.runs.compare import compare

    found = compare(*given.runs)
    if given.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    rows = [["", *found["runs"], ""]]
    for section, differences in found.items():
        if isinstance(differences, dict):
            rows += [[f"{section}: {key}", *map(_cell, values), ""] for key, values in differences.items()]
    for score in found["scores"]:
        difference = score["difference"]
        shown = "" if difference is None else f"{difference:+.4f}"
        rows.append([f"{score['split']} {score['name']}", *map(_cell, score["values"]), shown])
    print(_table(rows))


def _status(given: argparse.Namespace) -> None:
    from peftlab.sweep import board

    document = board.read(board.find(given.sweep))
    if given.json:
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return
    from peftlab.sweep.display import print_status

    print_status(document)
    if document["status"] == "gone":
        print("its controller has died: the command of the sweep goes on with it", file=sys.stderr)


def _sync(given: argparse.Namespace) -> None:
    from peftlab.sweep import board
    from peftlab.sweep.wandb_sync import sync

    found = sync(board.find(given.sweep))
    if given.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        for state, folders in found.items():
            print(f"{state}: {len(folders)}", *folders, sep="\n  ")
    if found["failed"]:
        sys.exit(1)


@contextmanager
def _loaded(given: argparse.Namespace) -> Iterator[Any]:
    """Around the use of a finished run: find it before anything heavy is imported, and say things on stderr."""
    folder = find(given.run)
    with without_collecting():
        from peftlab.console import start_logging
        from peftlab.use.finished import load

    start_logging(stderr=True)
    yield load(folder, given.allow)


def _lines(name: str) -> Iterator[str]:
    """Yield the lines of the file `name`, or of stdin where it is ``-``."""
    from peftlab.data.text_files import lines_from
    from peftlab.sources import oddity

    if name == "-":  # bytes, whatever encoding the locale expects
        yield from lines_from(getattr(sys.stdin, "buffer", None) or io.BytesIO(sys.stdin.read().encode()), "stdin")
        return
    is_handed_over = re.fullmatch(r"/dev/(stdin|fd/\d+)", name)  # a pipe that somebody writes into, as in <(command)
    if not is_handed_over and (odd := oddity(Path(name))):
        raise DataError(f"{name}: is {odd}. Name a file, or - for stdin.")
    try:
        with Path(name).open("rb") as file:
            yield from lines_from(file, name)
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror}). Name a file that can be.") from error


def _objects(name: str, task: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects in the file `name`, each of which `task` can take."""
    from peftlab.data.json_lines import read_object

    lines, source = _lines(name), "stdin" if name == "-" else name
    for number, line in enumerate(lines, start=1):
        one = read_object(line, f"{source}:{number}", 'such as {"text": ...}', lines)
        try:
            task.from_input(one, "")
        except DataError as error:
            raise DataError(f"{source}:{number}: {error}") from error
        yield one


def _answer(answer: dict[str, Any]) -> str:
    """Return an answer for people: the text, and below it what was found, a line each; objects are left to JSON."""
    text = answer.pop("text")
    notes = {key: value for key, value in answer.items() if isinstance(value, int)}
    others = [value for key, value in answer.items() if key not in notes]
    lines = [[_cell(part) for part in one.values()] for one in chain(*(v for v in others if isinstance(v, list)))]
    if single := [_cell(value) for value in others if not isinstance(value, list | dict)]:
        lines.insert(0, single)
    shown = f"{text}\n{_table(lines, indent='  ')}" if lines else f"{text}\n  -"
    said = [key if value is True else f"{value} {key}" for key, value in notes.items()]
    return f"{shown}\n  ({', '.join(said).replace('_', ' ')})" if said else shown


def _shown(row: dict[str, Any]) -> Iterable[Any]:
    started = row["started_at"] and datetime.fromisoformat(row["started_at"]).astimezone().strftime("%Y-%m-%d %H:%M")
    parameters, seconds = row["trainable_parameters"], row["wall_seconds"]
    yield from (row[key] for key in ("id", "name", "status", "metric", "validation", "test"))
    yield from (parameters and f"{parameters:,}", seconds and f"{seconds:.0f}", started)


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _digits(value: float | None) -> str:
    return "-" if value is None else repr(value)


def _table(rows: list[list[str]], indent: str = "") -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(indent + line.rstrip() for line in lines)

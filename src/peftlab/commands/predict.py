"""``peftlab predict``: what a run's model finds in texts or files, or writes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Generator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from peftlab.answer_search.arguments import add_fallback, fallback_of
from peftlab.commands import loaded
from peftlab.errors import UserError, escaped
from peftlab.reading.json_form import finite
from peftlab.terminal.arguments import add_run, folder_to_write
from peftlab.terminal.output import cell, table

GROUP = "use"
SUMMARY = "what a run's model finds in texts or files, or writes"
DESCRIPTION = "The exit code is 1 where a line of a file has no answer; the others have theirs."
EXAMPLES = (
    'peftlab predict 3f9c2a "Marie Curie moved from Warsaw to Paris."',
    "peftlab predict 3f9c2a --file texts.txt --json        # a text a line; prints an answer a line",
    "peftlab predict 3f9c2a --jsonl tickets.jsonl          # an object a line",
    "peftlab predict 8a41d7 photo.jpg more_photos         # of a run on pictures: files, and folders of them",
    "peftlab predict 3f9c2a notes/ --standoff out          # named entities of text files, in BRAT's format",
    'peftlab predict 5d2e8c "Name three rivers." --stream --generate max_new_tokens=64   # a model that writes',
    "peftlab predict 7c01aa --file mail.txt --fallback index   # stored answers to what is out of the run's scope",
    "peftlab predict 5d2e8c --chat                         # a line of yours, an answer, and so on",
)

_GOES_ON = "it goes on: see --generate max_new_tokens=N"

CHUNK = 1024
"""How many texts are predicted at once: each chunk is sorted by length, and its answers are printed when it is done."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run, and the source of the texts."""
    add_run(parser)
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="a text; or of a run on files, a file or a folder")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--file", metavar="FILE", help="one text a line; - is stdin")
    source.add_argument(
        "--jsonl",
        metavar="FILE",
        help="one JSON object a line, with `text` and what else the task takes (`words`, or `text_pair`), or as the "
        "run's data calls them, or of a run on files, `path`, relative to FILE; its other keys are passed on, as "
        "given_KEY where an answer has KEY; - is stdin; prints JSON",
    )
    source.add_argument(
        "--chat",
        action="store_true",
        help="talk with a model of conversations: each line of stdin is your next turn, until the end of the input",
    )
    parser.add_argument(
        "--standoff",
        type=folder_to_write,
        metavar="FOLDER",
        help="TEXT are text files, *.txt, or folders of them: writes each there, with its entities in BRAT's *.ann",
    )
    parser.add_argument("--stream", action="store_true", help="print one text as the model writes it")
    parser.add_argument(
        "--generate",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="an option of task.generate in place of the run's, such as max_new_tokens=64; may be given several times",
    )
    add_fallback(parser)


def execute(options: argparse.Namespace) -> None:
    """Print an answer for each text as it becomes available; for a line without one, the reason in its place."""
    if bool(options.texts) == bool(options.file or options.jsonl or options.chat):
        raise UserError("predict takes texts, --file FILE, --jsonl FILE or --chat, one of them")
    if options.stream and (len(options.texts) != 1 or options.json):
        raise UserError("--stream prints one text as it is written: name one TEXT, without --json")
    if options.chat and options.json:
        raise UserError("--chat prints what the model writes, and no JSON: leave --json out")
    if options.standoff and (not options.texts or options.stream or options.json):
        raise UserError("--standoff writes files: name files or folders of texts, without --stream and --json")
    if options.standoff and options.generate:
        raise UserError("--standoff writes the entities that a model finds, and --generate is for models that write")
    generate = _settings(options.generate)
    run = _run_of(options)
    show = _as_json if options.json or options.jsonl else _for_people
    if options.standoff:
        from peftlab.use.standoff_files import annotate

        for file in annotate(run, options.texts, options.standoff):
            print(file)
    elif options.chat:
        _chat(run, generate)
    elif options.stream:
        _written(run.stream(options.texts[0], **generate))
    elif options.texts:
        texts = _files(options.texts, run.parts.task.suffixes) if _takes_files(run) else options.texts
        for answer in run.predict(texts, **generate):
            print(show(answer))
    else:
        _print_lines(run, options, generate, show)


def _run_of(options: argparse.Namespace) -> Any:
    """Return the run, with the stored answers that it falls back on, and print its notice if it has one."""
    fallback = fallback_of(options)
    run = loaded(options, only_answers=True)
    if fallback is not None:
        from peftlab.use.answer_encoders import fall_back

        fall_back(run, fallback)
    if run.notice:
        print(f"notice: {escaped(run.notice)}", file=sys.stderr)
    return run


def _print_lines(
    run: Any, options: argparse.Namespace, generate: dict[str, Any], show: Callable[[dict[str, Any]], str]
) -> None:
    from peftlab.data.form import columns_of
    from peftlab.use.inputs import lines, objects, source_of
    from peftlab.use.predictor import Refused

    source = source_of(options.jsonl or options.file)
    count = refused = 0
    texts = objects(options.jsonl) if options.jsonl else lines(options.file)
    if _takes_files(run) and source != "stdin":
        texts = map(
            partial(_from, Path(source).parent, getattr(columns_of(run.spec.data.format), "path", "path")), texts
        )
    for count, result in enumerate(run.answers(texts, CHUNK, **generate), start=1):
        refused += isinstance(result, Refused)
        print(show(result.at(f"{source}:{count}") if isinstance(result, Refused) else result))
    if refused:
        print(f"error: {refused} of {count} lines have no answer; each says why", file=sys.stderr)
        sys.exit(1)


def _takes_files(run: Any) -> bool:
    from peftlab.tasks.inputs.media_files import MediaTask

    return isinstance(run.parts.task, MediaTask)


def _files(names: Sequence[str], suffixes: tuple[str, ...]) -> list[dict[str, str]]:
    """Return the files called `names` as objects to answer; a folder stands for those in it that end with `suffixes`.

    Raises:
        UserError: a folder has none.
    """
    paths: list[Path] = []
    for path in map(Path, names):
        inside = sorted(path.iterdir()) if path.is_dir() else []
        own = [one for one in inside if one.name.lower().endswith(suffixes) and not one.name.startswith(".")]
        if path.is_dir() and not own:
            raise UserError(f"{path}: the folder has no file that ends with one of {', '.join(suffixes)}")
        paths += own if path.is_dir() else [path]
    return [{"path": str(path)} for path in paths]


def _from(folder: Path, column: str, one: Any) -> Any:
    """Return an object, or a line, that names a file as ``path``, or as the data's `column`, relative to `folder`."""
    if isinstance(one, str):
        one = {"path": one}
    key = column if isinstance(one, dict) and column in one else "path"
    is_named = isinstance(one, dict) and isinstance(one.get(key), str)
    return {**one, key: str(folder / one[key])} if is_named else one


def _chat(run: Any, generate: dict[str, Any]) -> None:
    """Answer each line of stdin as the next turn of one conversation.

    Raises:
        UserError: the run's model answers no conversations.
    """
    task = run.parts.task
    if task.head.pipeline != "text-generation":
        raise UserError(f"--chat: the run's task={task.name} has no conversations: give it single texts")
    messages: list[dict[str, str]] = []
    for line in filter(None, map(str.strip, sys.stdin)):
        said = [*messages, {"role": "user", "content": line}]
        answer = _written(run.stream(said, **generate))
        if answer.strip():
            messages = [*said, {"role": "assistant", "content": answer}]
        else:
            print("(no answer: the conversation goes on as if you had not said that)", file=sys.stderr)


def _written(pieces: Generator[str, None, bool]) -> str:
    """Print pieces as they come, with unsafe characters escaped, and return the whole text."""
    text = ""
    try:
        while True:
            piece = next(pieces)
            print(escaped(piece), end="", flush=True)
            text += piece
    except StopIteration as end:
        print()
        if not end.value:
            print(f"({_GOES_ON})", file=sys.stderr)
    return text


def _settings(texts: Sequence[str]) -> dict[str, Any]:
    """Return the options of generation in texts of the form KEY=VALUE.

    Raises:
        UserError: one is of another form.
    """
    if odd := next((text for text in texts if "=" not in text), None):
        raise UserError(f"--generate {odd}: expected KEY=VALUE, such as max_new_tokens=64")
    pairs = (text.removeprefix("generate.").split("=", 1) for text in texts)
    return {key: None if value in ("null", "none") else value for key, value in pairs}


def _as_json(answer: dict[str, Any]) -> str:
    return json.dumps(finite(answer), ensure_ascii=False)


def _for_people(answer: dict[str, Any]) -> str:
    """Return the text, and below it the results, one a line; nested objects are shown in JSON only."""
    text = answer.pop("text", "") or answer.pop("path", "")
    if (error := answer.get("error")) is not None:
        return f"{text}\n  error: {error}"
    if "written" in answer:
        return _as_written(text, answer)
    fallback = answer.pop("fallback", None)
    labels = answer.pop("labels", []) if "action" in answer else []
    notes = {key: value for key, value in answer.items() if isinstance(value, int)}
    others = [value for key, value in answer.items() if key not in notes]
    lists = [value for value in others if isinstance(value, list)]
    rows = [[cell(part) for part in one.values()] for one in chain(*lists) if isinstance(one, dict)]
    columns = [value for value in lists if value and not any(isinstance(one, dict) for one in value)]
    rows += [list(map(cell, row)) for row in zip(*columns, strict=True)]  # such as labels and their probabilities
    if single := [cell(value) for value in others if not isinstance(value, list | dict)]:
        rows.insert(0, single)
    shown = f"{text}\n{table(rows, indent='  ')}" if rows else f"{text}\n  -"
    if answer.get("action") == "asked":
        shown += f"\n  did you mean: {', '.join(map(escaped, labels))}?"
    if fallback is not None:
        stored = [[cell(one["score"]), one["id"], cell(one["text"].split("\n")[0])] for one in fallback]
        shown += f"\n{table(stored, indent='  ')}" if stored else "\n  no stored answer fits"
    remarks = [_remark(key, value) for key, value in notes.items()]
    return f"{shown}\n  ({', '.join(remarks).replace('_', ' ')})" if remarks else shown


def _remark(key: str, value: int) -> str:
    return f"{'' if value else 'not '}{key}" if isinstance(value, bool) else f"{value} {key}"


def _as_written(text: str, answer: dict[str, Any]) -> str:
    """Return the last turn, and below it what the model has written."""
    asked = text or answer.get("messages", [{}])[-1].get("content", "")
    written = "".join(f"\n  {line}" for line in escaped(answer["written"] or "-").split("\n"))
    remarks = [] if answer["stopped"] else [_GOES_ON]
    remarks += [f"{answer['lost_tokens']} tokens of the input not seen"] if answer.get("truncated") else []
    return f"{asked}{written}" + (f"\n  ({', '.join(remarks)})" if remarks else "")

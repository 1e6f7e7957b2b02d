"""``peftlab watch``: shares of topics and opinions in a stream of texts, and alerts where one of them moves."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.commands import computing
from peftlab.errors import ConfigError, UserError
from peftlab.terminal.arguments import add_allow, add_json, folder_to_write
from peftlab.terminal.output import cell, print_json, table

if TYPE_CHECKING:
    from peftlab.opinion.questions import Question
    from peftlab.opinion.settings import Settings
    from peftlab.opinion.watching import Watch

GROUP = "use"
SUMMARY = "alerts where the share of a topic or an opinion moves in a stream of texts"
DESCRIPTION = (
    "The folder keeps what a later call goes on with; a file that has grown is read from where it ended. With --scored "
    "the rows have labels already, in columns of the names, and no model is loaded."
)
EXAMPLES = (
    "peftlab watch 3f9c2a --stream tweets.csv --time created --text text --out watch",
    "peftlab watch 5d2e8c 3f9c2a --stream posts.jsonl --time at --text body --by region --out watch   # topic, opinion",
    "peftlab watch 3f9c2a --scored --stream answers.jsonl --time at --text text --out watch    # as predict wrote",
)

NAMES = ("topic", "opinion")
"""What two runs answer, where the configuration does not say it; a single one answers the last."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the runs, the stream and its columns."""
    add_json(parser)
    parser.add_argument("runs", metavar="RUN", nargs="*", help="a run that gives each text one label; at most two")
    parser.add_argument("--stream", metavar="FILE", required=True, help="CSV with a header, or JSON Lines; - is stdin")
    parser.add_argument("--time", metavar="COLUMN", required=True, help="ISO 8601, or seconds since 1970")
    parser.add_argument("--text", metavar="COLUMN", help="with --scored it may be left out: then no text is shown")
    parser.add_argument(
        "--by", metavar="COLUMN", action="append", default=[], help="watch its values too; may be given several times"
    )
    parser.add_argument("--scored", action="store_true", help="the rows have labels already")
    parser.add_argument("--config", metavar="FILE", type=Path, help="windows, detector, false alarms, sinks: YAML")
    parser.add_argument("--out", metavar="FOLDER", type=folder_to_write, required=True, help="the folder of the watch")
    parser.add_argument("--final", action="store_true", help="the stream has ended: close the last windows, too")
    add_allow(parser)


def execute(options: argparse.Namespace) -> None:
    """Read what is new of the stream, send the alerts, and print them."""
    from peftlab.runs.find import find

    if not options.scored and (not options.runs or options.text is None):
        raise UserError("watch takes RUN and --text COLUMN, whose texts it answers, or --scored")
    if len(options.runs) > len(NAMES):
        raise UserError(f"watch takes one run or two, such as of topics and of opinions; {len(options.runs)} are named")
    folders = [find(run) for run in options.runs]
    with computing(folders[0] if folders and not options.scored else None):
        from peftlab.opinion.settings import read

        settings, values = read(options.config)
        for sink in settings.sinks:
            sink.check()
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        watch, waiting = _watch(options, settings, values, folders)
    if options.json:
        print_json(_document(watch, waiting))
    else:
        _print(watch, waiting)


def _watch(
    options: argparse.Namespace, settings: Settings, values: dict[str, Any], folders: list[Path]
) -> tuple[Watch, int]:
    """Go on with the watch, and return it with the number of alerts that wait to be sent."""
    from peftlab.opinion.intake import Columns, Intake, answers_of
    from peftlab.opinion.page import write
    from peftlab.opinion.questions import Question
    from peftlab.opinion.sending import Outbox
    from peftlab.opinion.series import asked
    from peftlab.opinion.stream import Stream
    from peftlab.opinion.watching import Watch
    from peftlab.storage.locks import lock

    names = _names(settings, len(folders))
    answered = _questions(settings, names, folders)
    questions = [*answered, *(Question(name) for name in options.by)]
    if repeated := {name for name in options.by if name in names}:
        raise UserError(f"--by {min(repeated)}: a run answers that already")
    if twice := [name for name in options.by if options.by.count(name) > 1]:
        raise UserError(f"--by {twice[0]}: is given twice, and each of its values would be watched twice. Give it once")
    kinds = asked(settings.series, [question.name for question in questions], len(answered))
    own = {
        "settings": {name: value for name, value in values.items() if name != "sinks"},
        "runs": [folder.name for folder in folders],
        "columns": [options.time, options.text, *options.by],
        "scored": options.scored,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    locked = lock(options.out, "watch")
    try:
        watch = Watch(options.out, settings, own, questions, kinds)
        columns = Columns(options.time, options.text, tuple(options.by), tuple(names) if options.scored else ())
        runs = [] if options.scored else [answers_of(_loaded(folder, options.allow)) for folder in folders]
        intake = Intake(questions, columns, runs, settings.correction == "em")
        stream = Stream(options.stream, columns.needed, watch.places.get(options.stream), options.final)
        outbox = Outbox(options.out, settings.sinks, watch.alerts)
        outbox.note()
        watch.read(stream, intake)
        if options.final:
            watch.finish()
        watch.save()
        write(watch)
        return watch, outbox.send(watch.alerts)
    finally:
        os.close(locked)


def _loaded(folder: Path, allow: list[str]) -> Any:
    from peftlab.use.finished import load

    return load(folder, allow)


def _names(settings: Settings, runs: int) -> list[str]:
    names = list(settings.names or NAMES[-runs or -1 :])
    if runs and len(names) != runs:
        raise ConfigError(f"names: {', '.join(names)}: expected a name for each of {runs} runs")
    return names


def _questions(settings: Settings, names: list[str], folders: list[Path]) -> list[Question]:
    """Return what the runs, or the columns of labels, answer."""
    from peftlab.opinion.questions import Question, of_run

    if not folders:
        if settings.correction != "none":
            raise ConfigError(
                f"correction: {settings.correction} needs the errors of a run on labelled texts: name the run that has "
                "given the labels, or set correction: none"
            )
        return [Question(name) for name in names]
    questions = [of_run(folder, name, settings.confusion) for folder, name in zip(folders, names, strict=True)]
    for question in questions:
        if settings.correction != "none" and question.confusion is not None:
            question.confusion.check(question.name, settings.correction)
    return questions


def _document(watch: Watch, waiting: int) -> dict[str, Any]:
    from peftlab.opinion.page import remarks

    chart = watch.chart
    return {
        "folder": str(watch.folder),
        "windows": len(watch.windows),
        "rows": watch.counts.rows,
        "late": watch.clocked.late,
        "ahead": watch.clocked.ahead,
        "repeats": watch.counts.repeats,
        "faults": watch.counts.faults,
        "series": [] if chart is None else [one.name for one in chart.series],
        "unwatched": [] if chart is None else chart.unwatched,
        "false_alarms": None
        if chart is None
        else {"simulated": chart.calibration.rate, "replayed": float(chart.replayed.sum())},
        "alerts": watch.alerts,
        "waiting": waiting,
        "remarks": remarks(watch),
    }


def _print(watch: Watch, waiting: int) -> None:
    from peftlab.opinion.page import remarks

    counts, clocked = watch.counts, watch.clocked
    page = watch.folder / "report.html"
    print(f"{watch.folder}: {len(watch.windows):,} windows of {counts.rows:,} rows; {page} shows them")
    left_out = {
        "repeats": counts.repeats,
        "late": clocked.late,
        f"more than {clocked.jump} windows ahead": clocked.ahead,
        "without a time or an answer": counts.faults,
    }
    if said := [f"{number:,} {what}" for what, number in left_out.items() if number]:
        print(f"not counted: {', '.join(said)}")
    for reason in counts.reasons[:3]:
        print(f"  {cell(reason)}")
    for remark in remarks(watch):
        print(remark)
    if watch.chart is None:
        print("the baseline is not complete: nothing is judged yet")
    elif not watch.alerts:
        print(f"no alert: none of {len(watch.chart.series)} series has moved")
    else:
        print(table([[alert["state"], alert["window"]["start"], cell(alert["text"])] for alert in watch.alerts]))
    if waiting:
        print(f"{waiting} alerts wait to be sent at the next call")

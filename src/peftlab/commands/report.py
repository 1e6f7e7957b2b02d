"""``peftlab report``: what many runs show together, as a document to hand over."""

from __future__ import annotations

import argparse
from pathlib import Path

from peftlab.terminal.arguments import add_json, positive_number
from peftlab.terminal.output import print_json

GROUP = "believe"
SUMMARY = "what many runs show together, as a document to hand over"
DESCRIPTION = "Writes report.html, report.md, report.tex, report.json and figures/ into a folder; prints the summary."
EXAMPLES = (
    "peftlab report sweeps/ner_lora                                # into sweeps/ner_lora/report/",
    "peftlab report sweeps/ner_lora --baseline lora --margin .005  # each method against LoRA; half a point is a tie",
    "peftlab report runs sweeps/a --by peft,regularizer --out comparison --price 2.5",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the runs, how they are compared, and where the report goes."""
    add_json(parser)
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        help="sweeps, run folders, archives of peftlab archive, or starts of run ids",
    )
    parser.add_argument(
        "--by",
        metavar="KEYS",
        help="keys of the configuration that make the groups, such as peft,regularizer; by default the axes that "
        "differ, but for the seed and what was tuned",
    )
    parser.add_argument(
        "--metric", metavar="NAME", help="the score; by default the one that selected the best checkpoints"
    )
    parser.add_argument("--baseline", metavar="NAME", help="the group that all others are compared with")
    parser.add_argument(
        "--cluster",
        choices=("auto", "example", "group"),
        default="auto",
        help="what a test set is a sample of: its examples, or groups of them such as documents (default: groups where "
        "the data have them)",
    )
    parser.add_argument(
        "--margin",
        type=positive_number,
        metavar="D",
        help="a difference that does not matter, in units of the score (default: half a percent of the range of a "
        "score that has one, which is half a point of F1; of others no two groups are tied)",
    )
    parser.add_argument("--level", type=_level, default=0.95, metavar="P", help="of all intervals (default 0.95)")
    parser.add_argument("--price", type=positive_number, metavar="MONEY", help="of an hour of a device")
    parser.add_argument(
        "--out", metavar="DIR", help="where the report goes; by default report/ in the sweep's folder, else here"
    )


def execute(options: argparse.Namespace) -> None:
    """Write the report; print its summary and where it is."""
    from peftlab.report.analysis.options import Options
    from peftlab.report.study import reading
    from peftlab.report.written import default_folder, write

    chosen = Options(
        by=tuple(key.strip() for key in options.by.split(",") if key.strip()) if options.by else (),
        metric=options.metric,
        baseline=options.baseline,
        cluster=options.cluster,
        margin=options.margin,
        level=options.level,
        price_per_device_hour=options.price,
    )
    folder = Path(options.out) if options.out else default_folder(options.paths)
    with reading(options.paths) as study:
        written = write(study, chosen, folder)
    if options.json:
        print_json({"folder": str(written.folder), **written.document.numbers})
        return
    print("\n\n".join(written.summary))
    print(f"\nreport: {written.page}")


def _level(text: str) -> float:
    if not 0.5 <= (value := float(text)) < 1:
        raise ValueError
    return value


_level.__name__ = "probability from 0.5 to 1"  # argparse names the type

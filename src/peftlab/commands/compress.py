"""``peftlab compress``: make a run's model smaller and faster, step by step, and see what each step costs."""

from __future__ import annotations

import argparse

from peftlab.commands import loaded
from peftlab.errors import UserError
from peftlab.terminal.arguments import add_run, folder_to_write, positive_whole_number
from peftlab.terminal.output import print_json, table

GROUP = "improve"
SUMMARY = "make a run's model smaller and faster, and see what each step costs"
DESCRIPTION = (
    "Each step makes a run of the one before it, scored on the same test examples. The ladder ends where the paired "
    "interval admits a larger drop than is allowed. What was made before is not made again: the same command goes on."
)
EXAMPLES = (
    "peftlab compress 3f9c2a --steps merge,onnx,int8                 # a quarter of the bytes, half of the time",
    "peftlab compress 3f9c2a --steps merge,drop_layers=2,distil,int8 --max-drop .01 --out small",
    "peftlab compress 3f9c2a --steps merge,prune_heads=.3,prune_ffn=.3,distil=2,int8 --teacher 8be110",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run, the steps and how much may be lost."""
    add_run(parser)
    parser.add_argument(
        "--steps",
        required=True,
        metavar="STEPS",
        help="in order: merge, drop_layers=COUNT, prune_heads=SHARE, prune_ffn=SHARE, distil or distil=EPOCHS, onnx, "
        "openvino, int8 or int8=products; see docs/compression.md",
    )
    parser.add_argument(
        "--max-drop",
        type=_drop,
        default=0.005,
        metavar="D",
        help="the most of the test score that may be lost, in its own unit (default .005)",
    )
    parser.add_argument("--keep-going", action="store_true", help="make all steps, however much is lost")
    parser.add_argument("--teacher", metavar="RUN", help="the run that distil learns from; by default RUN itself")
    parser.add_argument(
        "--threads", type=positive_whole_number, metavar="N", help="for timing (default: as many as the run had)"
    )
    parser.add_argument(
        "--out",
        type=folder_to_write,
        metavar="DIR",
        help="the folder of the runs, of ladder.json and of ladder.md; by default runs/, without",
    )


def execute(options: argparse.Namespace) -> None:
    """Make the ladder, and print it."""
    run = loaded(options)
    from peftlab.use.compression.ladder import about, compress
    from peftlab.use.compression.steps import parse
    from peftlab.use.finished import load

    steps = parse(options.steps)
    if options.teacher and not any(chosen.step.name == "distil" for chosen in steps):
        raise UserError(f"--teacher {options.teacher}: it teaches the step distil, which --steps {options.steps} lacks")
    ladder = compress(
        run,
        steps,
        options.max_drop,
        options.out,
        load(options.teacher, options.allow) if options.teacher else None,
        options.threads,
        options.keep_going,
    )
    if options.json:
        print_json(ladder.document())
    else:
        print(table(ladder.rows()))
        print("\n".join(about(ladder)))


def _drop(text: str) -> float:
    if not 0 <= (value := float(text)) < float("inf"):
        raise ValueError
    return value


_drop.__name__ = "number from 0"  # argparse names the type in its message

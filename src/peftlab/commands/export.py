"""``peftlab export``: write a plain transformers folder."""

from __future__ import annotations

import argparse

from peftlab.commands import loaded
from peftlab.terminal.arguments import add_run, folder_to_write
from peftlab.terminal.output import print_json

GROUP = "use"
SUMMARY = "write a plain transformers folder"
DESCRIPTION = ""
EXAMPLES = (
    "peftlab export 3f9c2a my_model                   # for AutoModel.from_pretrained, with a model card",
    "peftlab export 5d2e8c my_model --dtype bf16      # weights in 16 bits, as llama.cpp's converter takes them",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run, and the folder for its model."""
    add_run(parser)
    parser.add_argument("folder", type=folder_to_write, metavar="DIR", help="new or empty")
    parser.add_argument(
        "--dtype", choices=["fp32", "bf16", "fp16"], default="fp32", help="the type of the weights, fp32 by default"
    )


def execute(options: argparse.Namespace) -> None:
    """Write the folder, and print how far its model differs from the run's."""
    export = loaded(options).export(options.folder, options.dtype)
    if options.json:
        print_json({"folder": str(export.folder), "largest_difference": export.largest_difference})
    else:
        print(f"{export.folder}: its logits on the validation split differ by at most {export.largest_difference:.2g}")

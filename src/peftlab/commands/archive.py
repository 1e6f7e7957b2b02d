"""``peftlab archive``: one file with the records of runs and all that confirms them."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from peftlab.errors import escaped
from peftlab.terminal.arguments import add_json
from peftlab.terminal.output import print_json

GROUP = "believe"
SUMMARY = "one zip file with records, predictions and a manifest of digests, to hand over"
DESCRIPTION = (
    "Weights are left out unless they are asked for. `peftlab verify`, `report` and `reproduce` read the archive."
)
EXAMPLES = (
    "peftlab archive sweeps/ner_lora --out ner.zip",
    "peftlab archive 3f9c2a 8b1e0d --weights --out two.zip",
    "peftlab archive sweeps/ner_lora --out signed.zip --key ~/.ssh/id_ed25519",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the runs, the file, and the key to sign it with."""
    add_json(parser)
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a run, or a folder of runs such as a sweep's")
    parser.add_argument("--out", metavar="FILE.zip", required=True, help="a new file")
    parser.add_argument("--weights", action="store_true", help="adapters and best checkpoints, too")
    parser.add_argument("--key", metavar="FILE", help="sign it with this SSH key (by ssh-keygen)")


def execute(options: argparse.Namespace) -> None:
    """Write the archive, and print what is in it."""
    from peftlab.report.archive import write

    written = write(options.paths, options.out, weights=options.weights, key=options.key)
    for doubt in written.doubts:
        print(escaped(f"{doubt.member} {doubt.what}"), file=sys.stderr)
    if options.json:
        print_json(asdict(written) | {"path": str(written.path)})
        return
    signed = ", signed" if options.key else ""
    print(f"{written.path}: {written.runs} runs, {written.files:,} files, {written.bytes:,} bytes{signed}")
    print(f"sha256 of its manifest: {written.sha256}")

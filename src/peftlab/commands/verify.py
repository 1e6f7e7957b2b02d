"""``peftlab verify``: whether an archive is what its manifest says, and who signed it."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from peftlab.errors import escaped
from peftlab.report.signature import Signature
from peftlab.terminal.arguments import add_json
from peftlab.terminal.output import print_json

GROUP = "believe"
SUMMARY = "whether an archive is what its manifest says, and who signed it"
DESCRIPTION = "The exit code is 1 if a file differs, is missing or extra, or if the signature is bad or not there."
EXAMPLES = (
    "peftlab verify ner.zip",
    "peftlab verify signed.zip --key id_ed25519.pub                 # signed with this key?",
    "peftlab verify signed.zip --allowed-signers allowed_signers    # by one of these, as Git lists them?",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the archive, and whose signature is expected."""
    add_json(parser)
    parser.add_argument("archive", metavar="ARCHIVE", help="a zip file that `peftlab archive` made")
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument("--key", metavar="FILE", help="the public SSH key of who has to have signed it")
    keys.add_argument("--allowed-signers", metavar="FILE", help="a list of signers, one of whom has to have signed it")


def execute(options: argparse.Namespace) -> None:
    """Print what differs, or that nothing does."""
    from peftlab.report.unpacking import verify

    found = verify(options.archive, key=options.key, allowed_signers=options.allowed_signers)
    if options.json:
        print_json(asdict(found) | {"archive": str(found.archive), "holds": found.holds})
    else:
        for fault in found.faults:
            print(escaped(f"{fault.member} {fault.what}"))
        wrong = f"{len(found.faults)} faults" if found.faults else "all as the manifest lists them"
        print(f"{found.archive}: {found.runs} runs, {found.files:,} files: {wrong}")
        print(f"sha256 of its manifest: {found.sha256}")
        print(escaped(f"signature: {_told(found.signature)}"))
    if not found.holds:
        sys.exit(1)


def _told(signature: Signature) -> str:
    """Return what is known of a signature, as text."""
    match signature.state:
        case "none":
            return "none: whoever changes a file can write the manifest anew"
        case "good":
            return f"good, by {signature.by}"
        case "unchecked":
            return f"not checked: {signature.reason}" + (f" (it is by {signature.by})" if signature.by else "")
        case "bad":
            return f"bad: {signature.reason}"

"""What may be asked of the observers on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from peftlab.terminal.arguments import file_to_write


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of logs, traces, drift and alerts."""
    group = parser.add_argument_group("what is observed")
    group.add_argument(
        "--request-log", type=Path, metavar="FILE", help="write a line of JSON for each request there, not to stderr"
    )
    group.add_argument("--log-texts", action="store_true", help="log the inputs too, with personal data masked")
    group.add_argument(
        "--otlp",
        metavar="URL",
        type=_collector,
        help="send traces there, by OTLP over HTTP, such as http://127.0.0.1:4318",
    )
    group.add_argument(
        "--no-drift", action="store_true", help="do not compare what is served with the run's own validation split"
    )
    group.add_argument("--alerts", type=Path, metavar="FILE", help="alert by the rules in this file of YAML")
    group.add_argument(
        "--write-alerts", type=file_to_write, metavar="FILE", help="write such a file to begin with, and end"
    )


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that these options give."""
    return {
        "request_log": options.request_log,
        "log_texts": options.log_texts,
        "otlp": options.otlp,
        "drift": not options.no_drift,
        "alerts": options.alerts,
    }


def _collector(text: str) -> str:
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError(f"'{text}' is no address such as http://127.0.0.1:4318")
    return text

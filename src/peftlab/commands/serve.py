"""``peftlab serve``: answer over HTTP."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from peftlab.errors import UserError
from peftlab.terminal.arguments import add_allow, add_json, positive_number, positive_whole_number, whole_number

if TYPE_CHECKING:
    from peftlab.serving.server import Ready

GROUP = "use"
SUMMARY = "answer texts over HTTP with the models of runs"
DESCRIPTION = (
    "Runs of the same pretrained model share one copy of it. POST /v1/predict answers, / is a page to try it, /docs\n"
    "describes all. SIGTERM or Ctrl-C: takes nothing new, ends what it has, exit code 0. Needs the extra `serve`."
)
EXAMPLES = (
    "peftlab serve 3f9c2a                                     # http://127.0.0.1:8000, for this machine",
    "peftlab serve ner=3f9c2a tone=8be110 --workers 2         # two models by name, two processes",
    "peftlab serve 3f9c2a --host 0.0.0.0 --keys keys.yaml --tls-cert c.pem --tls-key k.pem",
    "peftlab serve 7c01aa --fallback index                    # stored answers to what is out of its scope",
    "peftlab serve 3f9c2a --mask-names 8be110                 # the model sees [NAME] for what the run 8be110 finds",
    "peftlab serve 3f9c2a --admin 127.0.0.1:9000              # metrics, and loading of further runs, at port 9000",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the runs, where to listen, and how much to take."""
    from peftlab.answer_search.arguments import add_fallback
    from peftlab.personal_data.arguments import add_masking
    from peftlab.serving.access import arguments as of_access
    from peftlab.serving.observing import arguments as of_observing

    add_json(parser)
    parser.add_argument("runs", metavar="RUN", nargs="*", help="a run folder, or the start of an id; NAME=RUN names it")
    add_allow(parser)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=whole_number, default=8000, help="0: any that is free (default 8000)")
    parser.add_argument(
        "--admin", metavar="HOST:PORT", type=_address, help="where metrics and administration listen (default: nowhere)"
    )
    parser.add_argument(
        "--workers", type=positive_whole_number, default=1, metavar="N", help="processes that answer (default 1)"
    )
    parser.add_argument(
        "--threads", type=positive_whole_number, metavar="N", help="of each worker (default: its share of the cores)"
    )
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="the arithmetic (default: that of each run)")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="where to compute (default: as each run, if possible)"
    )
    limits = parser.add_argument_group("limits")
    for name, type_, default, text in _LIMITS:
        shown = f"{text} (default {default:,})"
        limits.add_argument(name, type=type_, default=default, metavar="N", help=shown)
    parser.add_argument(
        "--state", type=Path, metavar="DIR", help="a folder of what its processes tell each other (default: temporary)"
    )
    of_access.add_arguments(parser)
    of_observing.add_arguments(parser)
    add_fallback(parser)
    add_masking(parser.add_argument_group("personal data in inputs, masked before a model sees them"), "mask-")


_LIMITS = (
    ("--max-batch-tokens", positive_whole_number, 4096, "the most tokens of a batch, padding included"),
    ("--max-wait-ms", positive_number, 5, "the longest that an input waits for others, in milliseconds"),
    ("--queue", positive_whole_number, 256, "the most inputs that wait in a worker; more are refused with 429"),
    ("--max-inputs", positive_whole_number, 256, "the most inputs of a request"),
    ("--max-new-tokens", positive_whole_number, 512, "the most tokens of a text that a request may ask for"),
    ("--timeout", positive_number, 30, "the longest that an answer may take, in seconds"),
    ("--drain", positive_number, 30, "the longest that ending waits for answers, in seconds"),
)


def execute(options: argparse.Namespace) -> None:
    """Serve until a signal comes."""
    from peftlab.answer_search.arguments import fallback_of
    from peftlab.personal_data.arguments import is_asked_for, masker_of
    from peftlab.serving.access import arguments as of_access
    from peftlab.serving.observing import arguments as of_observing
    from peftlab.serving.settings import Settings
    from peftlab.terminal.console import start_logging
    from peftlab.use.person_names import names_of

    start_logging(stderr=True)
    if options.write_alerts:
        from peftlab.serving.observing.rules import write_default

        write_default(options.write_alerts)
        print(f"{options.write_alerts}: rules to begin with; serve with --alerts {options.write_alerts}")
        return
    if not options.runs:
        raise UserError("name at least one RUN; `peftlab runs` shows which there are")
    admin_host, admin_port = options.admin or ("127.0.0.1", None)
    settings = Settings(
        runs=tuple(options.runs),
        allow=tuple(options.allow),
        precision=options.precision,
        device=options.device,
        host=options.host,
        port=options.port,
        admin_host=admin_host,
        admin_port=admin_port,
        workers=options.workers,
        threads=options.threads,
        state=options.state,
        max_batch_tokens=options.max_batch_tokens,
        max_wait_ms=options.max_wait_ms,
        queue=options.queue,
        max_inputs=options.max_inputs,
        max_new_tokens=options.max_new_tokens,
        timeout_s=options.timeout,
        drain_s=options.drain,
        mask=masker_of(options, names_of) if is_asked_for(options) else None,
        fallback=fallback_of(options),
        **of_access.values_of(options),
        **of_observing.settings_of(options),
    )
    try:
        from peftlab.serving.server import serve
    except ModuleNotFoundError as error:
        raise UserError(f"serve needs the package {error.name}: pip install 'peftlab[serve]'") from error
    serve(settings, _as_json if options.json else _for_people)


def _as_json(ready: Ready) -> None:
    print(json.dumps(vars(ready)), flush=True)


def _for_people(ready: Ready) -> None:
    admin = f", administration at {ready.admin}" if ready.admin else ""
    print(f"{', '.join(ready.models)} at {ready.url}{admin}", flush=True)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]") or "127.0.0.1", whole_number(port)


_address.__name__ = "HOST:PORT"  # argparse names the type in its message

"""The options of a server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from peftlab.answer_search.arguments import Settings as Search
from peftlab.personal_data.masker import Masker
from peftlab.runs.find import find
from peftlab.runs.record import RunRecord


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a server answers with, where it listens, and how much it takes."""

    runs: tuple[str, ...]
    """Folders or ids of runs, or ``NAME=RUN`` for a run under another name than its id."""
    allow: tuple[str, ...] = ()
    """Packages of the user's own whose classes a configuration may name."""
    precision: str | None = None
    """The arithmetic of all models, ``fp32`` or ``bf16``; None: each has that of its run."""
    device: str | None = None
    """``cpu`` or ``cuda``; None: that of each run, if it is here."""

    host: str = "127.0.0.1"
    port: int = 8000
    admin_host: str = "127.0.0.1"
    admin_port: int | None = None
    """The port of metrics and administration; None: there is none."""
    workers: int = 1
    """Processes that answer, each with the models in its memory."""
    threads: int | None = None
    """The threads that each worker computes with; None: its share of the cores."""
    state: Path | None = None
    """The folder, this user's alone, of what the server's processes tell each other; None: a temporary one."""

    max_batch_tokens: int = 4096
    """The most tokens of a batch."""
    max_wait_ms: float = 5.0
    """The longest that an input waits for others to be computed with, in milliseconds."""
    queue: int = 256
    """The most inputs that wait; further requests are refused with 429."""
    timeout_s: float = 30.0
    """The longest that a request may take, in seconds."""
    drain_s: float = 30.0
    """How long a server that is told to end waits for requests that it has taken, in seconds."""
    max_new_tokens: int = 512
    """The most tokens of a generated text that a request may ask for."""

    keys: Path | None = None
    """The file of hashed keys; None: no key is asked for, which only loopback may do."""
    jwt_issuer: str | None = None
    """Whose tokens are taken beside keys, as their ``iss`` names it; None: no tokens are."""
    jwt_audience: str | None = None
    """What the ``aud`` of a token must name."""
    jwks: str | None = None
    """The file or URL with the issuer's public keys."""
    jwt_algorithms: tuple[str, ...] = ("RS256", "ES256")
    """The signatures that are taken; asymmetric ones only."""
    jwt_claim: str = "scope"
    """The claim with the models that a token is for; dots lead into it, as in ``realm_access.roles``."""
    requests_per_minute: int | None = None
    """The most requests of a caller; a key's own limit comes first. None: any number."""
    tokens_per_minute: int | None = None
    """The most tokens of a caller's texts, likewise."""
    open_page: bool = False
    """Whether the page and the documentation are shown without a key, where keys are asked for."""
    hosts: tuple[str, ...] = ()
    """The names in ``Host`` that are answered; empty: on loopback its own names, elsewhere any."""
    cors: tuple[str, ...] = ()
    """The origins whose pages may ask, such as ``https://app.example``; empty: none."""
    proxies: tuple[str, ...] = ()
    """The addresses or networks whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are believed."""
    behind_proxy: bool = False
    """Whether something in front of the server encrypts, so that it may listen beyond loopback without TLS."""
    tls_cert: Path | None = None
    """The certificate, with those that lead to its root."""
    tls_key: Path | None = None
    """The private key of the certificate."""
    socket: Path | None = None
    """The Unix socket to listen on, for this user alone, in the place of `host` and `port`."""
    client_s: float = 15.0
    """The longest that a client may take for the head of a request, for its body, and to read on, in seconds each."""
    max_connections: int = 500
    """The most connections of a process; beyond them, the one that has been idle for longest is closed."""
    max_body: int = 1_000_000
    """The most bytes of a request's body."""
    max_inputs: int = 256
    """The most inputs of a request."""

    mask: Masker | None = None
    """What masks personal data in inputs before a model sees them; None: only what a run's own configuration masks."""

    fallback: Search | None = None
    """The stored answers that texts out of a run's scope get; None: there are none."""

    request_log: Path | None = None
    """The file of JSON lines, one a request; None: they go where the server's other messages go."""
    log_texts: bool = False
    """Whether the log has the inputs too, with personal data masked."""
    otlp: str | None = None
    """The address that takes traces by OTLP over HTTP; None: there are none."""
    drift: bool = True
    """Whether inputs and answers are compared with the run's own validation split."""
    alerts: Path | None = None
    """The file of rules; None: nobody is alerted."""


def name_of(run: str) -> str:
    """Return the name of the model of a run that is named as in `Settings.runs`.

    Raises:
        UserError: there is no such run.
    """
    place = place_of(run)
    return str(RunRecord.load(find(run)).data["run_id"]) if place == run else run.partition("=")[0]


def place_of(run: str) -> str:
    """Return the folder or id of a run that is named as in `Settings.runs`."""
    _, equals, place = run.partition("=")
    return place if equals and not Path(run).exists() else run

"""Load for a server: requests come when they are due, whatever has become of those before (open loop).

A client that waits for an answer before it asks again asks less often just when the server is slow, and does not see
how slow it is. Here the time at which each request is due is drawn beforehand, and its latency counts from then.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np

from peftlab.errors import UserError
from peftlab.serving.sending import Fates, Sender

PERCENTILES = (50.0, 95.0, 99.0, 99.9)
MOST_REQUESTS = 1_000_000
LATE = 0.01
"""Seconds after it was due at which a request counts as sent late."""
ROUTE = "/v1/predict"

Watch = Callable[[str | None, Sequence[Any], int, bytes], None]
"""Is told of each answer: the model, the inputs, the status, and the body; must return at once."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked of which server, how often, and for how long."""

    url: str
    """Where the server is, such as ``http://127.0.0.1:8000``."""
    inputs: tuple[Any, ...]
    """Texts or objects; requests take them in turn."""
    rate: float
    """Requests a second, in the mean."""
    seconds: float
    """How long requests are sent; the last answers come later."""
    models: tuple[str, ...] = ()
    """Each request asks one of them, at random; empty: the server's only one."""
    arrivals: Literal["poisson", "fixed"] = "poisson"
    """Whether the times between requests are exponentially distributed, as of many independent users, or equal."""
    each: int = 1
    """Inputs of a request."""
    timeout: float = 10.0
    """Seconds after which a request is given up."""
    connections: int = 512
    """The most that are open at a time; a request that finds none free waits, which counts."""
    key: str | None = None
    ca: str | None = None
    """A file with the certificate of an authority that the server's is checked against; None: those of the system."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Check that it can be sent."""
        address = urlsplit(self.url)
        if address.scheme not in ("http", "https") or not address.hostname or address.query or address.username:
            raise UserError("expected the address of a server, such as http://127.0.0.1:8000")
        try:
            address.port  # noqa: B018  # urllib checks it when it is asked for
        except ValueError as error:
            raise UserError(f"{self.url}: its port is none: the highest is 65535") from error
        if not self.inputs:
            raise UserError("there is no input to send")
        if self.rate * self.seconds > MOST_REQUESTS:
            raise UserError(
                f"{self.rate:g} requests a second for {self.seconds:g} s are more than {MOST_REQUESTS:,}: lower one"
            )

    def due(self) -> list[float]:
        """Return the seconds from the start at which each request is due, rising."""
        if self.arrivals == "fixed":
            return (np.arange(round(self.rate * self.seconds)) / self.rate).tolist()
        random = np.random.default_rng(self.seed)
        number = random.poisson(self.rate * self.seconds)  # given their number, they are spread uniformly
        return np.sort(random.uniform(0, self.seconds, number)).tolist()

    def model_of_each(self, requests: int) -> list[str | None]:
        """Return the model that each request asks."""
        if not self.models:
            return [None] * requests
        drawn = np.random.default_rng((self.seed, 1)).integers(0, len(self.models), requests)
        return [self.models[place] for place in drawn.tolist()]

    def inputs_of(self, request: int) -> tuple[Any, ...]:
        """Return the inputs of a request by its number."""
        return tuple(self.inputs[(request * self.each + place) % len(self.inputs)] for place in range(self.each))


@dataclass(frozen=True)
class Latency:
    """How long requests took, in seconds from when they were due."""

    count: int
    mean: float | None
    percentiles: dict[str, float | None]
    """By name, such as ``p99``; None where less than one request lies beyond it."""
    largest: float | None


@dataclass(frozen=True)
class Outcome:
    """What became of the requests."""

    url: str
    rate: float
    """Requests a second that were due."""
    due: int
    answered: int
    """Requests with status 200."""
    inputs_refused: int
    """Inputs of these that have an error in the place of an answer: they say nothing of how long answers take."""
    seconds: float
    """Until the last answer, or until the last request was given up."""
    throughput: float
    """Answered requests a second."""
    by_status: dict[str, int]
    errors: dict[str, int]
    """By the code of the server's error, or ``timeout``, ``lost`` (the connection ended first), ``unreachable``."""
    latency: Latency
    """Of those that were answered."""
    refusals: Latency
    """Of those that the server refused, with 429 or 503."""
    by_model: dict[str, Latency]
    """Of those that were answered; empty for a single model."""
    lag: Latency
    """How much later than due the client sent the requests, in seconds."""
    late: int
    """Requests that the client sent more than 10 ms late, or never."""
    client_cpu: float
    """Milliseconds of CPU that the client took for a request."""
    connections: int
    """The most that were open at a time."""

    @property
    def keeps_up(self) -> bool:
        """Whether the client sent 99 % of the requests in time: a slow client says nothing about a server."""
        return self.late <= 0.01 * self.due

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "keeps_up": self.keeps_up}


def put_on(load: Load, watch: Watch | None = None) -> Outcome:
    """Send the requests of `load`, and return what became of them.

    Args:
        load: the requests.
        watch: is told of each answer.

    Raises:
        UserError: the server cannot be reached, or the extra ``serve`` is missing.
    """
    try:
        import httptools  # noqa: F401
    except ImportError as error:
        raise UserError('a load needs the package httptools: pip install "peftlab[serve]"') from error
    address = urlsplit(load.url)
    address = address._replace(path=address.path.rstrip("/") + ROUTE)
    if not (due := load.due()):
        raise UserError(f"{load.rate:g} requests a second for {load.seconds:g} s are none: raise --rate or --seconds")
    models = load.model_of_each(len(due))
    bodies: dict[tuple[str | None, int], bytes] = {}

    def content(request: int) -> bytes:
        key = models[request], request * load.each % len(load.inputs)
        if (body := bodies.get(key)) is None:
            named = {} if models[request] is None else {"model": models[request]}
            body = bodies[key] = json.dumps({**named, "inputs": load.inputs_of(request)}, ensure_ascii=False).encode()
        return body

    def tell(request: int, status: int, body: bytes) -> None:
        assert watch is not None
        watch(models[request], load.inputs_of(request), status, body)

    headers = {"content-type": "application/json", "user-agent": "peftlab-load"}
    if load.key is not None:
        headers["authorization"] = f"Bearer {load.key}"
    try:
        sender = Sender(address, content, headers, load.timeout, load.connections, load.ca, tell if watch else None)
    except OSError as error:  # ssl's errors too
        raise UserError(f"--ca {load.ca}: cannot be read as certificates: {error.strerror or error}") from error
    check_reachable(load)
    cpu = time.process_time()
    fates = _run(sender, due)
    return _outcome(load, fates, models, time.process_time() - cpu)


def check_reachable(load: Load) -> None:
    """Check that something listens at the address.

    Raises:
        UserError: nothing does.
    """
    address = urlsplit(load.url)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), load.timeout).close()
    except OSError as error:
        raise UserError(
            f"{load.url}: cannot be reached ({error.strerror or error}). Is a server there? peftlab serve RUN"
        ) from error


def is_loopback(url: str) -> bool:
    """Return whether the server of an address is on this machine, at an address that no other machine reaches."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _run(sender: Sender, due: Sequence[float]) -> Fates:
    loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with suppress(ImportError):  # there is none for Windows
        from uvloop import new_event_loop as loop
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(sender.send(due))


def _outcome(load: Load, fates: Fates, models: Sequence[str | None], cpu: float) -> Outcome:
    due = np.asarray(fates.due)
    sent, ended = (np.asarray(times, np.float64) for times in (fates.sent, fates.ended))  # None becomes nan
    status, lag = np.asarray(fates.status, int), sent - due
    took, answered = ended - due, status == 200
    seconds = float(ended.max()) if len(ended) else 0.0
    of_model = np.asarray([str(model) for model in models])
    return Outcome(
        url=load.url,
        rate=load.rate,
        due=len(due),
        answered=int(answered.sum()),
        inputs_refused=fates.inputs_refused,
        seconds=seconds,
        throughput=float(answered.sum() / seconds) if seconds else 0.0,
        by_status={str(one): int((status == one).sum()) for one in np.unique(status[status > 0])},
        errors=dict(Counter(error for error in fates.error if error is not None)),
        latency=_latency(took[answered]),
        refusals=_latency(took[np.isin(status, (429, 503))]),
        by_model={name: _latency(took[answered & (of_model == name)]) for name in _several(load.models)},
        lag=_latency(lag[~np.isnan(lag)]),
        late=int((~(lag <= LATE)).sum()),
        client_cpu=1000 * cpu / max(len(due), 1),
        connections=fates.connections,
    )


def _several(models: Iterable[str]) -> list[str]:
    names = sorted({*models})
    return names if len(names) > 1 else []


def _latency(seconds: np.ndarray) -> Latency:
    number = len(seconds)
    percentiles = {
        f"p{percent:g}": float(np.percentile(seconds, percent, method="higher"))
        if number * (1 - percent / 100) >= 1 - 1e-9
        else None
        for percent in PERCENTILES
    }
    if not number:
        return Latency(0, None, percentiles, None)
    return Latency(number, float(seconds.mean()), percentiles, float(seconds.max()))

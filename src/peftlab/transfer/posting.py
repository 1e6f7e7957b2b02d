"""Posts a message to an address over HTTP: again after failures that may pass, and never to where it is redirected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

SCHEMES = ("http://", "https://")
_FIRST_PAUSE = 1.0


class NotDeliveredError(Exception):
    """A message was not taken; says by which host and why, without the address, whose path may be a secret."""

    def __init__(self, host: str | None, reason: str) -> None:
        super().__init__(f"{host} ({reason})")
        self.host, self.reason = host, reason


def post(
    address: str,
    content: bytes,
    headers: Mapping[str, str],
    timeout: float,
    retries: int,
    pause: Callable[[float], bool],
) -> None:
    """Send `content` until it is taken.

    A refusal (status 4xx) is final, but for 408 and 429. Pauses begin with a second, and double.

    Args:
        address: one of http or https.
        content: the body.
        headers: besides the usual ones.
        timeout: seconds to connect, and between bytes of the answer.
        retries: further attempts.
        pause: waits so many seconds, and returns whether there is to be another attempt.

    Raises:
        NotDeliveredError: it was refused, or no attempt got an answer.
    """
    import requests

    wait, reason = _FIRST_PAUSE, ""
    for attempt in range(1 + retries):
        if attempt and not pause(wait):
            break
        wait *= 2 if attempt else 1
        try:
            with requests.post(
                address, data=content, headers=dict(headers), timeout=timeout, allow_redirects=False, stream=True
            ) as answer:  # of which nothing is read but the status: the rest may be of any length, and never end
                status = answer.status_code
            if status < 300:
                return
            reason = f"status {status}"
            if status < 500 and status not in (408, 429):
                break
        except (requests.RequestException, ValueError) as error:  # its words may hold the address
            reason = type(error).__name__
            if isinstance(error, ValueError):  # the address can be none, and urllib3 says some of that in its own way
                break
    raise NotDeliveredError(_host(address), reason)


def _host(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:  # a bracket is missing, say
        return None

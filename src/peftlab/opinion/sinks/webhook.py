"""Alerts to an address that takes JSON, signed with a key that both sides have."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.errors import ConfigError
from peftlab.opinion.sinks import Alert
from peftlab.storage.secrets import read_secret
from peftlab.transfer.posting import SCHEMES, post

SIGNATURE = "X-Peftlab-Signature"
"""The header with ``sha256=`` and the HMAC (RFC 2104) of the body, in hexadecimal digits."""


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class Sink:
    """An address that gets each alert by POST; `Idempotency-Key` is the alert's id."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s/]+")] | None = None
    url_from: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")] | None = None
    """The environment variable with the address, which may be a secret."""
    key: str | None = None
    """The file with the key of the signature; null: there is none."""
    timeout: Annotated[float, Field(gt=0, le=60)] = 5.0
    retries: Annotated[int, Field(ge=0, le=10)] = 3

    def __post_init__(self) -> None:
        if (self.url is None) == (self.url_from is None):
            raise ValueError("expected `url`, an address, or `url_from`, an environment variable that has it")

    @property
    def name(self) -> str:
        """Where the address is from; the address itself may be a secret."""
        where = self.url_from or hashlib.sha256((self.url or "").encode()).hexdigest()[:12]
        return f"webhook {where}"

    def check(self) -> None:
        """Refuse an address or a key that is not there."""
        self._address()
        self._secret()

    def send(self, alert: Alert, folder: Path) -> None:
        """Post an alert."""
        content = json.dumps(alert, ensure_ascii=False).encode()
        headers = {"content-type": "application/json", "Idempotency-Key": alert["id"]}
        if (secret := self._secret()) is not None:
            headers[SIGNATURE] = f"sha256={hmac.new(secret, content, hashlib.sha256).hexdigest()}"
        post(self._address(), content, headers, self.timeout, self.retries, _pause)

    def _address(self) -> str:
        address = self.url or os.environ.get(self.url_from or "", "")
        if not address.startswith(SCHEMES):
            raise ConfigError(
                f"sinks: webhook: the environment variable {self.url_from} holds no http or https address"
            )
        return address

    def _secret(self) -> bytes | None:
        """Return the key without the white space around it, which editors add."""
        if self.key is None:
            return None
        advice = "`head -c 32 /dev/urandom | base64 > FILE` writes one; give the other side the same"
        return read_secret(Path(self.key), f"sinks: webhook: key: {self.key}", advice).strip()


def _pause(seconds: float) -> bool:
    time.sleep(seconds)
    return True

"""Messages on their way: to a file or a webhook, from a thread of their own."""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from peftlab.errors import ConfigError
from peftlab.serving.observing.alerting import Message
from peftlab.serving.observing.rules import LinesFile, Webhook
from peftlab.transfer.posting import SCHEMES, NotDeliveredError, post

log = logging.getLogger("peftlab")

MOST_WAITING = 1_000
"""Messages; a recipient that does not keep up loses the next ones, which is logged."""

JSON = {"content-type": "application/json"}


class Notices:
    """Sends messages to each recipient in turn; `send` returns at once.

    Raises:
        ConfigError: an environment variable that should have an address has none.
    """

    def __init__(self, to: Sequence[Webhook | LinesFile]) -> None:
        self._deliver = [_lines(one) if isinstance(one, LinesFile) else _posts(one, self._pause) for one in to]
        self._waiting: list[queue.Queue[Message | None]] = [queue.Queue(MOST_WAITING) for _ in to]
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=one, daemon=True, name="peftlab-notices")
            for one in zip(self._waiting, self._deliver, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def send(self, message: Message) -> None:
        """Have `message` sent to all recipients."""
        for waiting in self._waiting:
            try:
                waiting.put_nowait(message)
            except queue.Full:
                log.warning("an alert is lost, as too many wait to be sent: %s", message["text"])

    def close(self, seconds: float = 10.0) -> None:
        """Send what waits, for at most `seconds` a recipient; what has failed before is not tried again."""
        self._ending.set()
        for waiting, thread in zip(self._waiting, self._threads, strict=True):
            try:
                waiting.put(None, timeout=seconds)
            except queue.Full:
                continue
            thread.join(seconds)

    def _pause(self, seconds: float) -> bool:
        """Wait, unless the end has come; return whether it has not."""
        return not self._ending.wait(seconds)

    def _work(self, waiting: queue.Queue[Message | None], deliver: Callable[[Message], None]) -> None:
        while (message := waiting.get()) is not None:
            try:
                deliver(message)
            except Exception as error:  # noqa: BLE001  # whatever it is, the next message is tried
                log.warning("an alert could not be sent: %s: %s", type(error).__name__, message["text"])


def _lines(to: LinesFile) -> Callable[[Message], None]:
    def write(message: Message) -> None:
        with Path(to.file).open("a", encoding="utf-8") as file:
            file.write(json.dumps(message, ensure_ascii=False) + "\n")

    try:
        with Path(to.file).open("a", encoding="utf-8"):  # it must be possible at the start, not at the first alert
            pass
    except OSError as error:
        raise ConfigError(f"to: file: {to.file}: cannot be written: {error.strerror}") from error
    return write


def _posts(to: Webhook, pause: Callable[[float], bool]) -> Callable[[Message], None]:
    address = to.webhook or os.environ.get(to.webhook_from or "", "")
    if not address.startswith(SCHEMES):
        raise ConfigError(
            f"to: webhook_from: the environment variable {to.webhook_from} holds no http or https address"
        )

    def deliver(message: Message) -> None:
        try:
            post(address, json.dumps(message).encode(), JSON, to.timeout, to.retries, pause)
        except NotDeliveredError as error:
            log.warning("an alert could not be sent to %s (%s): %s", error.host, error.reason, message["text"])

    return deliver

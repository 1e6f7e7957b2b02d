"""The log of a server: a line of JSON for each request, without its texts unless they are asked for."""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.masking.streams import MaskedLines
from peftlab.serving.events import Answered, Observer
from peftlab.serving.observing.tracing import trace_id
from peftlab.terminal.console import VERBATIM

log = logging.getLogger("peftlab")

MOST_WAITING = 10_000
"""Lines that wait to be written; further ones are lost, and their number is in the next line that is not."""

MOST_CHARACTERS = 2_000
"""Of a text in the log."""


class RequestLog(Observer):
    """Writes a line of JSON for each request, from a thread of its own.

    Secrets that look like ones are masked, as in all that the project writes. Texts come in, if they do, a line for
    the inputs of a request, with its id.

    Args:
        file: where the lines go; None: where the server's other messages go.
        mask: takes what says who somebody is out of a text; None: there are no texts in the log.

    Raises:
        ConfigError: the file cannot be written.
    """

    def __init__(self, file: Path | None = None, mask: Callable[[Any], Any] | None = None) -> None:
        self._mask = mask
        self._masked = MaskedLines()
        self._file = None if file is None else _opened(file)
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(MOST_WAITING)
        self._lost = 0
        self._thread = threading.Thread(target=self._work, daemon=True, name="peftlab-log")
        self._thread.start()

    @override
    def answered(self, request: Answered) -> None:
        line = {
            "event": "request",
            "request_id": request.request_id,
            "caller": request.caller,
            "route": request.route,
            "status": request.status,
            "seconds": round(request.seconds, 6),
            "model": request.model,
            "inputs": request.inputs,
            "refused": request.refused,
            "input_tokens": request.tokens,
            "error": request.error,
            "trace": trace_id(request.traceparent),
        }
        self._put({key: value for key, value in line.items() if value is not None})

    @override
    def predicted(
        self,
        model: str,
        inputs: Sequence[Any],
        answers: Sequence[dict[str, Any]],
        *,
        request_id: str | None = None,
        tokens: Sequence[int] = (),
        unknown: Sequence[int] = (),
    ) -> None:
        if self._mask is not None:
            self._put({"event": "inputs", "request_id": request_id, "model": model, "inputs": list(inputs)})

    @override
    def close(self) -> None:
        with suppress(queue.Full):
            self._waiting.put(None, timeout=5)
            self._thread.join(10)
        if self._file is not None:
            os.close(self._file)

    def _put(self, line: dict[str, Any]) -> None:
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **line}
        if self._lost:
            line["lines_lost_before"] = self._lost
        try:
            self._waiting.put_nowait(line)
            self._lost = 0
        except queue.Full:
            self._lost += 1

    def _work(self) -> None:
        while (line := self._waiting.get()) is not None:
            try:
                self._write(line)
            except Exception as error:  # noqa: BLE001  # the next line may fare better
                log.warning("a line of the log of requests is lost: %s", type(error).__name__)

    def _write(self, line: dict[str, Any]) -> None:
        if "inputs" in line and line["event"] == "inputs":
            assert self._mask is not None
            line = {**line, "inputs": [_shortened(self._mask(one)) for one in line["inputs"]]}
        text = json.dumps(_each_masked(line, self._masked), ensure_ascii=True)  # no character changes how it is shown
        if self._file is None:
            log.info("%s", text, extra=VERBATIM)
        else:
            os.write(self._file, f"{text}\n".encode())


def _each_masked(value: Any, masked: MaskedLines) -> Any:
    """Return `value` with the secrets in its texts masked: a whole line, masked, might be no JSON."""
    if isinstance(value, str):
        return masked.masked(value)
    if isinstance(value, dict):
        return {key: _each_masked(one, masked) for key, one in value.items()}
    if isinstance(value, list):
        return [_each_masked(one, masked) for one in value]
    return value


def _shortened(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MOST_CHARACTERS:
        return f"{value[:MOST_CHARACTERS]} [... {len(value) - MOST_CHARACTERS} more]"
    if isinstance(value, dict):
        return {str(key): _shortened(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_shortened(one) for one in value]
    return value


def _opened(file: Path) -> int:
    """Return a descriptor to append to `file`, which nobody else may read if it is new.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigError(f"--request-log {file}: cannot be written: {error.strerror}") from error

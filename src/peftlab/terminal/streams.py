"""Standard streams that fail, or lack characters: printing to them never ends a run."""

from __future__ import annotations

import codecs
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

_ESCAPED = "peftlab.escaped"
"""The name of the error handler that writes a character the encoding lacks as a JSON escape, ``\\u00c4``."""


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error(_ESCAPED, _escape)


def hold_descriptors() -> None:
    """Occupy any closed descriptor of 0 to 2, so that no file gets one of them."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def silence(stream: Any) -> None:
    """Discard the buffer of `stream` and all further output: it would fail again when the process ends."""
    with suppress(OSError, ValueError, AttributeError):
        descriptor = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


class Watched:
    """A stream that escapes characters its encoding lacks, and keeps the error with which the wrapped stream failed.

    Args:
        stream: the wrapped stream.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self.failure: Exception | None = None

    def write(self, text: str) -> int:
        """Write `text`."""
        try:
            try:
                return self.stream.write(text)
            except UnicodeEncodeError as error:
                return self.stream.write(text.encode(error.encoding, _ESCAPED).decode(error.encoding))
        except Exception as error:  # noqa: BLE001  # whatever the stream of a notebook, say, may raise
            self.fail(error)
            return len(text)

    def flush(self) -> None:
        """Flush the wrapped stream."""
        try:
            self.stream.flush()
        except Exception as error:  # noqa: BLE001  # as above
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Handle `error`, which the stream has raised."""
        self.failure = error
        raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Lasting(Watched):
    """A stream that never fails: text that the wrapped stream refuses is dropped.

    Args:
        stream: the wrapped stream.
        lost: called with the stream and every failure.
    """

    def __init__(self, stream: IO[str], lost: Callable[[IO[str], Exception], None]) -> None:
        super().__init__(stream)
        self.lost = lost

    def fail(self, error: Exception) -> None:
        """Drop the text, and call `lost`."""
        if isinstance(error, OSError):
            silence(self.stream)
        self.lost(self.stream, error)


@contextmanager
def lasting_output(lost: Callable[[IO[str], Exception], None]) -> Iterator[None]:
    """In the block, printing to stdout and stderr never fails; see `Lasting`."""
    before = sys.stdout, sys.stderr
    try:
        for name in ("stdout", "stderr"):
            if (stream := getattr(sys, name)) is not None:
                setattr(sys, name, Lasting(stream, lost))
        yield
    finally:
        sys.stdout, sys.stderr = before

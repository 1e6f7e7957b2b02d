"""Mask the output of a process, line by line.

Python's output (a traceback, a warning, Hydra's errors, the user's own ``print``) goes through `sys.stdout` and
`sys.stderr`, which `mask_streams` wraps. Output that bypasses them (a C library, a child process) is masked where it
goes to a file of ours, by a separate process: see `write_masked`.
"""

from __future__ import annotations

import fcntl
import io
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TextIO

from peftlab.masking.keys import MASK
from peftlab.masking.mask import NOT_SHOWN, mask_spans, remember

_KEY_BEGINS = re.compile(r"BEGIN[A-Z0-9 ]{1,60}PRIVATE KEY")
_KEY_ENDS = re.compile(r"END[A-Z0-9 ]{1,60}PRIVATE KEY")
_GOES_ON = re.compile(r"(?:[=:>|\\]|\b(?:machine|login|account)\s{1,9}\S{1,200}|--[\w.-]{1,200})\s*$")
"""The end of a line whose secret may follow on the next line."""
_HEADER = "-----BEGIN PRIVATE KEY-----\n"
_MOST_BEFORE = 4000
"""Characters of the preceding lines that are searched together with a line."""


class MaskedLines:
    """Masks successive lines; a secret may begin in one and end in a later one."""

    def __init__(self) -> None:
        self._before = ""

    def next(self, line: str) -> str:
        """Return a whole line without secrets."""
        masked = self.masked(line)
        self.ended(line)
        return masked

    def masked(self, line: str, shown: int = 0) -> str:
        """Return `line` without secrets, from its character `shown` on.

        Never raises: a line that cannot be masked is not shown.
        """
        try:
            start = len(self._before) + shown
            whole = self._before + line
            pieces, position = [], start
            for begin, end in mask_spans(whole):
                if end > position:
                    pieces += [whole[position : max(begin, position)], MASK]
                    position = end
            return "".join([*pieces, whole[position:]])
        except Exception:  # noqa: BLE001  # whatever it is, the line is worth less than the secret in it
            return NOT_SHOWN

    def ended(self, line: str) -> None:
        """Register a line that has ended."""
        in_key = self._before == _HEADER or _KEY_BEGINS.search(line)
        if in_key and not _KEY_ENDS.search(line):
            self._before = _HEADER
        elif _GOES_ON.search(line[-_MOST_BEFORE:]):
            self._before = f"{self._before}{line}\n"[-_MOST_BEFORE:]
        else:
            self._before = ""


class MaskedStream(io.TextIOBase):
    """A text stream that passes on each line without its secrets; a flush passes on the line so far.

    All else (a terminal's size, the encoding, the descriptor) comes from the stream below.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._lines = MaskedLines()
        self._line = ""
        self._shown = 0
        """The number of characters of the line already passed on."""
        self._verbatim = threading.local()
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        """Write a text; each line is passed on when it ends."""
        with self._lock:
            if getattr(self._verbatim, "on", False):
                self._pass_on()
                self.stream.write(text)
                return len(text)
            *ended, last = re.split(r"(?<=[\n\r])", text)
            for line in ended:
                self._line += line[:-1]
                self._pass_on()
                self.stream.write(line[-1])
                self._lines.ended(self._line)
                self._line, self._shown = "", 0
            self._line += last
            return len(text)

    def flush(self) -> None:
        """Pass on the text written so far."""
        with self._lock:
            self._pass_on()
            self.stream.flush()

    @contextmanager
    def verbatim(self) -> Iterator[None]:
        """In the block, pass on this thread's output unmasked."""
        self._verbatim.on = True
        try:
            yield
        finally:
            self._verbatim.on = False

    def _pass_on(self) -> None:
        if self._shown < len(self._line):
            self.stream.write(self._lines.masked(self._line, self._shown))
            self._shown = len(self._line)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.stream.fileno()

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return self.stream.isatty()

    def writable(self) -> bool:
        """Return True."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]  # read only, as that of every text stream
        """The encoding of the stream below."""
        return self.stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]  # read only
        """How the stream below treats characters that its encoding lacks."""
        return self.stream.errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def mask_streams(stdout: bool = True) -> None:
    """From now on, mask the output of this process, the secrets in its arguments included; for entry points.

    Args:
        stdout: whether stdout is for people; else it is data, which stays as it is.
    """
    remember(sys.argv[1:])
    for name in ("stdout", "stderr") if stdout else ("stderr",):
        setattr(sys, name, masked(getattr(sys, name)))


def masked(stream: Any) -> Any:
    """Return `stream`, a text stream or None, wrapped so that it masks."""
    return stream if stream is None or isinstance(stream, MaskedStream) else MaskedStream(stream)


@contextmanager
def verbatim(stream: Any) -> Iterator[None]:
    """In the block, have `stream` pass on this thread's output unmasked; it may be one that never masks."""
    with stream.verbatim() if hasattr(stream, "verbatim") else nullcontext():
        yield


def write_masked(file: Path) -> None:
    """Append all output of this process and its children to `file`, without secrets.

    Descriptors 1 and 2 become a pipe to a process that masks. It lives until the last writer has ended, however that
    ends, and knows the secrets that this process knows now.
    """
    sink = masked_pipe(file)
    for descriptor in (1, 2):
        os.dup2(sink, descriptor)
    os.close(sink)


def masked_pipe(file: Path) -> int:
    """Return a descriptor whose output is appended to `file`, without secrets; see `write_masked`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    target = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    fcntl.flock(target, fcntl.LOCK_SH)  # see `wait_until_written`
    source, sink = os.pipe()
    if os.fork() == 0:
        _copy_masked(source, target)
    for descriptor in (source, target):
        os.close(descriptor)
    return sink


def wait_until_written(file: Path, seconds: float) -> None:
    """Wait until `file` holds all output sent to it by `write_masked`, at most `seconds`."""
    end = time.monotonic() + seconds
    with file.open("rb") as stream:
        while time.monotonic() < end:
            with suppress(BlockingIOError):
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(0.01)


def _copy_masked(source: int, target: int) -> None:
    """Be the process that masks: copy lines until there are no more, and exit."""
    status = 1
    try:
        os.setsid()  # it must outlive the process group that it serves
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        os.dup2(source, 0)
        os.dup2(target, 1)
        os.dup2(target, 2)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        lines = MaskedLines()
        with open(0, encoding="utf-8", errors="surrogateescape", newline="") as read:
            for line in read:
                text = line.rstrip("\r\n")
                data = (lines.next(text) + line[len(text) :]).encode("utf-8", "surrogateescape")
                with suppress(OSError):  # a full disk must not reach the writers as a broken pipe
                    while data:
                        data = data[os.write(1, data) :]
        status = 0
    finally:
        os._exit(status)

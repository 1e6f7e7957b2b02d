"""Streams that take no line: what is said there never ends what it tells of."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.progress import Progress

from peftlab.terminal.console import LastingConsole, console, log_file, start_logging
from peftlab.terminal.exits import CLOSED_PIPE, stdout_exits
from peftlab.terminal.streams import Lasting, Watched, hold_descriptors, lasting_output


class Failing(io.StringIO):
    """A stream of a notebook, say, that raises whatever it likes."""

    def __init__(self, error: BaseException, on: str = "write") -> None:
        super().__init__()
        self.error, self.on = error, on

    def write(self, text: str) -> int:
        if self.on == "write":
            raise self.error
        return super().write(text)

    def flush(self) -> None:
        if self.on == "flush":
            raise self.error


def broken_pipe() -> io.TextIOWrapper:
    reader, writer = os.pipe()
    os.close(reader)
    return io.TextIOWrapper(io.BufferedWriter(io.FileIO(writer, "w")), encoding="utf-8")


def full_disk() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(io.FileIO("/dev/full", "w")), encoding="utf-8")


def unbuffered_pipe() -> io.TextIOWrapper:
    reader, writer = os.pipe()
    os.close(reader)
    return io.TextIOWrapper(io.FileIO(writer, "w"), encoding="utf-8", write_through=True)


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


STREAMS: list[Callable[[], Any]] = [
    broken_pipe,
    unbuffered_pipe,
    full_disk,
    closed,
    lambda: Failing(RuntimeError("the kernel is gone")),
    lambda: Failing(OSError(errno.EIO, "the terminal is gone")),
    lambda: Failing(KeyError("flush"), on="flush"),
    lambda: None,
]


@pytest.fixture(params=STREAMS)
def dead(request, monkeypatch) -> Iterator[Callable[[], Any]]:
    """Set a stdout that takes nothing, and return it: within the test, for pytest sets its own at its beginning."""
    streams = []

    def set_() -> Any:
        streams.append(request.param())
        monkeypatch.setattr(sys, "stdout", streams[0])
        return streams[0]

    yield set_
    for stream in filter(None, streams):
        stream.close()  # as at the end of the process: what it still holds has gone nowhere


def test_the_lines_of_a_run_are_all_in_its_log_and_the_loss_is_told_once(dead, tmp_path):
    stream = dead()
    start_logging()
    console.lost = None
    with log_file(tmp_path / "log.txt"):
        for number in range(3):
            logging.getLogger("peftlab").info("line %d", number)
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split("INFO ")[-1] for line in lines if "INFO" in line] == ["line 0", "line 1", "line 2"]
    told = [line for line in lines if "the terminal takes no more lines, and the run goes on: " in line]
    assert len(told) == (0 if stream is None else 1)


def test_nothing_is_kept_for_a_later_run(dead, monkeypatch):
    dead()
    start_logging()
    logging.getLogger("peftlab").info("lost")
    later = io.StringIO()
    monkeypatch.setattr(sys, "stdout", later)
    logging.getLogger("peftlab").info("heard")
    assert later.getvalue() == "heard\n"


def test_a_display_that_is_drawn_anew_goes_on(dead):
    dead()
    with Progress(console=LastingConsole(force_terminal=True, width=80)) as bar:
        task = bar.add_task("training", total=3)
        for _ in range(3):
            bar.advance(task)
            bar.refresh()
    assert bar.finished


def test_what_is_printed_within_a_run_ends_nothing(dead):
    stream = dead()
    losses: list[Exception] = []
    with lasting_output(lambda stream, error: losses.append(error)):
        print("a callback of the user's", flush=True)
        sys.stderr.flush()
    assert sys.stdout is stream
    assert bool(losses) == (stream is not None)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_what_an_encoding_lacks_is_written_as_json_has_it(encoding):
    bytes_ = io.BytesIO()
    stream = Watched(io.TextIOWrapper(bytes_, encoding=encoding, write_through=True))
    print('{"label": "東 \U0001f600 \udcff ok"}', file=stream)
    assert bytes_.getvalue() == b'{"label": "\\u6771 \\ud83d\\ude00 \\udcff ok"}\n'


def test_lone_surrogates_are_written_to_any_stream(monkeypatch):
    bytes_ = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_, encoding="utf-8", write_through=True))
    monkeypatch.setattr(logging.getLogger("peftlab"), "handlers", [])  # pytest's takes no such text
    start_logging()
    logging.getLogger("peftlab").info("name=\udcff Ä")
    assert bytes_.getvalue() == b"name=\\udcff \xc3\x84\n"


# --- commands whose result goes there --------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "code"), [(broken_pipe, CLOSED_PIPE), (unbuffered_pipe, CLOSED_PIPE), (full_disk, 1)])
@pytest.mark.parametrize("ends", [lambda: None, lambda: sys.exit(3)])
def test_a_result_that_nobody_takes(make, code, ends, monkeypatch, capsys):
    stream = make()
    monkeypatch.setattr(sys, "stdout", stream)

    def command() -> None:
        with stdout_exits():
            print("result")
            ends()

    with pytest.raises(SystemExit) as end:
        command()
    assert end.value.code == code
    assert sys.stdout is stream
    stream.close()
    told = "error: stdout takes no more of the result: No space left on device. Send it elsewhere\n"
    assert capsys.readouterr().err == (told if code == 1 else "")


@pytest.mark.parametrize("error", [BrokenPipeError(32, "a server's"), OSError(28, "of a file"), ValueError("x")])
def test_what_is_about_something_else_is_left_as_it_is(error):
    with pytest.raises(type(error)) as raised, stdout_exits():
        raise error
    assert raised.value is error


def test_a_stream_is_what_it_stands_for_in_all_else():
    stream = Lasting(io.TextIOWrapper(io.BytesIO(), encoding="ascii"), lambda stream, error: None)
    assert (stream.encoding, stream.isatty()) == ("ascii", False)


def test_descriptors_of_closed_streams_go_to_no_file(tmp_path: Path):
    if (child := os.fork()) == 0:
        os.close(1)
        hold_descriptors()
        descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
        os.write(1, b"lost")
        os._exit(0 if descriptor > 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert (tmp_path / "file").read_bytes() == b""

"""What a process prints leaves it without its secrets."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import threading

import pytest

from peftlab.masking import mask as masking
from peftlab.masking import streams
from peftlab.masking.mask import NOT_SHOWN
from peftlab.masking.streams import MaskedLines, MaskedStream, mask_streams, verbatim, wait_until_written, write_masked

SECRET = "Xq7vLm2pXq7vLm2p"


@pytest.fixture(autouse=True)
def _forgets(monkeypatch):
    monkeypatch.setattr(masking, "_remembered", set())


@pytest.fixture
def printed():
    """A stream that masks, and what has come through it."""
    below = io.StringIO()
    return MaskedStream(below), below.getvalue


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        ([f"hf_{SECRET}", "next"], ["****", "next"]),
        (["password:", f"  {SECRET}", "next"], ["password:", "  ****", "next"]),
        (["token =", f"'{SECRET}'", "next"], ["token =", "'****'", "next"]),
        (["train --password \\", f"  {SECRET} \\", "  --x y"], ["train --password \\", "  **** \\", "  --x y"]),
        (["machine a.example", "login me", f"password {SECRET}"], ["machine a.example", "login me", "password ****"]),
        (
            ["-----BEGIN RSA PRIVATE KEY-----", SECRET, "", SECRET, "-----END RSA PRIVATE KEY-----", "next"],
            ["****", "****", "", "****", "****", "next"],
        ),
        (["what follows:", "plain words"], ["what follows:", "plain words"]),
        (["pad token:", "[PAD]", "", "seed=1"], ["pad token:", "[PAD]", "", "seed=1"]),
    ],
    ids=lambda value: value[0],
)
def test_a_secret_may_begin_in_one_line_and_end_in_another(lines, shown, printed):
    masked = MaskedLines()
    assert [masked.next(line) for line in lines] == shown
    stream, through = printed
    stream.write("\n".join(lines) + "\n")
    assert through() == "\n".join(shown) + "\n"


def test_text_comes_through_in_its_order_and_whole(printed):
    stream, through = printed
    for part in ("one ", "two\nth", "ree\n\n", "\r 10%", "\r 20%", "\r\nfour ", ""):
        assert stream.write(part) == len(part)
    assert through() == "one two\nthree\n\n\r 10%\r 20%\r\n"
    stream.flush()
    assert through() == "one two\nthree\n\n\r 10%\r 20%\r\nfour "
    stream.write(f"hf_{SECRET[:9]}")
    stream.flush()
    stream.write("andItsEnd1 five\n")
    assert through().endswith(f"hf_{SECRET[:9]}**** five\n")


def test_what_cannot_be_masked_is_not_shown_and_the_rest_is(printed, monkeypatch):
    stream, through = printed
    with monkeypatch.context() as patch:
        patch.setattr(streams, "mask_spans", lambda text: 1 / 0)
        stream.write(f"password={SECRET}\n")
    stream.write("after\n")
    assert through() == f"{NOT_SHOWN}\nafter\n"


def test_it_is_the_stream_below_but_for_what_is_written():
    with open(os.devnull, "w", encoding="latin-1", errors="replace") as below:
        stream = MaskedStream(below)
        assert (stream.fileno(), stream.isatty(), stream.encoding) == (below.fileno(), False, "latin-1")
        assert (stream.errors, stream.name, stream.writable(), stream.closed) == ("replace", os.devnull, True, False)


def test_what_is_data_may_pass_as_it_is(printed):
    stream, through = printed
    with verbatim(stream):
        stream.write("password: reset\n")
        other = threading.Thread(target=stream.write, args=("password: opensesame\n",))
        other.start()
        other.join()
    stream.write("password: opensesame\n")
    assert through() == "password: reset\npassword: ****\npassword: ****\n"


def test_everything_that_python_prints_passes_it(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train", "x.password=opensesame"])
    mask_streams()
    mask_streams()
    assert not isinstance(sys.stdout.stream, MaskedStream)
    print("opensesame")
    sys.excepthook(ValueError, ValueError("it is opensesame"), None)
    logging.lastResort.handle(logging.makeLogRecord({"msg": "warned of opensesame"}))
    thread = threading.Thread(target=lambda: int("opensesame"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", threading.__excepthook__)
        thread.start()
        thread.join()
    out, err = capsys.readouterr()
    assert (out, "opensesame" in err) == ("****\n", False)
    assert "ValueError: it is ****" in err
    assert "warned of ****" in err
    assert "invalid literal for int() with base 10: '****'" in err


def test_all_that_a_process_prints_to_a_file_is_masked(tmp_path, monkeypatch):
    """Also what it writes past Python, what its children print, and its last words."""
    monkeypatch.setenv("APP_PASSWORD", "opensesame")
    file = tmp_path / "output" / "id.txt"
    if (child := os.fork()) == 0:
        write_masked(file)
        os.write(1, b"first \xff opensesame\npassword:\n")
        os.write(2, b"Xq7vLm2p\n")
        os.system("echo from a child: opensesame")
        os.write(1, b"-----BEGIN PRIVATE KEY-----\nXq7vLm2p\n-----END PRIVATE KEY-----\n10%\r20% opensesame")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    wait_until_written(file, 30.0)
    assert file.read_bytes() == (
        b"first \xff ****\npassword:\n****\nfrom a child: ****\n****\n****\n****\n10%\r20% ****"
    )

"""How a command ends: exit codes, and one short message for an error. Imports nothing heavy.

====  =====================================================================
code  meaning
====  =====================================================================
0     done
1     a failure while running; the run's record names it
2     the user's mistake, found before anything was written
130   interrupted by Ctrl-C (SIGINT), with a record and a checkpoint, from
      which the same command resumes
143   the same by SIGTERM, or by SIGUSR1, which announces it (SLURM sends it
      ahead of the time limit with ``--signal=USR1@60``)
====  =====================================================================
"""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from peftlab.errors import RunError, UserError
from peftlab.masking.mask import mask
from peftlab.terminal.signals import Interrupted
from peftlab.terminal.streams import Watched, silence

CLOSED_PIPE = 128 + signal.SIGPIPE
"""The exit code of a command whose reader has closed the pipe, as a shell reports it."""

_NO_NAME = (errno.ENAMETOOLONG, errno.ELOOP)
"""The errors with which the system refuses a file name."""

_NO_PLACE = {
    errno.EISDIR: "is a folder, where a file is wanted",
    errno.ENOTDIR: "is a file, or lies in one, where a folder is wanted",
    errno.EEXIST: "is there already, and is nothing to write into",
    errno.EACCES: "may not be used: there is no permission",
    errno.EPERM: "may not be used: there is no permission",
    errno.EROFS: "may not be written: the file system can only be read",
}
"""The errors with which the system refuses a place, in words."""


@contextmanager
def user_exits() -> Iterator[None]:
    """Around our own work: the user's mistakes become one message and exit code 2, places that the system refuses one
    message and 1, interruptions 130 and 143.
    """
    try:
        yield
    except UserError as error:
        fail(f"{error}{_file_with(str(error))}")
    except OSError as error:
        if error.errno in _NO_NAME:
            fail(f"'{str(error.filename)[:80]}' can be no file's name ({error.strerror}); name another")
        place = error.filename if error.filename2 is None else error.filename2  # of a rename, its target
        if error.errno not in _NO_PLACE or not isinstance(place, str):
            raise
        fail(f"'{place}' {_NO_PLACE[error.errno]}; name another place", code=1)
    except RunError as error:
        fail(str(error), code=1)
    except Interrupted as error:
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def stdout_exits() -> Iterator[None]:
    """Around a command whose result goes to stdout: a closed pipe ends it, as it ends Unix tools.

    A full disk is reported in one message, exit code 1.
    """
    stream = sys.stdout
    if stream is None:
        yield
        return
    watched = Watched(stream)
    sys.stdout = watched
    try:
        try:
            yield
        except SystemExit:
            sys.stdout.flush()  # it may be a stream that masks
            raise
        sys.stdout.flush()
    except OSError as error:
        if error is not watched.failure:  # it has another cause
            raise
        silence(stream)
        if isinstance(error, BrokenPipeError):
            sys.exit(CLOSED_PIPE)
        fail(f"stdout takes no more of the result: {error.strerror}. Send it elsewhere", code=1)
    finally:
        sys.stdout = stream


def _file_with(message: str) -> str:
    """Return where a key at the start of `message` is set, see `set_in`; empty where nothing has been composed."""
    if "hydra" not in sys.modules:  # importing it takes as long as all else that a quick command imports
        return ""
    from peftlab.composing.compose import set_in

    return set_in(message)


def fail(message: str, code: int = 2) -> NoReturn:
    """Print `message`, without secrets, to stderr, and exit with `code`."""
    with suppress(OSError):  # nobody reads it: the exit code remains
        print(f"error: {mask(message)}", file=sys.stderr, flush=True)
    sys.exit(code)

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

import argparse
import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from peftlab.composing.compose import explain_composition, is_no_option, search_path, set_in
from peftlab.errors import RunError, UserError
from peftlab.masking.mask import mask
from peftlab.terminal.signals import Interrupted
from peftlab.terminal.streams import Watched, silence

CLOSED_PIPE = 128 + signal.SIGPIPE
"""The exit code of a command whose reader has closed the pipe, as a shell reports it."""

_NO_NAME = (errno.ENAMETOOLONG, errno.ELOOP)
"""The errors with which the system refuses a file name."""


@contextmanager
def composition_exits() -> Iterator[None]:
    """Around Hydra's own work: report its errors about the command line in one message, and exit with 2.

    With HYDRA_FULL_ERROR set, the exception is left as it is.
    """
    if "HYDRA_FULL_ERROR" in os.environ:
        yield
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print its own errors and exit with 1: we want the exception
    try:
        yield
    except UserError as error:
        _fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        _fail(explain_composition(error, _arguments()))
    except ValueError as error:
        if not is_no_option(error):
            raise
        _fail(explain_composition(error, _arguments()))
    finally:
        del os.environ["HYDRA_FULL_ERROR"]


@contextmanager
def user_exits() -> Iterator[None]:
    """Around our own work: the user's mistakes become one message and exit code 2, interruptions 130 and 143."""
    try:
        yield
    except UserError as error:
        _fail(f"{error}{set_in(str(error))}")
    except OSError as error:
        if error.errno not in _NO_NAME:
            raise
        _fail(f"'{str(error.filename)[:80]}' can be no file's name ({error.strerror}); name another")
    except RunError as error:
        _fail(str(error), code=1)
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
        _fail(f"stdout takes no more of the result: {error.strerror}. Send it elsewhere", code=1)
    finally:
        sys.stdout = stream


def _arguments() -> list[str]:
    """Return the arguments of the command, with ``--config-dir`` as an override."""
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--config-dir", "-cd")
    parsed, arguments = options.parse_known_args(sys.argv[1:])
    return arguments if parsed.config_dir is None else [*arguments, search_path(parsed.config_dir)]


def _fail(message: str, code: int = 2) -> None:
    with suppress(OSError):  # nobody reads it: the exit code remains
        print(f"error: {mask(message)}", file=sys.stderr, flush=True)
    sys.exit(code)

"""A trial in a process of its own, without paying for the imports again."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from peftlab.terminal.exits import user_exits


def forked(work: Callable[[], object], said: Path) -> int:
    """Do `work` in a fork of this process, and return its exit code, negative for a signal; see `start`."""
    return os.waitstatus_to_exitcode(os.waitpid(start(work, said), 0)[1])


def start(work: Callable[[], object], said: Path) -> int:
    """Do `work` in a fork of this process, which must have done no tensor operation; return the fork's number.

    What it says is added to the file `said`, and an exception ends it as it ends a command.
    """
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        with user_exits():
            work()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:  # noqa: BLE001  # it must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)

"""A trial in a process of its own, without paying for the imports again."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path

from peftlab.exits import user_exits


def forked(work: Callable[[], object], said: Path) -> int:
    """Do `work` in a fork of this process, which must have done no tensor operation; return its exit code.

    What it says goes to the file `said`, and an exception ends it as it ends a command.
    """
    number = os.fork()
    if number:
        return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    code = 1
    try:
        with user_exits():
            work()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:  # noqa: BLE001  # it must not go on as its parent
        traceback.print_exc()
    finally:
        os._exit(code)

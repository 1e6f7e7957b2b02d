"""A further process of a run on several devices: ``python -m peftlab.rank RUN_FOLDER``, started by rank 0.

Like every rank, it executes the run that ``config.yaml`` in the folder describes; it writes nothing there. Further
arguments name packages that, as in rank 0, may be imported from the current folder.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from peftlab.errors import RunError
from peftlab.imports import find_here, without_collecting
from peftlab.terminal.exits import user_exits

with without_collecting():
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler, record

    from peftlab.one_run import run
    from peftlab.runs.folder import read_config


@record  # leaves the error where rank 0 looks for it; the message of `user_exits` does not get there
def main(folder: Path) -> None:
    """Take part in the run in `folder`."""
    threading.Thread(target=_end_with_rank_0, daemon=True).start()
    with user_exits():
        try:
            run(read_config(folder))
        except RunError as error:
            get_error_handler().record_exception(error)
            raise


def _end_with_rank_0() -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing is ever written there: the read returns when rank 0 is gone
    os._exit(1)


if __name__ == "__main__":
    find_here(sys.argv[2:])
    main(Path(sys.argv[1]))

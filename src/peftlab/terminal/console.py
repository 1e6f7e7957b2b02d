"""The output of a run: the same lines on the terminal and in its ``log.txt``."""

from __future__ import annotations

import logging
import os
import stat
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, cast

from rich.console import Console

from peftlab.errors import escaped
from peftlab.masking.streams import MaskedLines, verbatim
from peftlab.seams.bitsandbytes import hide_missing_kernel
from peftlab.storage.disk import refusal, writing
from peftlab.storage.entries import taken_by
from peftlab.terminal.streams import Lasting, hold_descriptors


class LastingConsole(Console):
    """A console that survives the failure of its stream, which is reported once, in ``log.txt`` at least."""

    lost: object = None
    """The last stream that failed."""

    @property
    def file(self) -> IO[str]:
        """The stream, wrapped so that it never fails."""
        return cast(IO[str], Lasting(super().file, self.lose))

    @file.setter
    def file(self, stream: IO[str]) -> None:
        Console.file.fset(self, stream)  # type: ignore[attr-defined]  # a property

    def lose(self, stream: object, error: Exception) -> None:
        """Report that `stream` has failed."""
        if stream is not self.lost:
            self.lost = stream  # first: the warning goes there as well
            log.warning("the terminal takes no more lines, and the run goes on: %s", error)


console = LastingConsole(soft_wrap=True, highlight=False)
log = logging.getLogger("peftlab")

QUIETENED = ("lightning.pytorch", "lightning.fabric", "lightning", "lightning.pytorch.loggers.mlflow")
"""Loggers of libraries that are too verbose."""


VERBATIM = {"verbatim": True}
"""The `extra` of a line that quotes data, such as labels: it is not masked."""


class _Masked(logging.Formatter):
    """Masks secrets."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lines = MaskedLines()

    def format(self, record: logging.LogRecord) -> str:
        text = escaped(super().format(record))
        return text if getattr(record, "verbatim", False) else self._lines.next(text)


class _ConsoleHandler(logging.Handler):
    """Prints through the console that draws the progress bar, so that lines do not break it."""

    def emit(self, record: logging.LogRecord) -> None:
        style = "yellow" if record.levelno >= logging.WARNING else None
        with suppress(Exception), verbatim(console.file):  # in a notebook, rich does not print to a stream
            console.print(self.format(record), markup=False, style=style)


class _LogFile(logging.FileHandler):
    """A log file that may end early: its first failure is reported, and the run goes on."""

    reported = False

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding="utf-8", opener=_opened)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's own name
        error = sys.exception()
        if not self.reported:
            self.reported = True  # first: the warning goes to this file as well
            reason = (isinstance(error, OSError) and refusal(Path(self.baseFilename), error)) or repr(error)
            log.warning("the log ends here, and the run goes on: %s", reason)

    def close(self) -> None:
        with suppress(OSError):  # from lines that could not be written before
            super().close()


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def quieten() -> None:
    """Hide what Lightning says of itself; importing it sets the levels anew, so that this may be needed again."""
    for name in QUIETENED:
        logging.getLogger(name).setLevel(logging.WARNING)


def start_logging(stderr: bool = False, level: int = logging.INFO) -> None:
    """Send the lines of a run to the terminal, and quieten verbose libraries.

    Args:
        stderr: whether they go to stderr, which leaves stdout to results.
        level: the lowest level that is shown.
    """
    hold_descriptors()
    console.stderr = stderr
    if not any(isinstance(handler, _ConsoleHandler) for handler in log.handlers):
        handler = _ConsoleHandler()
        handler.setFormatter(_Masked())
        log.addHandler(handler)
    log.setLevel(level)
    log.propagate = False
    quieten()
    hide_missing_kernel()
    # Batches are planned ahead and cheap to build: having no loader workers is intended
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # The data module knows the position in an epoch, and starts the loader there
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
    # Lightning's own use of torch, and ours of transformers, which their next versions fix
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
    # Scores are reduced over ranks before they are logged
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    # Nothing changes the logits in place
    warnings.filterwarnings("ignore", message=".*returned a view tensor.*")
    # RandLoRA's matrices are rebuilt from its seed, to the same bits
    warnings.filterwarnings("ignore", message=".*instead they will be restored using the PRNG key.*")
    # EVA reads activations, and so needs a loaded model
    warnings.filterwarnings("ignore", message=".*eva initialization used with low_cpu_mem_usage=False.*")
    # The peft library's own sparse matrices, and LN tuning, which trains nothing but normalisations
    warnings.filterwarnings("ignore", message=".*Sparse invariant checks are implicitly disabled.*")
    warnings.filterwarnings("ignore", message=".*Unsupported layer type.*LayerNorm.*")
    # peftlab.no_effect says it
    warnings.filterwarnings("ignore", message=".*Paged optimizers are not supported on CPU.*")
    # The folder holds the record before the first metric is logged
    warnings.filterwarnings("ignore", message=".*Experiment logs directory.*")


def clock(seconds: float) -> str:
    """Return a duration in hours, minutes and seconds, as lines and tables show it."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Write the lines of a run to `path` as well; if `path` is no regular file, warn and go on without."""
    if odd := taken_by(path, stat.S_IFREG):
        log.warning("%s is %s: the log ends here, and the run goes on", path, odd)
        yield
        return
    with writing(path):
        handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(_Masked("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()

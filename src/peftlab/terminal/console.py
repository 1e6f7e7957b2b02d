"""What a run says: the same lines on the terminal and in its ``log.txt``."""

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
from peftlab.storage.disk import refusal, writing
from peftlab.storage.entries import taken_by
from peftlab.terminal.streams import Lasting, hold_descriptors


class LastingConsole(Console):
    """A console that goes on where its stream takes nothing more; that is told once, in ``log.txt`` at least."""

    lost: object = None
    """The stream that has failed last."""

    @property
    def file(self) -> IO[str]:
        """The stream, made such that it never fails."""
        return cast(IO[str], Lasting(super().file, self.lose))

    @file.setter
    def file(self, stream: IO[str]) -> None:
        Console.file.fset(self, stream)  # type: ignore[attr-defined]  # a property

    def lose(self, stream: object, error: Exception) -> None:
        """Tell that `stream` has failed."""
        if stream is not self.lost:
            self.lost = stream  # first: what is told goes there as well
            log.warning("the terminal takes no more lines, and the run goes on: %s", error)


console = LastingConsole(soft_wrap=True, highlight=False)
log = logging.getLogger("peftlab")

QUIETENED = ("lightning.pytorch", "lightning.fabric", "lightning", "lightning.pytorch.loggers.mlflow")
"""The loggers of libraries that talk about themselves."""


VERBATIM = {"verbatim": True}
"""The `extra` of a line that shows what stands in data, such as labels: no secret is looked for in it."""


class _Masked(logging.Formatter):
    """Writes no secrets."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lines = MaskedLines()

    def format(self, record: logging.LogRecord) -> str:
        text = escaped(super().format(record))
        return text if getattr(record, "verbatim", False) else self._lines.next(text)


class _ConsoleHandler(logging.Handler):
    """Prints through the console that also draws the progress bar, so that lines do not break it."""

    def emit(self, record: logging.LogRecord) -> None:
        style = "yellow" if record.levelno >= logging.WARNING else None
        with suppress(Exception), verbatim(console.file):  # in a notebook, rich does not print to a stream
            console.print(self.format(record), markup=False, style=style)


class _LogFile(logging.FileHandler):
    """A log file that may end early: when it cannot be written any more, that is told once and then borne."""

    told = False

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding="utf-8", opener=_opened)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's own name
        error = sys.exception()
        if not self.told:
            self.told = True  # first: what is told goes to this file as well
            reason = (isinstance(error, OSError) and refusal(Path(self.baseFilename), error)) or repr(error)
            log.warning("the log ends here, and the run goes on: %s", reason)

    def close(self) -> None:
        with suppress(OSError):  # what could not be written before
            super().close()


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def start_logging(stderr: bool = False, level: int = logging.INFO) -> None:
    """Send the lines of a run to the terminal, and quieten the libraries that talk about themselves.

    Args:
        stderr: where they go; stdout is then left to results.
        level: which of them.
    """
    hold_descriptors()
    console.stderr = stderr
    if not any(isinstance(handler, _ConsoleHandler) for handler in log.handlers):
        handler = _ConsoleHandler()
        handler.setFormatter(_Masked())
        log.addHandler(handler)
    log.setLevel(level)
    log.propagate = False
    for name in QUIETENED:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Batches are made ahead of time and cheap to cut: no loader workers is a choice, not an oversight
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # The module of the data knows how far an epoch has come, and has the loader begin there
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
    # Lightning's own use of torch and ours of transformers, which their next versions mend
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
    # Scores are added up over ranks before they are logged
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    # Nothing changes the logits in place
    warnings.filterwarnings("ignore", message=".*returned a view tensor.*")
    # RandLoRA's matrices are made again from its seed, to the same bits
    warnings.filterwarnings("ignore", message=".*instead they will be restored using the PRNG key.*")
    # EVA looks at activations, and so needs a model that is there
    warnings.filterwarnings("ignore", message=".*eva initialization used with low_cpu_mem_usage=False.*")
    # The peft library's own sparse matrices, and LN tuning, which is of nothing but normalisations
    warnings.filterwarnings("ignore", message=".*Sparse invariant checks are implicitly disabled.*")
    warnings.filterwarnings("ignore", message=".*Unsupported layer type.*LayerNorm.*")
    # The folder holds the record before the first metric is logged
    warnings.filterwarnings("ignore", message=".*Experiment logs directory.*")


def clock(seconds: float) -> str:
    """Return a time in hours, minutes and seconds, as lines and tables show it."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Write the lines of a run to `path` as well; where something else has taken its place, that is told and borne."""
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

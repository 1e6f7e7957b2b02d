"""The logging of absl, which rouge-score imports."""

from __future__ import annotations

import sys


class _Stderr:
    """Whatever is stderr at the moment, which absl may not close."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def close(self) -> None:
        """The stream is not absl's."""


def leave_streams_open() -> None:
    """Keep absl's handler from closing the stream that was stderr when absl was imported.

    It closes that one whenever logging is configured anew while another is stderr, even if it is the terminal's.
    """
    from absl import logging

    logging.get_absl_handler().python_handler.setStream(_Stderr())

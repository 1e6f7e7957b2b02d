"""The logging of bitsandbytes, which the peft library imports wherever it is installed."""

from __future__ import annotations

import logging

_LOGGER, _BEGINNING = "bitsandbytes.backends.cpu.ops", "Failed to load CPU gemm_4bit_forward from kernels-community"


def _is_of_use(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_BEGINNING)


def hide_missing_kernel() -> None:
    """Hide what bitsandbytes warns of when it is imported on some CPUs: a kernel that it does without, from the Hub.

    Everything else that it says is shown. The package itself is not imported.
    """
    logging.getLogger(_LOGGER).addFilter(_is_of_use)

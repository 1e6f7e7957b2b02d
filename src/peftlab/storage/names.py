"""Names of folders and of labels in other tools: their limits, and how a long name is shortened."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from peftlab.errors import ConfigError

_SHOWN = 60
_FOLDER_BYTES = 255
_PATH_BYTES = 4096
_BELOW_BYTES = 200
"""The longest path of a file relative to its run folder."""


def check_folder(key: str, path: Path) -> None:
    """Check that the folder `path`, the value of the configuration key `key`, can be created.

    Raises:
        ConfigError: names the part that is too long, or the character that no name may have.
    """
    text = str(path)
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    if odd := re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text):
        raise ConfigError(f"{key} = {text!r}: a folder's name cannot have the character {odd[0]!r}. Leave it out")
    for part in path.parts:
        if (size := len(part.encode())) > _FOLDER_BYTES:
            raise ConfigError(
                f"{key} = '{shown}': '{part[:20]}...' has {size} bytes, and the name of a folder at most "
                f"{_FOLDER_BYTES}. Shorten it"
            )
    size, most = len(os.path.abspath(text).encode()), _PATH_BYTES - _BELOW_BYTES
    if size > most:
        raise ConfigError(f"{key} = '{shown}': the whole path has {size} bytes, at most {most} work. Shorten it")


def shortened(text: str, most: int, size: Callable[[str], int] = len) -> str:
    """Return `text`, or, if its `size` exceeds `most`, its beginning and a digest that keeps it unique."""
    if size(text) <= most:
        return text
    end = f"-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"
    beginning = text[: most - len(end)]
    while size(beginning) > most - len(end):
        beginning = beginning[:-1]
    return beginning.rstrip() + end


def utf8_bytes(text: str) -> int:
    """Return the length of `text` in bytes, as a file system counts it."""
    return len(text.encode())

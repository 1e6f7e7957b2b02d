"""Files with a secret in them: random bytes that whoever has them can do what others cannot."""

from __future__ import annotations

from pathlib import Path

from peftlab.errors import ConfigError

FEWEST = 16
"""The fewest bytes of a secret, without white space around them."""


def read_secret(path: Path, what: str, advice: str) -> bytes:
    """Return all bytes of a file.

    Args:
        path: the file.
        what: what it holds, with its place, to begin messages with.
        advice: how such a file is made, a sentence to end them with.

    Raises:
        ConfigError: it cannot be read, or holds so little that it can be guessed.
    """
    try:
        secret = path.expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(f"{what}: cannot be read ({error.strerror}). {advice}") from None
    if (size := len(secret.strip())) < FEWEST:
        raise ConfigError(f"{what}: it has {size} bytes, and fewer than {FEWEST} can be guessed. {advice}")
    return secret

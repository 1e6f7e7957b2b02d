"""The key of surrogates: whoever has it can tell which surrogate a person has."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from peftlab.errors import ConfigError
from peftlab.storage.secrets import read_secret


def read_key(path: Path) -> bytes:
    """Return the key in a file, without the white space around it.

    Raises:
        ConfigError: the file cannot be read, or holds too little.
    """
    advice = f"`peftlab mask --new-key {path}` writes one, in a new place"
    return read_secret(path, f"the key of surrogates, {path}", advice).strip()


def new_key(path: Path) -> None:
    """Write a new key of 256 bits that only its owner may read.

    Raises:
        ConfigError: the file is there already, or cannot be written.
    """
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(f"{secrets.token_hex(32)}\n")
    except OSError as error:
        raise ConfigError(f"{path}: a key cannot be written there ({error.strerror}); name a new file") from None


def digest_of(key: bytes) -> str:
    """Return a digest that tells keys apart and reveals none."""
    return hmac.digest(key, b"which key it is", "sha256").hex()

"""Files that decide a run by their content: the configuration names where they lie, their digest is identity."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.errors import ConfigError, SourceError
from peftlab.storage.digests import file_sha256

KEYS = ("budget.listed", "data.labelled", "out_of_scope.far")
"""The keys of the configuration that name such a file."""


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class NamedFile:
    """A file, and what it held when the run began."""

    path: Path
    sha256: str

    def read(self, key: str) -> str:
        """Return the text of the file; `key` names it in messages.

        Raises:
            ConfigError: it is not there, is not UTF-8, or has changed.
        """
        _check(key, self.path, self.sha256)
        try:
            return self.path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{key} = '{self.path}': is not UTF-8 ({error}); name another file") from error


def resolve_files(config: Mapping[str, Any]) -> None:
    """Replace the paths at `KEYS` of a configuration in plain values by path and digest.

    Raises:
        ConfigError: there is no such file, or it has changed since the run of this configuration began.
    """
    for key in KEYS:
        name, leaf = key.split(".")
        section = config.get(name)
        if not isinstance(section, dict) or (value := section.get(leaf)) is None:
            continue
        settings = {"path": value} if isinstance(value, str) else value
        if not isinstance(settings, dict) or not isinstance(settings.get("path"), str):
            raise ConfigError(f"{key} = {value!r}: expected a file, {key}=FILE")
        path = Path(os.path.expanduser(settings["path"])).absolute()
        section[leaf] = {"path": str(path), "sha256": _check(key, path, settings.get("sha256"))}


def _check(key: str, path: Path, expected: str | None) -> str:
    """Return the digest of a file, which is the expected one if there is one."""
    try:
        sha256 = file_sha256(path)
    except SourceError as error:
        raise ConfigError(f"{key}: {error}") from error
    if expected not in (None, sha256):
        raise ConfigError(f"{key} = '{path}': it has changed since this run began with it; put the old one there")
    return sha256

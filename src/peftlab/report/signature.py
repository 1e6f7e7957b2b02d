"""Signatures with the user's own SSH key, made and checked by OpenSSH's ``ssh-keygen -Y``. No torch.

An SSH key is what most people who write code have already, and what Git signs commits with: whoever is to check a
signature needs the public half alone, and can forge nothing with it. The format is that of OpenSSH's PROTOCOL.sshsig.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from peftlab.errors import UserError

NAMESPACE = "peftlab-archive"
"""Part of what is signed, so that a signature for another purpose, such as a commit's, is none here."""

_ITS_OWNER = "owner"
"""Stands for whoever owns a key that is named by its file: a list of signers cannot do without a name."""

LONGEST_WAIT = 300
"""Seconds that OpenSSH may wait for a passphrase or for somebody to touch a security key."""

_PUBLIC = ("ssh-", "ecdsa-", "sk-")
"""How a public key begins."""


@dataclass(frozen=True)
class Signature:
    """Whether a document is signed, and by whom."""

    state: Literal["none", "unchecked", "good", "bad"]
    """Unchecked: the document is what somebody signed, but whose key that is has not been asked."""
    by: str | None = None
    """The key that signed, and its owner where the list of signers names one."""
    reason: str | None = None
    """Why it is bad or unchecked."""


def key_file(key: str | Path) -> Path:
    """Return the file of a key to sign with.

    Raises:
        UserError: there is no such file.
    """
    file = Path(key).expanduser()
    if not file.is_file():
        raise UserError(f"'{key}' is no file. Name an SSH key, such as ~/.ssh/id_ed25519; `ssh-keygen` makes one")
    return file


def sign(document: bytes, key: Path) -> bytes:
    """Return the signature of `document`; a passphrase is asked for on the terminal, or the agent has the key.

    Args:
        document: what is signed.
        key: the file of the private key, or of the public one if the agent holds the private one.

    Raises:
        UserError: ssh-keygen is not installed, refuses, or does not answer.
    """
    done = _ssh_keygen(["sign", "-n", NAMESPACE, "-f", str(key)], document)
    if done.returncode or not done.stdout:
        raise UserError(f"'{key}': nothing could be signed with it: {_last_line(done.stderr)}")
    return done.stdout


def check(
    document: bytes, signature: bytes | None, key: Path | None = None, allowed_signers: Path | None = None
) -> Signature:
    """Check the signature of `document`.

    Args:
        document: what should have been signed.
        signature: what `sign` returned; None: there is none.
        key: the file of the public key that has to be the signer's.
        allowed_signers: a list of signers and their keys, as Git's ``gpg.ssh.allowedSignersFile``.

    Raises:
        UserError: ssh-keygen is not installed, or the file of keys cannot be read.
    """
    if signature is None:
        asked = key is not None or allowed_signers is not None
        return Signature("bad", reason="it is not signed") if asked else Signature("none")
    if key is None and allowed_signers is None and shutil.which("ssh-keygen") is None:
        return Signature("unchecked", reason="ssh-keygen, which is part of OpenSSH, is not installed")
    with tempfile.TemporaryDirectory(prefix="peftlab-signature-") as folder:
        kept, signers = Path(folder, "signature"), Path(folder, "signers")
        kept.write_bytes(signature)
        if key is not None:
            signers.write_text(f"{_ITS_OWNER} {_public(key)}\n", encoding="utf-8")
        elif allowed_signers is not None:
            signers.write_bytes(_read(allowed_signers))
        else:
            done = _ssh_keygen(["check-novalidate", "-n", NAMESPACE, "-s", str(kept)], document)
            if done.returncode:
                return Signature("bad", reason=_last_line(done.stderr or done.stdout))
            return Signature("unchecked", _signer(done.stdout), "name the signer's key to check whose it is")
        listed = _ssh_keygen(["find-principals", "-s", str(kept), "-f", str(signers)], b"")
        who = listed.stdout.decode(errors="replace").partition("\n")[0].strip()
        if listed.returncode or not who:
            return Signature("bad", reason=f"the key that signed it is not in {key or allowed_signers}")
        done = _ssh_keygen(["verify", "-n", NAMESPACE, "-f", str(signers), "-I", who, "-s", str(kept)], document)
        if done.returncode:
            said = _last_line(done.stderr or done.stdout)
            return Signature("bad", reason=said.replace(str(signers), str(key or allowed_signers)))
        return Signature("good", _signer(done.stdout))


def _ssh_keygen(arguments: Sequence[str], document: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["ssh-keygen", "-Y", *arguments], input=document, capture_output=True, check=False, timeout=LONGEST_WAIT
        )
    except FileNotFoundError as error:
        raise UserError(
            "signatures need ssh-keygen, which is part of OpenSSH: install it, or leave the key out"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"ssh-keygen has not answered for {LONGEST_WAIT} seconds: it may wait for a passphrase or a security key. "
            "Load the key into ssh-agent (ssh-add), or leave it out"
        ) from error


def _public(key: Path) -> str:
    """Return type and value of the public key in a file."""
    words = _read(key).decode(errors="replace").split()
    if len(words) < 2 or not words[0].startswith(_PUBLIC):
        beside = key.with_name(f"{key.name}.pub")
        hint = f"'{beside}' may be it" if beside.is_file() else "it is one line, such as 'ssh-ed25519 AAAA...'"
        raise UserError(f"'{key}' is no public SSH key. Name the signer's public key: {hint}")
    return f"{words[0]} {words[1]}"


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"'{file}' cannot be read: {error.strerror}") from error


def _signer(said: bytes) -> str:
    """Return the signer from ssh-keygen's ``Good "namespace" signature for WHO with ED25519 key SHA256:...``."""
    text = said.decode(errors="replace").strip()
    return text.partition(" signature ")[2].removeprefix("for ").removeprefix(f"{_ITS_OWNER} ").removeprefix("with ")


def _last_line(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "ssh-keygen does not say why"

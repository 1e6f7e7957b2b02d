"""Signatures by ssh-keygen."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from tests.unit.report.small_runs import make_run

from peftlab.errors import UserError
from peftlab.report.archive import SIGNATURE, write
from peftlab.report.signature import NAMESPACE, Signature, check, key_file, sign
from peftlab.report.unpacking import verify

needs_ssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")


@pytest.fixture
def keys() -> tuple[Path, Path]:
    for name in ("mine", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", name], check=True)
    return Path("mine.pub"), Path("other.pub")


@needs_ssh
class TestSignature:
    def test_whose_it_is(self, keys):
        mine, other = keys
        signature = sign(b"document", Path("mine"))
        assert check(b"document", signature, mine).state == "good"
        assert check(b"document", signature, mine).by.startswith("ED25519 key SHA256:")
        assert check(b"document", signature, other) == Signature(
            "bad", reason="the key that signed it is not in other.pub"
        )
        unchecked = check(b"document", signature)
        assert (unchecked.state, unchecked.by) == ("unchecked", check(b"document", signature, mine).by)

    def test_another_document_or_no_signature(self, keys):
        mine, _ = keys
        signature = sign(b"document", Path("mine"))
        for document, its in ((b"documents", signature), (b"document", b"rubbish"), (b"document", b"")):
            assert check(document, its, mine).state == check(document, its).state == "bad"
        assert check(b"document", None) == Signature("none")
        assert check(b"document", None, mine) == Signature("bad", reason="it is not signed")

    def test_a_list_of_signers(self, keys):
        signature = sign(b"document", Path("mine"))
        key = Path("mine.pub").read_text()
        signers = Path("allowed signers")
        for line, state in {
            f"me@example.org {key}": "good",
            f'me@example.org namespaces="{NAMESPACE}" {key}': "good",
            f'me@example.org namespaces="git" {key}': "bad",
            f"you@example.org {Path('other.pub').read_text()}": "bad",
            "rubbish": "bad",
        }.items():
            signers.write_text(line)
            found = check(b"document", signature, allowed_signers=signers)
            assert found.state == state, line
            assert state == "bad" or found.by.startswith("me@example.org with ED25519 key ")
            assert "/peftlab-signature-" not in str(found.reason)

    def test_a_private_key_is_no_public_one(self, keys):
        with pytest.raises(UserError, match=r"'mine' is no public SSH key.*'mine.pub' may be it"):
            check(b"document", sign(b"document", Path("mine")), Path("mine"))

    def test_a_file_that_is_no_key(self, keys):
        Path("rubbish").write_text("rubbish")
        with pytest.raises(UserError, match="'rubbish': nothing could be signed with it"):
            sign(b"document", Path("rubbish"))

    def test_of_an_archive(self, keys):
        make_run(Path("runs/tiny/run0"))
        write(["runs/tiny/run0"], "a.zip", key="mine")
        assert verify("a.zip").signature.state == "unchecked"
        assert verify("a.zip", key="mine.pub").holds
        assert not verify("a.zip", key="other.pub").holds
        zipfile.ZipFile("a.zip").extractall("out")  # what who has no peftlab does
        Path("allowed").write_text(f"me {Path('mine.pub').read_text()}")
        alone = ["ssh-keygen", "-Y", "verify", "-n", "peftlab-archive", "-f", "allowed", "-I", "me", "-s"]
        document = Path("out/manifest.json").read_bytes()
        subprocess.run([*alone, "out/manifest.json.sig"], input=document, check=True, capture_output=True)
        write(["runs/tiny/run0"], "plain.zip")
        assert verify("plain.zip").holds
        assert not verify("plain.zip", key="mine.pub").holds


def test_a_key_that_is_not_there_is_missed_before_anything_is_packed():
    make_run(Path("runs/tiny/run0"))
    for named in ("nowhere", "~/nowhere"):
        with pytest.raises(UserError, match=f"'{named}' is no file. Name an SSH key"):
            key_file(named)
        with pytest.raises(UserError, match="Name an SSH key"):
            write(["runs/tiny/run0"], "a.zip", key=named)


def test_without_ssh_keygen(monkeypatch):
    monkeypatch.setenv("PATH", "")
    Path("mine").write_text("key")
    with pytest.raises(UserError, match="signatures need ssh-keygen, which is part of OpenSSH"):
        sign(b"document", Path("mine"))
    assert check(b"document", b"signature") == Signature(
        "unchecked", reason="ssh-keygen, which is part of OpenSSH, is not installed"
    )
    assert SIGNATURE.endswith(".sig")

from __future__ import annotations

import hashlib

import pytest

from peftlab.errors import SourceError
from peftlab.storage.digests import file_sha256, folder_sha256


def test_the_digest_of_a_folder_is_that_of_a_list_that_sha256sum_takes(tmp_path):
    for name in ("b.txt", "a/c.txt", "a.txt", ".hidden", "a/.hidden/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    names = ("a.txt", "a/c.txt", "b.txt")
    listed = "".join(f"{file_sha256(tmp_path / name)}  {name}\n" for name in names)
    assert folder_sha256(tmp_path) == hashlib.sha256(listed.encode()).hexdigest()


def test_what_a_link_to_a_folder_holds_counts(tmp_path):
    """A folder of classes may be made of links, and is read through them."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.txt").write_text("good")
    data = tmp_path / "data"
    data.mkdir()
    (data / "positive").symlink_to("../elsewhere")
    before = folder_sha256(data)
    (tmp_path / "elsewhere" / "1.txt").write_text("bad")
    assert folder_sha256(data) != before
    before = folder_sha256(data)
    (tmp_path / "elsewhere" / "around").symlink_to(tmp_path)  # each leads back to where it lies
    (data / "itself").symlink_to(".")
    assert folder_sha256(data) == before


def test_a_folder_that_cannot_be_read(tmp_path):
    with pytest.raises(SourceError, match=r"gone' cannot be read \(No such file or directory\)\. Name a folder"):
        folder_sha256(tmp_path / "gone")

from __future__ import annotations

import errno
import os

import pytest
from safetensors import SafetensorError

from peftlab.errors import DiskError
from peftlab.storage.disk import refusal, writing


def refused(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    "error",
    [
        refused(errno.ENOSPC),
        refused(errno.EDQUOT),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=repr,
)
def test_a_full_disk_is_told_with_the_bytes_needed_and_free(tmp_path, monkeypatch, error):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 4096})())
    with pytest.raises(DiskError) as told, writing(tmp_path / "checkpoints" / "best", needed=1234567):
        raise error
    assert str(told.value).startswith(f"{tmp_path / 'checkpoints' / 'best'}: cannot be written: ")
    assert "1,234,567 bytes are needed, 4,096 bytes are free" in str(told.value)
    assert "run_dir=" in str(told.value)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_folder_that_may_not_be_written_is_told_without_figures(tmp_path, number):
    message = refusal(tmp_path, refused(number))
    assert message is not None
    assert "Make it writable" in message
    assert "bytes" not in message


def test_other_errors_are_left_as_they_are(tmp_path):
    assert refusal(tmp_path, refused(errno.ENOENT)) is None
    assert refusal(tmp_path, SafetensorError("the header is too large")) is None
    with pytest.raises(FileNotFoundError), writing(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "there is no such file")

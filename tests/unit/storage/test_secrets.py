from __future__ import annotations

import pytest

from peftlab.errors import ConfigError
from peftlab.storage.secrets import read_secret


def test_all_its_bytes_are_returned_and_what_can_be_guessed_is_refused(tmp_path):
    file = tmp_path / "key"
    file.write_bytes(b" 0123456789abcdef\n")
    assert read_secret(file, "key", "Make one") == b" 0123456789abcdef\n"
    file.write_bytes(b" 123456789abcdef\n")
    with pytest.raises(ConfigError, match=r"^key: it has 15 bytes, and fewer than 16 can be guessed\. Make one$"):
        read_secret(file, "key", "Make one")
    with pytest.raises(ConfigError, match=r"^key: cannot be read \(No such file or directory\). Make one$"):
        read_secret(tmp_path / "none", "key", "Make one")

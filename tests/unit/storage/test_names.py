"""Names that become folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftlab.errors import ConfigError
from peftlab.storage.names import check_folder, shortened, utf8_bytes
from peftlab.sweep.spec import SweepSpec


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("客户反馈" * 22, "has 264 bytes, and the name of a folder at most 255"),
        ("a" * 256, "has 256 bytes"),
        ("fine/" + "b" * 256, "has 256 bytes"),
        ("b" * 256 + "/fine", "has 256 bytes"),
        ("\U0001f600" * 64, "has 256 bytes"),
        ("/".join(["c" * 250] * 17), "the whole path has"),
        ("a\x00b", "cannot have the character '\\x00'"),
        ("a\nb", "cannot have the character '\\n'"),
        ("a\x1bb", "cannot have the character"),
        ("a\ud83db", "cannot have the character"),
    ],
)
def test_a_name_that_no_folder_can_have(name, told):
    with pytest.raises(ConfigError, match=r"^name = ") as refused:
        check_folder("name", Path(name))
    assert told in str(refused.value)
    assert str(refused.value).isprintable()
    with pytest.raises(ConfigError, match=r"^sweep\.name = "):
        SweepSpec(name=name)


@pytest.mark.parametrize("name", ["a" * 255, "客" * 85, "a/b", "a.", " a", "token=v2", "/".join("d" * 1000), "~"])
def test_a_name_that_a_folder_can_have(name):
    check_folder("name", Path(name))


def test_what_is_shortened_stays_apart_and_whole():
    one, other = (shortened("客户反馈" * 30 + end, 100, utf8_bytes) for end in "ab")
    assert one != other
    assert max(utf8_bytes(one), utf8_bytes(other)) <= 100
    assert one.startswith("客户反馈")
    assert shortened("a" * 64, 64) == "a" * 64
    assert len(shortened("a" * 65, 64)) == 64

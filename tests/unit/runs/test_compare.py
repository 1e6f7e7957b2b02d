"""What two runs differ in."""

from __future__ import annotations

import pytest

from peftlab.errors import UserError
from peftlab.runs.compare import differences, kept_packages, package_differences


def test_only_what_differs_by_its_dotted_key():
    one = {"seed": 0, "peft": {"rank": 8, "targets": ["q", "v"]}, "same": None}
    other = {"seed": 1, "peft": {"rank": 8, "targets": ["q"]}, "same": None, "more": True}
    assert differences(one, other) == {"seed": (0, 1), "peft.targets.1": ("v", None), "more": (None, True)}


def test_values_that_are_equal_in_python_only_are_not_the_same():
    assert differences({"a": 1, "b": 1, "c": None}, {"a": True, "b": 1.0}) == {
        "a": (1, True),
        "b": (1, 1.0),
        "c": (None, None),
    }


def test_packages_by_version_those_that_compute_first():
    one = ["abc==1.0", "lightning==2.5", "same==1", "torch==2.6.0+cpu"]
    other = ["abc==1.1", "lightning==2.6", "numpy==2.0", "same==1", "torch==2.7"]
    found = package_differences(one, other)
    assert list(found) == ["torch", "lightning", "numpy", "abc"]
    assert found["torch"] == ("2.6.0+cpu", "2.7")
    assert found["numpy"] == (None, "2.0")


@pytest.mark.parametrize("content", [b"torch==2.6\xff", bytes([0xFF, 0xFE, 0])])
def test_packages_that_cannot_be_read_are_told(tmp_path, content):
    (tmp_path / "packages.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"packages\.txt: cannot be read: .*Put the file back, or remove it"):
        kept_packages(tmp_path)
    (tmp_path / "packages.txt").unlink()
    assert kept_packages(tmp_path) == []

"""The command line of ``peftlab predict``: files that a file names."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftlab.commands.predict import _from


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        ("a.png", {"path": "here/a.png"}),
        ({"path": "a.png", "n": 1}, {"path": "here/a.png", "n": 1}),
        ({"file": "a.png", "path": "elsewhere"}, {"file": "here/a.png", "path": "elsewhere"}),
        ({"file": 7}, {"file": 7}),
        ([1], [1]),
    ],
)
def test_a_file_is_looked_for_beside_the_one_that_names_it_whatever_the_data_calls_it(one, expected):
    assert _from(Path("here"), "file", one) == expected

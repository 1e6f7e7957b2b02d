"""The command line of ``peftlab predict``: options, and files that a file names."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from peftlab.commands import predict
from peftlab.commands.predict import _from
from peftlab.errors import UserError


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


def test_entities_are_not_written_by_options_of_writing():
    parser = argparse.ArgumentParser()
    predict.add_arguments(parser)
    options = ["3f9c2a", "notes", "--standoff", "out", "--generate", "max_new_tokens=4"]
    with pytest.raises(UserError, match="--standoff writes the entities that a model finds, and --generate"):
        predict.execute(parser.parse_args(options))

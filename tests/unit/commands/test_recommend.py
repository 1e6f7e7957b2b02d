"""The command lines of ``peftlab recommend`` and ``answers``: options that would have no effect."""

from __future__ import annotations

import argparse

import pytest

from peftlab.commands import answers, recommend
from peftlab.errors import UserError


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (recommend, "run --evaluate --top 50", "--top says how many items are recommended"),
        (recommend, "run --user u --against ease", "--against names what --evaluate compares with"),
        (answers, "pages --out index --top-k 5", "--top-k: it says how an index is searched"),
        (answers, "pages --out index --min-score 0", "--min-score: it says how an index is searched"),
    ],
)
def test_an_option_without_effect_is_refused(command, arguments, message):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    with pytest.raises(UserError, match=message):
        command.execute(parser.parse_args(arguments.split()))

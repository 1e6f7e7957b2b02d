"""The command line of ``peftlab continue``."""

from __future__ import annotations

import argparse
import importlib

import pytest

from peftlab.errors import UserError


@pytest.mark.parametrize("number", ["20", "all"])
def test_a_number_of_old_examples_is_refused_where_none_is_replayed(number):
    command = importlib.import_module("peftlab.commands.continue")
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    options = parser.parse_args(["run", "--data", "new.csv", "--method", "ewc", "--replay", number])
    with pytest.raises(UserError, match="--replay: with --method ewc no old example is learnt again"):
        command.execute(options)

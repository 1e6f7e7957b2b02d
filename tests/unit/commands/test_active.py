"""The command line of ``peftlab active``."""

from __future__ import annotations

import argparse

import pytest

from peftlab.commands import active


@pytest.mark.parametrize("value", ["splitt", "1.5", "nan"])
def test_whose_labels_choose_is_told_with_what_is_allowed(capsys, value):
    parser = argparse.ArgumentParser()
    active.add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--validation", value])
    assert f"invalid none, split, or share between 0 and 1 value: '{value}'" in capsys.readouterr().err

"""The command line of ``peftlab label``."""

from __future__ import annotations

import argparse

import pytest

from peftlab.commands import label
from peftlab.errors import UserError


def test_a_column_of_labels_is_refused_without_labelled_texts():
    parser = argparse.ArgumentParser()
    label.add_arguments(parser)
    options = parser.parse_args(["texts.csv", "--functions", "rules.yaml", "--out", "out.jsonl", "--label", "class"])
    with pytest.raises(UserError, match="--label names the column of the labels in --dev"):
        label.execute(options)

"""What commands print."""

from __future__ import annotations

import json
import math

import pytest

from peftlab.terminal.output import print_json


def test_printed_json_is_strict(capsys):
    print_json({"low": math.nan, "all": [(math.inf, 1.5)], "name": "é"})
    printed = capsys.readouterr().out
    assert "é" in printed
    assert json.loads(printed, parse_constant=pytest.fail) == {
        "low": None,
        "all": [[None, 1.5]],
        "name": "é",
    }

"""Notices: one line of text, that no run has to have, and that fits into a header."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from peftlab.errors import UserError
from peftlab.runs.notice import Notice, as_header, joined, notice_of


def test_a_notice_is_one_line_of_text():
    checked = TypeAdapter(Notice).validate_python
    assert (checked(None), checked(" not for clinical use ")) == (None, "not for clinical use")
    for odd in ("", "  ", "two\nlines", "\x1b[2J", 3, "x" * 301):
        with pytest.raises(ValidationError, match="one line of text"):
            checked(odd)


def test_a_run_from_before_has_none():
    assert notice_of({}) is None
    assert notice_of({"notice": None}) is None
    assert notice_of({"notice": "no"}) == "no"


def test_of_several_runs_each_notice_is_told_once():
    assert joined([None, None]) is None
    assert joined(["not for clinical use", None, "research only", "not for clinical use"]) == (
        "not for clinical use; research only"
    )
    with pytest.raises(UserError, match=r"have 402 characters together, .* in at most 300: leave a run out"):
        joined(["x" * 200, "y" * 200])


def test_a_header_is_ascii():
    assert as_header("not for clinical use") == "not for clinical use"
    assert as_header("n\u00e9 100 %") == "n%C3%A9 100 %25"

"""Notices: one line of text, that no run has to have, and that fits into a header."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from peftlab.runs.notice import Notice, as_header, notice_of


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


def test_a_header_is_ascii():
    assert as_header("not for clinical use") == "not for clinical use"
    assert as_header("n\u00e9 100 %") == "n%C3%A9 100 %25"

"""Files of terms: what they hold, what is refused, and the group of a text."""

from __future__ import annotations

import pytest

from peftlab.data.identities.terms import NONE, THEMES, identities
from peftlab.errors import DataError


@pytest.mark.parametrize("theme", THEMES)
def test_each_theme_is_well_formed(theme):
    terms = identities(theme)
    assert len(terms.groups) >= 2
    assert all(term == term.lower() and term.isalpha() for row in terms.rows for term in row if term)
    assert len({place for place, _ in terms.places.values()}) == len(terms.groups)


def test_the_group_of_a_text():
    terms = identities("gender")
    assert terms.label(["Her", "house"]) == "female"
    assert terms.label(["his", "SISTER"]) == "female+male"
    assert terms.label(["the", "house"]) == NONE
    assert terms.groups_in(["king", "queen"]) == {"female", "male"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a | b\n", "a line with the groups"),
        ("a | a\nx | y\n", "a line with the groups"),
        ("# c\na | b\nx\n", r":3: 1 terms for the 2 groups a \| b"),
        ("a | b\nx | y z\n", ":2: 'y z' is more than a word"),
        ("a | b\nx | y\ny |\n", ":3: 'y' stands for b and a"),
    ],
)
def test_what_is_malformed_is_refused_with_its_line(tmp_path, text, message):
    (tmp_path / "terms.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        identities(str(tmp_path / "terms.txt"))


def test_an_unknown_theme_names_the_nearest():
    with pytest.raises(DataError, match="gender"):
        identities("gendre")

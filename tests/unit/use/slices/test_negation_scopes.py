"""Scopes of negation: triggers before and after, phrases that only look like one, and what ends a scope."""

from __future__ import annotations

import pytest

from peftlab.use.slices.negation_scopes import has_negation, negated


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("She denies fever and chills .", "fever and chills"),
        ("No evidence of pneumonia but a small effusion .", "pneumonia"),
        ("There is no fever . Pain persists", "fever"),
        ("Pulmonary embolism was ruled out .", "Pulmonary embolism"),
        ("Gram negative rods grew", ""),
        ("Not only fever was seen", ""),
        ("He does n't have asthma , although he has a cough", "have asthma ,"),
        ("Cough ; tumour unlikely", "tumour"),
        ("He has a fever", ""),
        ("", ""),
    ],
)
def test_scopes(text, inside):
    words = text.split()
    assert [word for word, flag in zip(words, negated(words), strict=True) if flag] == inside.split()


def test_triggers():
    assert has_negation(["there", "is", "no", "fever"])
    assert not has_negation(["no", "increase", "of", "fever"])

"""Definitions of short forms: what the algorithm of Schwartz & Hearst finds, and what it must not take for one."""

from __future__ import annotations

import pytest

from peftlab.use.slices.short_forms import is_in_capitals, looks_short, pairs

CASES = [
    ("Levels of heat shock transcription factor (HSF) rose.", [("HSF", "heat shock transcription factor")]),
    ("We gave tumor necrosis factor-alpha (TNF-alpha).", [("TNF-alpha", "tumor necrosis factor-alpha")]),
    ("A Gcn5-related N-acetyltransferase (GNAT) fold.", [("GNAT", "Gcn5-related N-acetyltransferase")]),
    ("polymerase chain reaction (PCR; see below) and magnetic resonance imaging (MRI, 3 T)",
     [("PCR", "polymerase chain reaction"), ("MRI", "magnetic resonance imaging")]),
    ("The PPAR (peroxisome proliferator-activated receptor) binds.",
     [("PPAR", "peroxisome proliferator-activated receptor")]),
    ("beta 2 adrenergic receptor (beta2-AR)", [("beta2-AR", "beta 2 adrenergic receptor")]),
    ("World Health Organization [ WHO ]", [("WHO", "World Health Organization")]),
    ("It grew (Fig. 2) in mice (n = 5) over weeks (2001).", []),  # no short forms, or none that stand for words
    ("the first letter must begin a word: extranuclear (TN)", []),
    ("Rates fell. Patients (CHD) were older", []),  # the letters are in no words before it
    ("chronic heart disease. In them (CHD)", []),  # not across sentences
    ("(HIV)", []),
    ("it is called WHO (who)", []),  # the same word
    ("a very long way of saying it before acute lung injury (ALI)", [("ALI", "acute lung injury")]),
    ("the kappa light chain (light)", []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_definitions(text, expected):
    assert pairs(text) == expected


def test_a_word_that_looks_like_a_short_form():
    assert all(map(looks_short, ("HSF", "mRNA", "T4", "IL-2", "NF-kB", "U.S.")))
    assert not any(map(looks_short, ("The", "a", "1996", "heat", "X", "WITHOUTANYDOUBT", "p53")))
    assert is_in_capitals("SOCCER - JAPAN GET LUCKY WIN")
    assert not is_in_capitals("The WHO said so")

from __future__ import annotations

import pytest

from peftlab.data.sentence_spans import sentence_spans


@pytest.mark.parametrize(
    "sentences",
    [
        ["It rose.", "Then it fell!", "Why?", "Nobody (so far) knows."],
        ["We saw it in Fig. 2 and, e.g. DNA, by J. Smith et al. Others did not agree with p < .05 at all"],
        ["OBJECTIVE: to see", "METHODS: none.", '"Quoted." ', "12 mice died."],
        ["One"],
    ],
)
def test_sentences(sentences):
    stripped = [sentence.strip() for sentence in sentences]
    text = "\n  ".join(stripped) if "OBJECTIVE" in stripped[0] else " ".join(stripped)
    assert [text[start:end] for start, end in sentence_spans(text)] == stripped


def test_nothing():
    assert sentence_spans(" \r\n ") == []

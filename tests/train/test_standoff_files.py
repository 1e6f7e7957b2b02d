"""Entities that are written as standoff are read back as those that the model finds."""

from __future__ import annotations

from pathlib import Path

import pytest

import peftlab
from peftlab.data.brat import Brat
from peftlab.errors import UserError
from peftlab.scores.bio import entities
from peftlab.use.standoff_files import annotate

TEXT = "Anna Berg moved to Paris .\r\nÉmile, J. Smith met\tOtto in Rome. It happened in New York"


@pytest.mark.slow
def test_what_is_written_is_what_is_found(finished):
    run = peftlab.load(finished.folder)
    Path("notes").mkdir()
    Path("notes/a.txt").write_bytes(TEXT.encode())
    assert list(annotate(run, ["notes"], "out")) == [Path("out/a.ann")]
    assert Path("out/a.txt").read_bytes() == TEXT.encode()
    read = Brat().read({"train": Path("out")})["train"]
    answers = run.predict([sentence.text for sentence in read])
    written = [
        [(one.type, sentence.spans[one.start][0], sentence.spans[one.end - 1][1]) for one in entities(sentence.tags)]
        for sentence in read
    ]
    expected = [[(one["type"], one["start"], one["end"]) for one in answer["entities"]] for answer in answers]
    assert written == expected
    assert any(expected)
    for path, message in (("notes", "is there already"), ("nowhere.txt", "expected a file"), ("out/a.ann", "expected")):
        with pytest.raises(UserError, match=message):
            list(annotate(run, [path], "out"))


def test_a_run_that_finds_no_entities(finished_writer):
    with pytest.raises(UserError, match="task=causal_lm finds no entities"):
        list(annotate(peftlab.load(finished_writer.folder), ["notes"], "out"))

"""Options of generation, and those that do not act."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from peftlab.generation.options import Generation


def test_what_does_not_act_is_known():
    assert not list(Generation().idle())
    assert list(Generation(temperature=0.5, top_k=3, seed=1, max_new_tokens=5).idle()) == [
        "temperature",
        "top_k",
        "seed",
    ]
    assert not list(Generation(temperature=0.5, do_sample=True, num_beams=1).idle())


def test_a_run_that_writes_nothing_still_says_how_its_users_are_written_to():
    assert not list(Generation(max_new_tokens=5, num_beams=3, repetition_penalty=1.2, at="never").idle())


def test_beams_and_sampling_exclude_each_other():
    with pytest.raises(ValidationError, match=r"num_beams=2 searches .* set num_beams=1"):
        Generation(num_beams=2, do_sample=True)

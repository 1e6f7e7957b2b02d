"""Options of generation, and those that do not act."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from peftlab.generation.options import Generation


def test_what_does_not_act_is_known():
    assert not list(Generation().idle())
    assert dict(Generation(temperature=0.5, top_k=3, seed=1, max_new_tokens=5).idle()) == {
        "temperature": "do_sample=true",
        "top_k": "do_sample=true",
        "seed": "do_sample=true",
    }
    assert not list(Generation(temperature=0.5, do_sample=True, num_beams=1).idle())
    assert dict(Generation(max_new_tokens=5, do_sample=True, at="never").idle()) == {
        "max_new_tokens": "at=final or always",
        "do_sample": "at=final or always",
    }


def test_beams_and_sampling_exclude_each_other():
    with pytest.raises(ValidationError, match=r"num_beams=2 searches .* set num_beams=1"):
        Generation(num_beams=2, do_sample=True)

"""The arithmetic and the pages of a ladder."""

from __future__ import annotations

import pytest

from peftlab.use.compression.ladder import Ladder, Rung, about, markdown


def rung(step, cpu, beside=None, weights=80, drop=0.001, high=0.004, verdict="accepted", turns="merge"):
    def timing(seconds):
        latency = {"p50": seconds, "p95": seconds}
        return seconds and {"cpu_seconds": seconds, "milliseconds": {"1": latency, "32": latency}}

    measured = {"timing": timing(cpu), "beside": timing(beside), "weight_bytes": weights, "memory_bytes": None}
    measured |= {"parameters": 20, "threads": 1, "isa": "AVX2", "examples": 128}
    ends = {"value": drop, "low": None if high is None else drop - (high - drop), "high": high}
    return Rung(step, f"runs/{step}", "1f", 0.8, ends, 0.97, measured, beside and turns, {}, verdict)


def ladder(*rungs):
    return Ladder("runs/original", "entity_f1", 0.005, "groups", 231, list(rungs))


def test_times_are_against_the_merged_model_that_took_turns():
    original, merged = rung("original", 12.0, weights=88), rung("merge", 8.0, 10.0)
    half = rung("int8", 5.0, 11.0, weights=20)
    made = ladder(original, merged, half)
    assert made.base is merged
    assert made.faster(half) == pytest.approx(11 / 5)
    assert made.faster(original) == pytest.approx(8 / 10)  # measured beside the merged one, not by itself
    assert made.faster(merged) == 1
    assert (made.smaller(half), made.smaller(original)) == (4, pytest.approx(80 / 88))


def test_what_comes_before_the_merged_model_is_brought_to_its_times():
    original, cut = rung("original", 12.0), rung("drop_layers=2", 6.0, 12.0, turns="original")
    merged = rung("merge", 5.0, 12.5, turns="original")
    made = ladder(original, cut, merged, rung("int8", 2.5, 5.0))
    assert [made.faster(one) for one in made.rungs] == pytest.approx([0.4, 0.8, 1.0, 2.0])
    assert "was timed in turns; those before it, with the original." in about(made)[1]
    assert "was timed in turns.\n" in "\n".join(about(ladder(original, merged)))


def test_without_a_merged_model_the_original_is_the_measure():
    original, file = rung("original", 12.0), rung("onnx", 8.0, 12.0)
    made = ladder(original, file)
    assert made.base is original
    assert made.faster(file) == 1.5


def test_the_last_accepted_rung_is_named_whatever_follows():
    made = ladder(
        rung("original", 12.0), rung("merge", 8.0, 10.0), rung("int8", 5.0, 11.0, high=0.02, verdict="too much")
    )
    assert made.accepted.step == "merge"
    assert about(made)[-1].endswith("merge, runs/merge")
    assert made.document()["accepted"] == "merge"
    assert [one["faster"] for one in made.document()["rungs"]] == [0.8, 1.0, 2.2]


def test_the_page_has_a_row_a_rung_and_says_what_is_unknown():
    page = markdown(ladder(rung("original", 12.0), rung("onnx", 8.0, 12.0, high=None)))
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1
    assert "| onnx | 0.8000 | +0.0010 | - |" in page


def test_an_interval_without_width_is_told_with_what_it_leaves_open():
    """None of 231 says that fewer than 1.6 % do, and 0.5 % of the score may be lost."""
    nothing = {"drop": 0.0, "high": 0.0}
    made = ladder(rung("original", 12.0, **nothing), rung("merge", 8.0, **nothing), rung("onnx", 5.0, 8.0, **nothing))
    (told,) = [
        line for line in about(made) if line.startswith("On none of the 231 groups do the scores of onnx differ")
    ]
    assert "up to 1.6% of which may differ" in told
    made.max_drop = 0.02
    assert not [line for line in about(made) if line.startswith("On none")]

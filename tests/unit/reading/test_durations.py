from __future__ import annotations

from peftlab.reading.durations import seconds_in


def test_a_number_and_a_unit_are_a_length_of_time():
    lengths = {"90s": 90, "15 m": 900, "1.5h": 5400, "2d": 172800, "1w": 604800}
    assert {text: seconds_in(text) for text in lengths} == lengths
    assert [seconds_in(text) for text in ("", "90", "s", "-1s", " 1s", "1s ", "1 fortnight", "1e3s", "1234567s")] == [
        None
    ] * 9
    assert seconds_in("1w", "smhd") is None

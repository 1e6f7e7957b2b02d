from __future__ import annotations

import pytest

from peftlab.reading.unicode_text import Door, code_points, has_controls, is_valid


@pytest.mark.parametrize(
    ("text", "valid", "mended", "controls"),
    [
        ("plain", "plain", 0, 0),
        ("hi \ud83d", "hi \ufffd", 1, 0),
        ("\ude00\ud83d", "\ufffd\ufffd", 2, 0),
        ("\U0001f600 stays", "\U0001f600 stays", 0, 0),
        ("caf\udce9 \udcff", "caf\ufffd \ufffd", 2, 0),  # an argument whose bytes are not UTF-8
        ("was \ufffd before", "was \ufffd before", 0, 0),
        ("a\0b\x07", "a\0b\x07", 0, 2),
        ("line\nend\ttab\r\n\x0b\x0c\x85", "line\nend\ttab\r\n\x0b\x0c\x85", 0, 0),
        ("\u200b\xa0\u2028\ue000\uffff", "\u200b\xa0\u2028\ue000\uffff", 0, 0),
    ],
)
def test_each_half_of_a_character_becomes_one(text, valid, mended, controls):
    door = Door()
    assert door(text) == valid
    assert len(door(text)) == len(text)
    assert (door.mended, door.controls) == (2 * mended, 2 * controls)
    assert bool(door.findings) == bool(mended or controls)
    valid.encode()


def test_values_are_mended_to_the_last_text_and_key():
    door = Door()
    given = {"a\ud83d": ["\udc00", 1, None, ("x\udfff", {"b": 2.5})]}
    assert door.value(given) == {"a\ufffd": ["\ufffd", 1, None, ("x\ufffd", {"b": 2.5})]}
    assert door.counts == {"mended_characters": 3, "control_characters": 0}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pos", "'pos'"),
        ("two words", "'two words'"),
        ("a\u200b", "'a' U+200B"),
        ("e\u0301", "'e' U+0301"),
        ("\xe9", "'\xe9'"),
        (" a ", "U+0020 'a' U+0020"),
        ("a\xa0b", "'a' U+00A0 'b'"),
        ("po\xads", "'po' U+00AD 's'"),
        ("  ", "U+0020 U+0020"),
        ("", ""),
    ],
)
def test_what_is_not_seen_is_shown_by_its_number(text, shown):
    assert code_points(text) == shown


def test_validity_and_control_characters():
    assert [is_valid(text) for text in ("a", "\ud83d", "\U0001f600")] == [True, False, True]
    assert [has_controls(text) for text in ("a b", "a\0", "a\nb", "\x7f", "\u200b")] == [False, True, True, True, False]

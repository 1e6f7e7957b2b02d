"""JSON from anybody: what is refused, at a cost in proportion to its length."""

from __future__ import annotations

import pytest

from peftlab.data.json_objects import _Object
from peftlab.reading.json_form import _once, parsed


class Key(str):
    """A key that counts how often keys are compared."""

    compared = 0
    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Key.compared += 1
        return str.__eq__(self, other)


def test_the_first_key_that_is_there_twice_is_named():
    with pytest.raises(ValueError, match=r"^'b' stands there twice$"):
        parsed('{"a": 1, "b": 2, "c": 3, "c": 4, "b": 5}')


def test_a_key_twice_behind_many_others_costs_no_more_than_reading_them():
    pairs = [(Key(n), n) for n in [*range(2000), 1999]]
    assert _Object(pairs).repeated == ["1999"]
    with pytest.raises(ValueError, match="'1999'"):
        _once(pairs)
    assert Key.compared < 20 * len(pairs)

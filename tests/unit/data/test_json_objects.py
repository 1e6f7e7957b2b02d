import itertools

import pytest

from peftlab.data.json_objects import read_object
from peftlab.errors import DataError


def fault(line, following):
    with pytest.raises(DataError) as error:
        read_object(line, "a:1", "such as {}", following)
    return str(error.value)


def endless(*lines):
    """Return lines, of which a stream has no more yet: to ask for another one would be to wait."""
    yield from lines
    raise AssertionError("reads further than it has to")


@pytest.mark.parametrize(
    "line", ["no JSON", "", "  ", '{"text": "a}', '{"text": tru', '{"text": -', '{"a": 1}}', "[1 2"]
)
def test_what_no_further_line_can_mend_is_told_without_reading_one(line):
    assert "Write one object a line" in fault(line, endless())


@pytest.mark.parametrize("line", ["{", '{ "a"', '{"a": ', '{"a": 1, ', '[{"a": 1},'])
def test_a_line_that_is_cut_short_is_told_from_the_one_after_it(line):
    assert "Write one object a line." in fault(line, endless('{"text": "b"}, {"text" "c"}'))


@pytest.mark.parametrize("length", [2, 3, 9, 100, 3000])
def test_an_object_over_several_lines_is_read_little_further_than_to_its_end(length):
    lines = ["{", *(f'"{number}": 1,' for number in range(length - 2)), '"last": 1}']
    following = iter([*lines[1:], *itertools.repeat("{}", 5000)])
    assert f"The object that begins here goes over {length} lines." in fault(lines[0], following)
    assert len(list(following)) >= 5000 - length // 8

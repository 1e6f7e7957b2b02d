"""Rows of files and streams: what is read, what is new, and what is wrong."""

from __future__ import annotations

import pytest

from peftlab.errors import DataError
from peftlab.opinion.stream import Stream


def read(stream):
    return [dict(row) for block in stream.blocks() for _, row in block]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "stream.csv"


def test_csv(file):
    file.write_text('\ufeffat;text\n1;"a;\nb"\n\n2;c\n', encoding="utf-8")
    assert read(Stream(str(file), ["at", "text"])) == [{"at": "1", "text": "a;\nb"}, {"at": "2", "text": "c"}]


def test_a_file_that_grows_is_read_from_where_it_ended(file):
    file.write_text("at,text\n1,a\n2,b")
    first = Stream(str(file), ["at"], final=True)
    assert len(read(first)) == 2
    file.write_text("at,text\n1,a\n2,b\n3,c\n")
    second = Stream(str(file), ["at"], first.place)
    assert [(n, row["text"]) for block in second.blocks() for n, row in block] == [(4, "c")]
    assert read(Stream(str(file), ["at"], second.place)) == []
    file.write_text("at,text\n9,x\n3,c\n")
    assert len(read(Stream(str(file), ["at"], second.place))) == 2
    file.write_text("at,text\n1,a\n2,bc\n")
    with pytest.raises(DataError, match="in the middle of a line"):
        read(Stream(str(file), ["at"], first.place))


@pytest.mark.parametrize("blank", ["\n", "\ufeff\n\n"])
def test_a_file_that_begins_with_blank_lines_goes_on_with_its_header(file, blank):
    file.write_text(blank + "at,text\n1,a\n", encoding="utf-8")
    first = Stream(str(file), ["at"])
    assert len(read(first)) == 1
    file.write_text(blank + "at,text\n1,a\n2,b\n", encoding="utf-8")
    assert read(Stream(str(file), ["at"], first.place)) == [{"at": "2", "text": "b"}]


@pytest.mark.parametrize("lines", [["at,text\n", "1,a\n", "2,é\n"], ['{"at": 1}\n', '{"at": "é"}\n']])
def test_a_line_that_is_half_written_waits(file, lines):
    whole = "".join(lines).encode()
    rows = read(Stream(str(file), ["at"], final=True)) if file.write_bytes(whole) else None
    for end in range(len(whole)):
        file.write_bytes(whole[:end])
        first = Stream(str(file), ["at"])
        some = read(first)
        assert first.unfinished == (end > 0 and not whole[:end].endswith(b"\n"))
        file.write_bytes(whole)
        second = Stream(str(file), ["at"], first.place)
        assert [*some, *read(second)] == rows
        assert first.faults == second.faults == []
        assert not second.unfinished


def test_a_row_of_several_lines_that_is_half_written_waits(file):
    parts = [b"at,text\n", b"1,a\n", '2,"é\n\nb, ""c"" \n"\n'.encode(), b'3,"d\n\xff\n"\n', b"4,e\n"]
    whole = b"".join(parts)
    ends = {sum(map(len, parts[:n])) for n in range(len(parts))}
    file.write_bytes(whole)
    once = Stream(str(file), ["at"], final=True)
    rows = read(once)
    assert [row["at"] for row in rows] == ["1", "2", "3", "4"]
    for end in range(len(whole)):
        file.write_bytes(whole[:end])
        first = Stream(str(file), ["at"])
        some = read(first)
        assert first.unfinished == (end not in ends)
        file.write_bytes(whole)
        second = Stream(str(file), ["at"], first.place)
        assert [*some, *read(second)] == rows
        assert first.faults + second.faults == once.faults == [f"{file}:8: is not UTF-8"]
        assert not second.unfinished


def test_faults_are_kept_and_the_rest_is_read(file):
    file.write_bytes(b'{"at": 1}\nno\n[1]\n{"when": 1}\n{"at": "\xff"}\n{"at": 2}\n')
    stream = Stream(str(file), ["at"])
    assert read(stream) == [{"at": 1}, {"at": 2}]
    said = [fault.removeprefix(str(file)) for fault in stream.faults]
    assert [fault[:3] for fault in said] == [":2:", ":3:", ":4:", ":5:"]
    file.write_text("at,text\n1\n2,b\n")
    stream = Stream(str(file), ["at"])
    assert read(stream) == [{"at": "2", "text": "b"}]
    assert stream.faults == [f"{file}:2: has 1 fields under 2 columns"]


def test_a_stray_carriage_return_is_the_fault_of_its_row(file):
    file.write_bytes(b'at,text\n1,a\rb\n2,"a\rb"\n3,c\r\n')
    stream = Stream(str(file), ["at"])
    assert read(stream) == [{"at": "2", "text": "a\rb"}, {"at": "3", "text": "c"}]
    assert stream.faults == [f"{file}:2: is no row of CSV (new-line character seen in unquoted field)"]
    file.write_bytes(b"at,text\r1,a\r2,b\r")
    with pytest.raises(DataError, match=r"is no header of CSV .*End lines with line feeds"):
        read(Stream(str(file), ["at"], final=True))


def test_a_column_that_is_missing_is_named(file):
    file.write_text("time,text\n1,a\n")
    with pytest.raises(DataError, match=r"there is no column 'tim'\. Did you mean 'time'"):
        read(Stream(str(file), ["tim"]))


def test_two_columns_of_one_name_are_refused_and_may_have_none(file):
    file.write_text("time,opinion,opinion\n1,good,bad\n")
    with pytest.raises(DataError, match=r"stream\.csv: 2 columns are called 'opinion'"):
        read(Stream(str(file), ["time"]))
    file.write_text("time,opinion,,\n1,good,,\n")
    assert read(Stream(str(file), ["time"])) == [{"time": "1", "opinion": "good", "": ""}]

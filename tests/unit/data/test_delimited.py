from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest
from pydantic import ValidationError

from peftlab.data.delimited import Delimited
from peftlab.data.rows.cells import NO_GROUP, groups_may_be_empty
from peftlab.errors import DataError


@pytest.fixture
def read(tmp_path: Path):
    """Write a file and read it as the training split."""

    def write_and_read(content: str | bytes, name="train.csv", **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return Delimited(**options).read({"train": path})["train"]

    return write_and_read


def told(read, tmp_path: Path, content: str | bytes, name="train.csv", **options) -> str:
    """Return what is wrong, without the folder."""
    with pytest.raises(DataError) as error:
        read(content, name, **options)
    return str(error.value).replace(f"{tmp_path}/", "")


def pairs(texts):
    return [(text.text, text.label) for text in texts]


class TestReading:
    def test_a_file_by_hand(self, read, tmp_path):
        first, second = read('id,text,label\n1,"a, ""quoted"" text",pos\n\n2,"two\nlines",neg\n')
        assert (first.id, first.text, first.label, first.pair) == ("train:0", 'a, "quoted" text', "pos", None)
        assert (second.id, second.text, second.label) == ("train:1", "two\nlines", "neg")
        assert first.place == f"{tmp_path / 'train.csv'}:2"
        assert second.place == f"{tmp_path / 'train.csv'}:4"

    def test_splits_have_ids_of_their_own(self, tmp_path):
        for name in ("a", "b"):
            (tmp_path / name).write_text("text,label\nx,1\ny,2\n")
        found = Delimited().read({"train": tmp_path / "a", "test": tmp_path / "b"})
        assert [text.id for texts in found.values() for text in texts] == ["train:0", "train:1", "test:0", "test:1"]

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
    def test_line_ends_and_byte_order_marks(self, read, end, mark):
        content = mark + f"text,label{end}a,1{end}{end}ü,2".encode()
        assert pairs(read(content)) == [("a", "1"), ("ü", "2")]

    @pytest.mark.parametrize(
        ("header", "options"),
        [
            ("text,category", {}),
            ("category,label", {"text": "category", "label": "label"}),
            ("label,sentence", {"text": 1, "label": 0}),
            ("label,sentence", {}),
            ("x,y,label,text", {}),
            ("a,b,c", {"text": "b", "label": -1}),
        ],
    )
    def test_columns_are_found(self, read, header, options):
        names = header.split(",")
        (text,) = read(f"{header}\n{','.join(f'in {name}' for name in names)}\n", **options)
        wanted = options.get("text", "text" if "text" in names else "sentence")
        assert text.text == f"in {names[wanted] if isinstance(wanted, int) else wanted}"
        assert text.label in {"in category", "in label", "in c"}

    def test_without_a_header(self, read):
        assert pairs(read("pos,good\nneg,bad\n", header=False, text=1, label=0)) == [("good", "pos"), ("bad", "neg")]

    def test_pairs(self, read):
        (text,) = read("text,question,label\nyes,is it?,1\n", pair="question")
        assert (text.text, text.pair, text.label) == ("yes", "is it?", "1")

    @pytest.mark.parametrize(("name", "delimiter"), [("a.tsv", "auto"), ("a.TAB", "auto"), ("a.csv", "\t")])
    def test_tabs(self, read, name, delimiter):
        assert pairs(read("text\tlabel\na, b\t1\n", name, delimiter=delimiter)) == [("a, b", "1")]

    def test_quotes_that_are_plain_characters(self, read):
        assert pairs(read('text\tlabel\n"so he said\t1\n5" long\t2\n', "a.tsv", quotes=False)) == [
            ('"so he said', "1"),
            ('5" long', "2"),
        ]

    def test_another_encoding(self, read):
        assert pairs(read("text,label\n£5,1\n".encode("latin-1"), encoding="latin-1")) == [("£5", "1")]

    def test_a_text_of_any_length(self, read):
        assert len(read(f"text,label\n{'long ' * 100_000},1\n")[0].text) == 500_000

    def test_space_around_a_label_is_no_part_of_it(self, read):
        assert pairs(read("text,label\n a , 1 \n")) == [(" a ", "1")]

    @pytest.mark.parametrize("seed", range(5))
    def test_what_the_csv_module_writes(self, read, tmp_path, seed):
        draw = random.Random(seed)
        rows = [("".join(draw.choices("ab\",\n\r\t'; ", k=8)) + "x", draw.choice("12")) for _ in range(40)]
        with (tmp_path / "train.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
        texts = read((tmp_path / "train.csv").read_bytes())
        assert pairs(texts) == rows
        lines = (tmp_path / "train.csv").read_bytes().decode()
        assert all(text.line <= 1 + lines.count("\n") + lines.count("\r") for text in texts)


class TestMistakes:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (
                "text,label\na,1\nb,c,2\n",
                "train.csv:3: expected 2 columns as in line 1, found 3. Mend the row: a field that holds the delimiter "
                "is put in quotes; or set data.format.delimiter, or data.format.quotes=false where quotes are plain "
                "characters.",
            ),
            ("text,label\na,1\n\n ,2\n", "train.csv:4: the text is empty. Write one, or remove the row."),
            ("text,label\na,\n", "train.csv:2: the label is empty. Write one, or remove the row."),
            (
                "text,label\na,1\ntext,label\nb,2\n",
                "train.csv:3: the row repeats the header of line 1, as in concatenated files. Remove the row.",
            ),
            (
                'text,label\na,1\n"b" c,2\n',
                "train.csv:3: the row that begins here cannot be read (',' expected after '\"'). A quote within a "
                "field in quotes is doubled; set data.format.quotes=false where quotes are plain characters.",
            ),
            (
                'text,label\na,1\n"b,2\nc,1\n',
                "train.csv:3: the row that begins here cannot be read (unexpected end of data). A quote within a field "
                "in quotes is doubled; set data.format.quotes=false where quotes are plain characters.",
            ),
            (
                "a,b,label\n1,2,3\n",
                "train.csv:1: which column is the text? None is called 'text'; there are a, b, label. Name it: "
                "data.format.text=NAME.",
            ),
            (
                "one,two\n1,2\n",
                "train.csv:1: which column is the text? None is called 'text'; there are one, two. Name it: "
                "data.format.text=NAME.",
            ),
            (
                "text,label,text\na,1,b\n",
                "train.csv:1: 2 columns are called 'text'. Give its number from 0, data.format.text=0 for the first.",
            ),
            (
                "",
                "train.csv: empty split 'train': the file holds no row. Expected a text and a label a row.",
            ),
            ("text,label\n\n", "train.csv: empty split 'train': the file holds a header, and no row below it."),
            (
                b"text,label\na,1\n\xff,2\n",
                "train.csv:3: byte 0xff is not UTF-8. Save the file as UTF-8, or name its encoding, "
                "data.format.encoding=latin-1 for instance.",
            ),
        ],
    )
    def test_they_are_told_with_file_and_line(self, read, tmp_path, content, message):
        assert told(read, tmp_path, content) == message

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"text": "txt"},
                "train.csv:1: there is no column 'txt'. Did you mean 'text'? Columns: text, label. Set "
                "data.format.text to one of them, or data.format.header=false where that is no header.",
            ),
            (
                {"label": 2},
                "train.csv:1: data.format.label=2 is out of range, the row has 2 columns. Allowed are -2 to 1; or set "
                "data.format.delimiter.",
            ),
            (
                {"text": 0, "label": -2},
                "train.csv:1: text and label are the same column of 2. Set data.format.text and data.format.label to "
                "two columns, or data.format.delimiter to what separates them.",
            ),
            (
                {"pair": "label"},
                "train.csv:1: pair and label are the same column of 2. Set data.format.pair and data.format.label to "
                "two columns, or data.format.delimiter to what separates them.",
            ),
        ],
    )
    def test_columns_that_do_not_fit(self, read, tmp_path, options, message):
        assert told(read, tmp_path, "text,label\na,1\n", **options) == message

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(DataError, match=r"train\.csv: no such file\."):
            Delimited().read({"train": tmp_path / "train.csv"})

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"delimiter": ";;"}, "must be one character"),
            ({"delimiter": '"'}, "must be one character, and no quote"),
            ({"header": False}, "without a header, columns are numbers from 0, not text=auto, label=auto"),
            ({"header": False, "text": 0, "label": 1, "pair": "p"}, "not pair=p"),
            ({"encoding": "utf-9"}, "'utf-9' is no encoding that Python knows"),
        ],
    )
    def test_options_that_do_not_fit(self, options, message):
        with pytest.raises(ValidationError, match=message):
            Delimited(**options)


def reviews(*rows: tuple[str, str], delimiter="\t", first="text", end="\n") -> str:
    lines = [("text", "label"), *rows]
    return "".join(delimiter.join(row if first == "text" else row[::-1]) + end for row in lines)


PLAIN = [("so good", "pos"), ("so bad", "neg"), ("well", "neutral")]


class TestQuotesThatAreNone:
    """A plain quotation mark opens a field, and another one, rows below, closes it."""

    @pytest.mark.parametrize(
        ("content", "name", "lines"),
        [
            (reviews(('"Hello there', "1"), ("fine day", "0"), ('bye"', "1"), ("last", "0")), "a.tsv", 3),
            (reviews(('"so he said', "pos"), *PLAIN * 10, ('he said no"', "neg"), *PLAIN), "a.tsv", 32),
            (reviews(*PLAIN, ('" a', "x"), ('b"', "y"), ("c", "x"), end="\r\n"), "a.tsv", 2),
            (reviews(*PLAIN, ('"a', "pos"), ("b", "neg"), ('c"', "neg"), first="label"), "a.tsv", 3),
            (reviews(*PLAIN, ('"a', "pos"), ("b", "neg"), ('c"', "neg"), delimiter=","), "a.csv", 3),
            (reviews(*PLAIN, ('"a', "pos"), ("b", "odd"), ("d", "neg"), ('c"', "neg"), delimiter=","), "a.csv", 4),
            (reviews(*PLAIN, ('"a', "pos"), ("b", "neg"), ("c", "pos"), ('d"', "neg")), "a.tsv", 4),
        ],
    )
    def test_rows_are_not_swallowed(self, read, tmp_path, content, name, lines):
        message = told(read, tmp_path, content, name)
        assert f"and the {lines} lines are rows by themselves. Set data.format.quotes=false" in message
        assert len(read(content, name, quotes=False)) == content.count("\n") - 1

    @pytest.mark.parametrize(
        ("text", "label"),
        [
            ("Dear sir,\nI like it, really\nbye", "pos"),
            ("well, pos\nbut no", "neg"),
            ("first\nsecond\n\nthird", "pos"),
            ("one, two\nthree, four\nfive, six\nseven", "pos"),
            ("pos,\nneg,\npos,\nall in all", "neg"),
            ("name;price\nlamp;5", "pos"),
            ('he said "yes",\nshe said "no"', "neg"),
            ("Pros:,fast\nCons:,loud\n", "neutral"),
            ("Pros:\tfast\nCons:\tloud\nthat is all", "neutral"),
            ("\tindented\nand not", "pos"),
        ],
    )
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_texts_of_several_lines_are_texts(self, read, tmp_path, caplog, text, label, end):
        rows = [*PLAIN, (text.replace("\n", end), label), *PLAIN]
        for delimiter in (",", "\t"):
            with (tmp_path / "train.csv").open("w", newline="") as file:
                csv.writer(file, delimiter=delimiter).writerows([("text", "label"), *rows])
            with caplog.at_level("INFO", logger="peftlab"):
                texts = read((tmp_path / "train.csv").read_bytes(), delimiter=delimiter)
            assert pairs(texts) == rows
            assert texts.counts == {"rows_over_lines": 1}
            assert caplog.records[-1].getMessage().endswith("1 of 7 rows go over several lines, in quotes")

    def test_nothing_is_said_of_rows_of_one_line(self, read, caplog):
        with caplog.at_level("INFO", logger="peftlab"):
            assert read('text,label\n"a, b",1\nc,2\n').counts == {}
        assert not caplog.records


class TestDelimiters:
    @pytest.mark.parametrize(
        ("content", "options", "setting"),
        [
            ("text;label\nhello, there;pos\nx;neg\n", {}, "\"data.format.delimiter=';'\""),
            ('"text";"label"\n"hello, there";"pos"\n', {}, "\"data.format.delimiter=';'\""),
            ("text\tlabel\nhello\tpos\n", {}, "data.format.delimiter=tab"),
            ("text|label\nhello, you|pos\n", {}, "\"data.format.delimiter='|'\""),
            ("id;text;score;label\n1;a;1,5;pos\n2;b;2,5;neg\n", {}, "\"data.format.delimiter=';'\""),
            ("text,label\nhello,pos\n", {"delimiter": ";"}, "\"data.format.delimiter=','\""),
            ("text;label\n" + "a;pos\n" * 9 + "b; c;neg\n", {}, "\"data.format.delimiter=';'\""),
            ("a;pos\nb;neg\n", {"header": False, "text": 0, "label": 1}, "\"data.format.delimiter=';'\""),
            ("text;label\nhello;pos\n", {"text": "text", "label": "label"}, "\"data.format.delimiter=';'\""),
        ],
    )
    def test_another_one_is_named_as_it_can_be_typed(self, read, tmp_path, content, options, setting):
        message = told(read, tmp_path, content, **options)
        assert message.startswith("train.csv: the delimiter is not ")
        assert message.endswith(f"Set {setting}.")

    @pytest.mark.parametrize("delimiter", ["tab", r"\t", r"'\t'", r'"\t"', "Tab", "\t"])
    def test_a_tab_as_it_can_be_typed(self, read, delimiter):
        assert pairs(read("text\tlabel\na, b\t1\n", delimiter=delimiter)) == [("a, b", "1")]

    @pytest.mark.parametrize("line", ["sep=;\n", "sep=;\r\n", "SEP=;\n", '"sep=;"\n'])
    def test_the_first_line_of_excel(self, read, tmp_path, line):
        (text,) = read(f"{line}text;label\na, b;1\n")
        assert (text.text, text.label, text.line) == ("a, b", "1", 3)
        assert pairs(read(f"{line}text;label\na, b;1\n", delimiter=";")) == [("a, b", "1")]
        assert told(read, tmp_path, f"{line}text;label\na;b;1\n").startswith("train.csv:3: expected 2 columns as in")
        assert pairs(read("sep=\t\ntext\tlabel\na\t1\n")) == [("a", "1")]

    def test_a_text_like_it_is_a_text(self, read):
        assert pairs(read("text,label\nsep=;,1\n")) == [("sep=;", "1")]
        assert pairs(read("septum,label\na,1\n")) == [("a", "1")]


class TestGroups:
    CONTENT = "text,label,doc\na,1,d 1\nb,2, d2 \n"

    @pytest.mark.parametrize("group", ["doc", 2, -1])
    def test_a_column(self, read, group):
        assert [text.group for text in read(self.CONTENT, group=group)] == ["d 1", "d2"]

    def test_by_default_there_is_none(self, read):
        assert [text.group for text in read(self.CONTENT)] == [None, None]

    def test_one_that_is_empty_or_not_there(self, read, tmp_path):
        assert told(read, tmp_path, f"{self.CONTENT}c,1,\n", group="doc").startswith("train.csv:4: the group is empty.")
        with groups_may_be_empty():
            assert [text.group for text in read(f"{self.CONTENT}c,1, \n", group="doc")] == ["d 1", "d2", NO_GROUP]
        assert "there is no column 'docs'. Did you mean 'doc'?" in told(read, tmp_path, self.CONTENT, group="docs")
        assert "label and group are the same column" in told(read, tmp_path, self.CONTENT, group="label")


def test_weights(read, tmp_path):
    rows = "text,label,w\na,x,0.5\nb,y,\n"
    assert [text.weight for text in read(rows, weight="w")] == [0.5, None]
    assert [text.weight for text in read(rows, weight=-1)] == [0.5, None]
    assert [text.weight for text in read("text,label\na,x\n", weight="w")] == [None]  # labelled by hand
    wrong = told(read, tmp_path, "text,label,w\na,x,0\n", weight="w")
    assert wrong == "train.csv:2: the weight is '0'; expected a number above 0. Mend or remove the row."


def test_nul_characters_end_no_file(read):
    assert pairs(read("text,label\na\0b,1\n\0,2\nc,1\n")) == [("a\0b", "1"), ("\0", "2"), ("c", "1")]

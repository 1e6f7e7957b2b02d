import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from peftlab.data.columns import Columns
from peftlab.errors import DataError
from peftlab.tasks.inputs.words import Sentence

WNUT17 = Path(__file__).parents[3] / ".." / "shared" / "data" / "wnut17"

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "train.conll"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def read(path: Path, **options) -> list[Sentence]:
    return Columns(**options).read({"train": path})["train"]


def read_words(path: Path, **options) -> list[list[str]]:
    return [sentence.words for sentence in read(path, **options)]


def error_of(path: Path, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    return message.removeprefix(f"{path}:")


def test_a_sentence_has_words_tags_and_where_they_stand(write: Write) -> None:
    path = write("EU B-ORG\nrejects O\n\nPeter B-PER\nBlackburn I-PER\n")
    assert read(path) == [
        Sentence("train:0", ["EU", "rejects"], ["B-ORG", "O"], str(path), [1, 2]),
        Sentence("train:1", ["Peter", "Blackburn"], ["B-PER", "I-PER"], str(path), [4, 5]),
    ]


def test_every_split_is_read_and_numbered_from_zero(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"{name} O\n\n{name} O\n")
    splits = Columns().read({"train": tmp_path / "a", "test": tmp_path / "b"})
    assert {split: [each.id for each in found] for split, found in splits.items()} == {
        "train": ["train:0", "train:1"],
        "test": ["test:0", "test:1"],
    }
    assert splits["test"][1].words == ["b"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("a O\nb O\n\nc O\n", id="plain"),
        pytest.param("a O\nb O\n\nc O", id="no final newline"),
        pytest.param("a O\r\nb O\r\n\r\nc O\r\n", id="CRLF"),
        pytest.param("a O\r\nb O\r\n\r\nc O\r", id="CR at the end"),
        pytest.param("\ufeffa O\nb O\n\nc O\n", id="byte order mark"),
        pytest.param("\n\na O\nb O\n\n\n\nc O\n\n\n", id="several blank lines"),
        pytest.param("a O\nb O\n \t \nc O\n\t", id="lines of spaces and tabs"),
        pytest.param("-DOCSTART- O\n\na O\nb O\n-DOCSTART- -X- -X- O\nc O\n", id="DOCSTART"),
        pytest.param("a  \t O\nb\tO\n\n c O \n", id="runs of spaces and tabs"),
        pytest.param("# id = 1\na O\n# in between\nb O\n\n#\nc O\n# end", id="comments"),
    ],
)
def test_layouts(write: Write, content: str) -> None:
    assert read_words(write(content)) == [["a", "b"], ["c"]]


def test_four_columns_and_chosen_ones(write: Write) -> None:
    path = write("EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n")
    assert read(path)[0].tags == ["B-ORG", "O"]
    assert read(path, tag_column=2)[0].tags == ["B-NP", "B-VP"]
    assert read(path, tag_column=-2, word_column=1)[0].words == ["NNP", "VBZ"]
    first = write("B-ORG EU\nO rejects\n")
    assert read(first, word_column=-1, tag_column=0)[0].words == ["EU", "rejects"]


def test_a_given_separator_splits_exactly(write: Write) -> None:
    assert read_words(write("New York\tB-LOC\n  \tO\n"), separator="\t") == [["New York", "  "]]
    assert read_words(write("a||O\nb||O\n"), separator="||") == [["a", "b"]]
    assert "2: expected 2 columns as in line 1, found 3" in error_of(write("a\tO\nb\t\tO\n"), separator="\t")


@pytest.mark.parametrize("character", ["\u2028", "\x85", "\xa0", "\x0b", "\x0c", "\x1c", "\u3000", "\r"])
def test_only_line_feed_ends_a_line_and_only_space_and_tab_a_column(write: Write, character: str) -> None:
    word = f"a{character}b"
    path = write(f"{word} O\n{character} B-PER\n")
    assert read(path) == [Sentence("train:0", [word, character], ["O", "B-PER"], str(path), [1, 2])]


def test_a_hash_is_a_word_where_the_line_has_the_columns_and_a_tag(write: Write) -> None:
    content = "# O\n#nfl\tB-group\n# sent_id = 1\n# newdoc\n#\nfan O\n#1 I-x-y\n"
    assert read_words(write(content), invalid_tags="repair") == [["#", "#nfl", "fan", "#1"]]
    assert read_words(write("# text = O\na b c d O\n")) == [["a"]]  # ends in a tag, but has four of five columns


@pytest.mark.parametrize(
    ("scheme", "content"),
    [
        ("iob1", "a I-PER\nb I-PER\nc B-PER\nd O\n"),
        ("bio", "a B-PER\nb I-PER\nc B-PER\nd O\n"),
        ("bioes", "a B-PER\nb E-PER\nc S-PER\nd O\n"),
        ("bioes", "a B-PER\nb L-PER\nc U-PER\nd O\n"),
    ],
)
def test_tags_become_bio(write: Write, scheme: str, content: str) -> None:
    path = write(content)
    for options in ({}, {"scheme": scheme}, {"invalid_tags": "repair"}):
        assert read(path, **options)[0].tags == ["B-PER", "I-PER", "B-PER", "O"]


def test_the_scheme_is_that_of_all_files_together(tmp_path: Path) -> None:
    train, test = tmp_path / "train", tmp_path / "test"
    train.write_text("a I-PER\nb B-PER\n")
    test.write_text("a O\n\nb I-PER\n")
    splits = Columns().read({"test": test, "train": train})
    assert [each.tags for each in splits["test"]] == [["O"], ["B-PER"]]
    train.write_text("a B-PER\n")  # now the files are possible together in no scheme
    with pytest.raises(DataError, match=re.escape(f"{test}:3: I-PER cannot start a sentence in the bio scheme")):
        Columns().read({"train": train, "test": test})


def test_an_impossible_tag_names_its_line_and_both_ways_out(write: Write) -> None:
    content = "-DOCSTART- O\n\na B-PER\n\n# x\nb O\nc I-PER\n"
    message = error_of(write(content))
    assert message.startswith("7: I-PER cannot follow O in the bio scheme (detected). ")
    assert "data.format.scheme=" in message
    assert "data.format.invalid_tags=repair" in message
    assert [each.tags for each in read(write(content), invalid_tags="repair")] == [["B-PER"], ["O", "B-PER"]]


def test_a_scheme_that_is_not_that_of_the_file(write: Write) -> None:
    message = error_of(write("a O\nb S-PER\n"), scheme="bio")
    assert message.startswith("2: S-PER is not a tag of the bio scheme, which has O, B-TYPE, I-TYPE. ")
    assert error_of(write("a B-PER\n\nb B-PER\n\nc O\n"), scheme="bioes").startswith(
        "1: B-PER cannot end a sentence in the bioes scheme. "
    )


@pytest.mark.parametrize("tag", ["X-PER", "B", "B-", "PER"])
@pytest.mark.parametrize("invalid_tags", ["error", "repair"])
def test_a_malformed_tag_is_never_repaired(write: Write, tag: str, invalid_tags: str) -> None:
    message = error_of(write(f"a O\n\nb {tag}\n"), invalid_tags=invalid_tags)
    assert message.startswith(f"3: {tag!r} is not a tag; allowed are O, B-TYPE, I-TYPE")
    assert "data.format.tag_column=-1" in message


def test_an_empty_tag_or_word(write: Write) -> None:
    assert error_of(write("a\tO\nb\t\n"), separator="\t").startswith("2: '' is not a tag")
    assert error_of(write("a\tO\n\tO\n"), separator="\t").startswith("2: the word is empty. ")


def test_a_wrong_number_of_columns(write: Write) -> None:
    message = error_of(write("# one two three\n\na x O\n\nb x O\nc O\n"))
    assert message.startswith("6: expected 3 columns as in line 3, found 2. ")
    assert "data.format.separator" in message


@pytest.mark.parametrize("key", ["word_column", "tag_column"])
@pytest.mark.parametrize("column", [2, 5, -3])
def test_a_column_out_of_range(write: Write, key: str, column: int) -> None:
    message = error_of(write("\na O\n"), **{key: column})
    assert message.startswith(f"2: data.format.{key}={column} is out of range, the line has 2 columns. ")
    assert "Allowed are -2 to 1" in message


def test_word_and_tag_in_the_same_column(write: Write) -> None:
    message = error_of(write("a O\n"), separator="\t")
    assert message.startswith("1: word and tag are the same column of 1. ")
    assert "data.format.separator" in message
    assert error_of(write("a O\n"), tag_column=0).startswith("1: word and tag are the same column of 2. ")


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", " \n\t\r\n", "# only\n# comments\n", "-DOCSTART- O\n\n"])
def test_an_empty_split(write: Write, content: str) -> None:
    assert error_of(write(content)).startswith(" empty split 'train': the file holds no sentence. ")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_invalid_utf8_names_the_line_and_the_byte(write: Write, mark: bytes) -> None:
    path = write(mark + "é O\n\n".encode() + b"caf\xe9 O\n")
    assert error_of(path) == "3: byte 0xe9 is not UTF-8. Save the file as UTF-8."


def test_a_missing_file_suggests_the_one_that_is_near(write: Write, tmp_path: Path) -> None:
    write("a O\n")
    assert error_of(tmp_path / "trian.conll") == " no such file. Did you mean 'train.conll'?"
    assert error_of(tmp_path / "xyz") == f" no such file. Files in {tmp_path}: train.conll."
    nowhere = tmp_path / "no" / "train.conll"
    assert error_of(nowhere) == f" no such file. Its folder {nowhere.parent} does not exist."


def test_a_folder_or_an_unreadable_path_instead_of_a_file(write: Write, tmp_path: Path) -> None:
    path = write("a O\n")
    assert error_of(tmp_path) == f" is a folder, expected a file. Files in {tmp_path}: train.conll."
    assert error_of(path / "below").startswith(" cannot be read (Not a directory). ")


@pytest.mark.parametrize(
    "options", [{"colum": 1}, {"scheme": "iob3"}, {"separator": ""}, {"invalid_tags": "drop"}, {"word_column": "x"}]
)
def test_options_are_checked(options: dict) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        Columns(**options)


@pytest.mark.slow
@pytest.mark.skipif(not WNUT17.is_dir(), reason="the WNUT-17 files are not there")
@pytest.mark.parametrize("separator", [None, "\t"])
def test_wnut17(separator: str | None) -> None:
    files = {"train": "wnut17train.conll", "validation": "emerging.dev.conll", "test": "emerging.test.annotated"}
    splits = Columns(separator=separator).read({split: WNUT17 / name for split, name in files.items()})
    assert {split: len(found) for split, found in splits.items()} == {"train": 3394, "validation": 1009, "test": 1287}
    words = {split: sum(len(each.words) for each in found) for split, found in splits.items()}
    assert words == {"train": 62730, "validation": 15733, "test": 23394}
    entities = {split: sum(tag[0] == "B" for each in found for tag in each.tags) for split, found in splits.items()}
    assert entities == {"train": 1975, "validation": 836, "test": 1079}
    assert sum(each.words.count("#") for each in splits["test"]) > 0


BIO = "a B-PER\nb I-PER\nc O\n\n"


@pytest.mark.parametrize(
    ("scheme", "content", "tags"),
    [
        ("bmes", "林 B-NAME\n小 M-NAME\n雨 M-NAME\n江 E-NAME\n在 O\n", "B-NAME I-NAME I-NAME I-NAME O"),
        ("bmes", "林 B-NAME\n小 E-NAME\n王 S-NAME\n", "B-NAME I-NAME B-NAME"),
        ("bmewo", "林 W-NAME\n小 B-NAME\n雨 M-NAME\n江 E-NAME\n", "B-NAME B-NAME I-NAME I-NAME"),
        ("bilou", "a B-PER\nb L-PER\nc U-PER\n", "B-PER I-PER B-PER"),
        ("ioe2", "a E-PER\nb I-PER\nc E-PER\nd O\n", "B-PER B-PER I-PER O"),
        ("ioe2", "a I-PER\nb I-PER\nc E-PER\nd E-LOC\n", "B-PER I-PER I-PER B-LOC"),
        ("ioe1", "a I-PER\nb E-PER\nc I-PER\nd O\n", "B-PER I-PER B-PER O"),
        ("ioe1", "a E-PER\nb E-PER\nc I-PER\n", "B-PER B-PER B-PER"),
    ],
)
def test_other_schemes_are_found_named_and_repaired_alike(write: Write, scheme: str, content: str, tags: str) -> None:
    path = write(content)
    for options in ({}, {"scheme": scheme}, {"invalid_tags": "repair"}):
        assert read(path, **options)[0].tags == tags.split()


@pytest.mark.parametrize("stray", ["S-PER", "E-PER", "L-PER", "U-LOC", "W-PER"])
def test_a_stray_tag_is_blamed_and_makes_no_other_scheme_of_the_file(write: Write, stray: str) -> None:
    message = error_of(write(f"{BIO * 5}x O\ny {stray}\n\n{BIO}"))
    assert message.startswith(f"22: {stray} is not a tag of the bio scheme, which has O, B-TYPE, I-TYPE (detected)")


@pytest.mark.parametrize(
    ("right", "stray", "blamed"),
    [
        ("a B-X\nb E-X\n\nc S-X\n\n", "x B-X\ny O\n", "17: O cannot follow B-X in the bioes scheme"),
        ("a I-X\nb I-X\nc B-X\n\n", "x O\ny B-X\n", "14: B-X cannot follow O in the iob1 scheme"),
        ("a E-X\nb I-X\nc E-X\n\n", "x I-X\ny O\n", "14: O cannot follow I-X in the ioe2 scheme"),
    ],
)
def test_what_most_sentences_say_holds(write: Write, right: str, stray: str, blamed: str) -> None:
    assert error_of(write(right * 3 + stray)).startswith(f"{blamed} (detected)")


@pytest.mark.parametrize(
    ("tag", "meant"),
    [
        ("b-PER", "B-PER"),
        ("B_PER", "B-PER"),
        ("i_per", "I-per"),
        ("PER-B", "B-PER"),
        ("PER_S", "S-PER"),
        ("B:PER", "B-PER"),
        ("o", "O"),
        ("0", "O"),
    ],
)
def test_another_spelling_of_a_tag_is_told_with_the_right_one(write: Write, tag: str, meant: str) -> None:
    for content in (f"{BIO}x {tag}\n", f"x {tag}\n" * 4):
        message = error_of(write(content))
        assert f"{tag!r} is not a tag" in message
        assert message.endswith(f"Write {meant!r}.")
        assert "tag_column" not in message


def test_the_column_is_doubted_where_most_of_it_is_no_tag(write: Write) -> None:
    assert "Or set data.format.tag_column=0, which has tags" in error_of(write("B-PER a\nO b\nO c\n"))
    assert "data.format.tag_column=1, which has tags" in error_of(write("EU B-ORG NNP\nsays O VBZ\nso O RB\n"))
    assert "tag_column" not in error_of(write(f"{BIO}x PRE\n"))


@pytest.mark.parametrize("separator", ["tab", "TAB", r"\t", r'"\t"', r"'\t'", '"tab"', "\t"])
def test_a_tab_as_it_can_be_typed(write: Write, separator: str) -> None:
    assert read_words(write("New York\tB-LOC\nin\tO\n"), separator=separator) == [["New York", "in"]]


@pytest.mark.parametrize(
    ("content", "options", "way_out"),
    [
        ("New York\tB-LOC\nin\tO\n", {}, "set data.format.separator=tab."),
        ("in,O\nRome,B-LOC\n", {}, "set \"data.format.separator=','\"."),
        ("in;O\nRome;B-LOC\n", {}, "set \"data.format.separator=';'\"."),
        ("in|O\nRome|B-LOC\n", {}, "set \"data.format.separator='|'\"."),
        ("in O\nRome B-LOC\n", {"separator": "tab"}, "set data.format.separator=null."),
        ("in O\nRome\n", {}, "set data.format.separator to what separates the columns."),
    ],
)
def test_another_separator_is_named_as_it_can_be_typed(write: Write, content: str, options: dict, way_out: str) -> None:
    assert error_of(write(content), **options).endswith(way_out)


def test_space_around_a_tag(write: Write) -> None:
    assert error_of(write("a\tO\nb\t B-LOC\n"), separator="tab").endswith(
        "Write 'B-LOC'. Or set data.format.separator=null."
    )


@pytest.mark.parametrize(
    "content", ["a O\rb O\r\rc O\r", "-DOCSTART- O\r\ra O\rb O\r\rc O", "\r\ra\tO\rb\tO\r\r\rc\tO"]
)
def test_carriage_returns_end_lines_where_no_line_feed_does(write: Write, content: str) -> None:
    assert read_words(write(content)) == [["a", "b"], ["c"]]


def test_lines_of_two_systems_are_no_words_of_several(write: Write) -> None:
    assert error_of(write("a O\rb O\r\rc O\nd O\n")).startswith("1: carriage returns stand between words")
    assert error_of(write("x O\n\na O\rb O\nd O\n")).startswith("3: expected 2 columns as in line 1, found 3")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_encodings_that_say_what_they_are(write: Write, encoding: str) -> None:
    assert read_words(write("é O\nß O\n".encode(encoding))) == [["é", "ß"]]


@pytest.mark.parametrize(
    "marker",
    [
        "-DOCSTART-",
        "-DOCSTART- -X- -X- O",
        "-docstart- O",
        " -DOCSTART-\tO",
        '"-DOCSTART-"',
        "--DOCSTART-- O",
        "DOCSTART",
    ],
)
def test_documents_are_the_groups_of_sentences(write: Write, marker: str) -> None:
    content = f"{marker}\n\na O\n\nb O\n{marker}\n{marker}\nc O\n\n{marker}\n"
    assert [(each.words, each.group) for each in read(write(content))] == [(["a"], "0"), (["b"], "0"), (["c"], "1")]


def test_documents_of_a_file_that_begins_without_a_marker_or_has_none(write: Write) -> None:
    assert [each.group for each in read(write("a O\n\n-DOCSTART- O\n\nb O\n\nc O\n"))] == ["0", "1", "1"]
    assert [each.group for each in read(write("a O\n\nb O\n"))] == [None, None]
    assert read_words(write("docstarts O\n-DOC O\n")) == [["docstarts", "-DOC"]]


def test_sentences_without_blank_lines_between_them_are_told(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    read(write("a O\n" * 500))
    assert not caplog.records
    path = write("b O\n\n" + "a O\n" * 501)
    read(path)
    assert [each.getMessage() for each in caplog.records] == [
        f"{path}: a sentence of 501 words, lines 3 to 503: are blank lines between sentences missing?"
    ]

"""Files are written again in their own format, without personal data."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pyarrow
import pytest
from pyarrow import parquet

from peftlab import cli

MAIL = "bob@acme.org"


@pytest.fixture
def mask(capsys):
    def execute(*arguments):
        try:
            code = cli.main(["mask", *map(str, arguments)])
        except SystemExit as error:
            code = error.code
        return code or 0, *capsys.readouterr()

    return execute


FILES = {
    "a.csv": (f'text,label\n"Ask, {MAIL}",x\n"two\nlines",y\n', 'text,label\n"Ask, [EMAIL]",x\n"two\nlines",y\n'),
    "a.tsv": (f"{MAIL}\t1\nb\t2\n", "[EMAIL]\t1\nb\t2\n"),
    "a.jsonl": (
        f'{{"text":"{MAIL}", "n": 1}}\n{{"text":"caf\\u00e9",  "n": 2}}\n',
        '{"text": "[EMAIL]", "n": 1}\n{"text":"caf\\u00e9",  "n": 2}\n',
    ),
    "a.json": (
        json.dumps({"data": [{"context": f"Ask {MAIL} or Eve", "answers": [{"text": "Eve", "answer_start": 20}]}]}),
        json.dumps({"data": [{"context": "Ask [EMAIL] or Eve", "answers": [{"text": "Eve", "answer_start": 15}]}]}),
    ),
    "a.conll": (
        f"-DOCSTART- X O\n\nAsk VB O\n{MAIL} NN B-PER\n\n+49\tCD\tO\n30\tCD\tO\n901820\tCD\tO\n",
        "-DOCSTART- X O\n\nAsk VB O\n[EMAIL] NN B-PER\n\n[PHONE]\tCD\tO\n[PHONE]\tCD\tO\n[PHONE]\tCD\tO\n",
    ),
    "tagged.txt": (f"Ask O\n{MAIL} B-PER\n", "Ask O\n[EMAIL] B-PER\n"),
    "plain/neg/a.txt": (f"Ask\n{MAIL}\n", "Ask\n[EMAIL]\n"),
    "plain/seq.in": (f"ask {MAIL} twice\n+49 30 901820\n", "ask [EMAIL] twice\n[PHONE] [PHONE] [PHONE]\n"),
    "plain/seq.out": ("O B-x O\nO O O\n", "O B-x O\nO O O\n"),
}


def test_every_format(mask, tmp_path):
    for name, (content, _) in FILES.items():
        file = tmp_path / "in" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    (tmp_path / "in" / "picture.png").write_bytes(b"\x89")
    code, out, err = mask(tmp_path / "in", "--out", tmp_path / "out", "--json")
    assert code == 0
    assert "picture.png" in err
    for name, (_, expected) in FILES.items():
        assert (tmp_path / "out" / name).read_text(encoding="utf-8") == expected, name
    report = json.loads(out)
    assert report["files"] == 8
    assert report["found"]["word"] == {"email": 2, "phone": 1}
    assert "acme" not in out + err
    assert mask(tmp_path / "out", "--check")[:2] == (0, "nothing found in 8 files\n")
    assert mask(tmp_path / "in", "--check")[0] == 1


def test_comments_of_column_files_are_masked_and_no_other_column_is(mask, tmp_path):
    content = f"# text = Ask {MAIL}\n1 Ask O\n# # O\n\n# {MAIL}\n3              {MAIL}   {MAIL}   O\n"
    (tmp_path / "a.conll").write_text(content, encoding="utf-8")
    code, out, _ = mask(tmp_path / "a.conll", "--out", tmp_path / "b.conll", "--word-column", 1, "--json")
    assert code == 0
    assert (tmp_path / "b.conll").read_text(encoding="utf-8") == (
        f"# text = Ask [EMAIL]\n1 Ask O\n# # O\n\n# [EMAIL]\n3              [EMAIL]   {MAIL}   O\n"
    )
    assert json.loads(out)["found"] == {"comment": {"email": 2}, "word": {"email": 1}}
    assert mask(tmp_path / "a.conll", "--out", tmp_path / "c.conll", "--word-column", 2)[0] == 0
    assert (tmp_path / "c.conll").read_text(encoding="utf-8").endswith(f"3              {MAIL}   [EMAIL]   O\n")


def test_surrogates_agree_over_files(mask, tmp_path):
    for name in ("a.csv", "b.jsonl"):
        (tmp_path / name).write_text(f'"{MAIL}"\n')
    assert mask("--new-key", tmp_path / "key")[0] == 0
    for name in ("a.csv", "b.jsonl"):
        assert (
            mask(tmp_path / name, "--out", tmp_path / f"o{name}", "--with", "surrogate", "--key", tmp_path / "key")[0]
            == 0
        )
    (row,) = csv.reader([(tmp_path / "oa.csv").read_text().strip()])
    assert row == [json.loads((tmp_path / "ob.jsonl").read_text())]
    assert row[0].endswith(".invalid")


def test_what_a_link_to_a_folder_holds_is_masked(mask, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_text(f"Ask {MAIL}\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "linked").symlink_to("../elsewhere")
    assert mask(tmp_path / "data", "--check")[0] == 1
    assert mask(tmp_path / "data", "--out", tmp_path / "out")[0] == 0
    assert (tmp_path / "out" / "linked" / "a.txt").read_text() == "Ask [EMAIL]\n"


def test_a_parquet_file(mask, tmp_path):
    table = pyarrow.table(
        {"text": [MAIL, None], "words": [["a", MAIL], []], "n": pyarrow.array([1, 2], pyarrow.int8())}
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    assert mask(tmp_path / "a.parquet", "--out", tmp_path / "b.parquet")[0] == 0
    masked = parquet.read_table(tmp_path / "b.parquet")
    assert masked.schema.equals(table.schema)
    assert masked.to_pydict() == {"text": ["[EMAIL]", None], "words": [["a", "[EMAIL]"], []], "n": [1, 2]}


def test_what_cannot_be_done_is_said(mask, tmp_path):
    file, other = tmp_path / "a.csv", tmp_path / "a.bin"
    file.write_text(f"text\n{MAIL}\n")
    other.write_text("x")
    out, folder = tmp_path / "out", tmp_path / "folder"
    folder.mkdir()
    for arguments, message in (
        ((file,), "--out PATH or --check, one of them"),
        ((file, "--check", "--out", out), "one of them"),
        ((file, "--check", "--with", "refuse"), "--check writes nothing"),
        ((file, "--out", file), "is the data itself"),
        ((file, "--out", folder), f"is a folder, and {file} is a file; name a file"),
        ((folder, "--out", other), f"is a file, and {folder} is a folder; name a folder"),
        ((file, "--out", out, "--with", "refuse"), f"{file}:2: text: it holds personal data: email at"),
        ((other, "--check"), "--format"),
        ((tmp_path / "none", "--check"), "no such file"),
        ((file, "--check", "--kinds", "mail"), "Did you mean 'email'"),
        ((file, "--check", "--names-types", "PER"), "--names RUN"),
        ((file, "--check", "--kinds", "email,ip", "--regions", "DE"), "email, ip look alike in all countries"),
        ((file, "--check", "--word-column", "1"), "no file is one of columns"),
        ((file, "--new-key", out), "leave the rest out"),
        (("--new-key", out, "--check"), "leave the rest out"),
    ):
        code, _, err = mask(*arguments)
        assert code == 2
        assert message in err
        assert "bob" not in err
        assert not out.exists()


@pytest.mark.slow
def test_nothing_heavy_is_imported(tmp_path):
    """In a process of its own: modules that are imported anew would have other classes than those of other tests."""
    (tmp_path / "a.csv").write_text("text\nx\n")
    code = (
        "import sys; from peftlab.cli import main; main(sys.argv[1:]);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'lightning')))"
    )
    command = [sys.executable, "-c", code, "mask", str(tmp_path / "a.csv"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

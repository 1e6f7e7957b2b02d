"""Markdown and LaTeX: every kind of block, and names that strangers choose."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from tests.unit.report.sample import DOCUMENT

from peftlab.report import latex, markdown
from peftlab.report.document import Cell, Column, Document, Figure, Listing, Paragraph, Section, Table

NASTY = "a|b <script>*x*</script> `c` $d$ #e {f} \\g & &lt; 50% ~ ^ [h](javascript:i) _j_ k_l \x1b[2J\n\u202em"


def nasty():
    table = Table("t", (Column(NASTY),), ((Cell(NASTY, strong=True, note=NASTY),),), NASTY)
    return Document(
        NASTY, NASTY, [Section("s", NASTY, (Paragraph(NASTY), Paragraph("# no heading\n1. nor list"), table))]
    )


def test_markdown_has_every_block():
    page = markdown.page(DOCUMENT)
    assert page.startswith("# ")
    for kind in ("\n## ", "\n### ", "](figures/", "\n|---", "```text", "<details>", "- **Warning:**"):
        assert kind in page, kind


def test_markdown_shows_names_as_they_are():
    page = markdown.page(nasty())
    assert "<script>" not in page.replace("\\<script\\>", "")
    assert not re.search(r"(?<!\\)[*`$\[]", page.replace("**", "").replace("<sub>", ""))
    assert not set("\x1b\u202e") & set(page + latex.page(nasty()))
    assert "\\# no heading\n1\\. nor list" in page
    assert "k_l" in page
    (row,) = [line for line in page.splitlines() if line.startswith("| **")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 2


def test_latex_is_balanced_and_escaped():
    for document in (DOCUMENT, nasty()):
        page = latex.page(document)
        begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", page) for word in ("begin", "end"))
        assert sorted(begun) == sorted(ended)
        bare = re.sub(r"\\[\\{}$&#_%]", "", page)
        assert bare.count("{") == bare.count("}")
        body = bare.split(r"\begin{document}")[1].replace(r"~\ref", "")
        assert not re.search(r"[\x1b$^~]", body.replace("~", "", body.count("~\\\\")))
    for line in latex.page(nasty()).splitlines():
        if line.startswith(r"\textbf{a"):
            assert len(re.findall(r"(?<!\\)&", line)) == 0


def test_latex_says_all_that_a_table_says():
    columns = (Column("name"), Column("longer than its numbers", True, "in points"))
    table = Table("some", columns, ((Cell("* first"), Cell("1")),), "Cap")
    page = latex.page(Document("Лора ε", "", [Section("s", "S", (table, Listing(("run 'a' --b",))))]))
    assert r"\shortstack[r]{longer\\than\\its\\numbers}" in page
    assert "longer than its numbers: in points" in page
    assert r"See Table~\ref{tab:some}." in page
    assert "{*} first &" in page
    assert r"run \textquotesingle{}a\textquotesingle{} -{}-b" in page
    assert r"\DeclareUnicodeCharacter{041B}{\texttt{U+041B}}" in page
    assert r"\(\varepsilon\)" in page
    assert latex.text("`x--y` ''") == r"\texttt{x-{}-y} '{}'"


def test_a_name_of_several_paragraphs_ends_no_heading_and_no_caption():
    """LaTeX refuses an argument with an empty line, and Markdown goes on with a paragraph that is neither."""
    name = "template={text}\n\nSentiment:"
    table = Table("t", (Column("x", note=name),), ((Cell("y", note=name),),), name)
    document = Document(name, "", [Section("s", name, (table, Figure("f", "seeds", {}, name)))])
    shown = markdown.page(document)
    for line in ("# {}", "## {}", "**{}**", "<sub>x: {}</sub>", "*{}*"):
        assert line.format("template={text} Sentiment:") in shown.splitlines(), line
    page = latex.page(document)
    for begun in (r"\title{", r"\section{", r"\caption{", "y ("):
        assert begun + r"template=\{text\} Sentiment:" in page, begun


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
def test_latex_compiles(tmp_path):
    for number, document in enumerate((nasty(),)):
        file = tmp_path / f"{number}.tex"
        file.write_text(latex.page(document), encoding="utf-8")
        done = subprocess.run(["pdflatex", "-halt-on-error", file.name], cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]

"""The table of models: every option describes itself, and the page shows what the command prints."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from peftlab import cli
from peftlab.catalogue import model_table
from peftlab.composing.compose import conf_dir
from peftlab.errors import ConfigError

PAGE = conf_dir().parent / "docs" / "models.md"


def test_the_documented_table_is_what_the_command_prints(capsys):
    cli.main(["models", "--markdown"])
    documented = re.search(r"<!-- peftlab models --markdown -->\n(.*?)<!-- -->", PAGE.read_text(encoding="utf-8"), re.S)
    assert documented[1] == capsys.readouterr().out


def test_every_option_describes_itself(capsys):
    cli.main(["models", "--json"])
    rows = json.loads(capsys.readouterr().out)
    names = {path.stem for path in (conf_dir() / "model").glob("*.yaml")} - {"folder"}
    assert {row["name"] for row in rows} == names
    assert [row["parameters"] for row in rows] == sorted(row["parameters"] for row in rows)
    for row in rows:
        assert 5 < row["parameters"] < 9000, row
        languages = r"(English|Chinese)(, [\w, ]+)?|(about )?\d+"
        assert re.fullmatch("none" if row["kind"] == "vision" else languages, row["languages"]), row
        assert row["kind"] in ("encoder", "decoder", "encoder-decoder", "vision", "speech"), row
        gated = "Gated: accept its licence on the hub" in row["note"]
        assert gated == (row["licence"] not in ("Apache-2.0", "MIT")), row
        assert re.match(r"\S.*M parameters.*\S$", row["note"]), row


def test_one_of_them(capsys):
    cli.main(["models", "e5_small_multilingual"])
    printed = capsys.readouterr().out
    assert re.search(r"^parameters +118M$", printed, re.MULTILINE)
    assert "converted once" in printed
    assert "Languages" not in printed


def test_one_that_is_not_there():
    with pytest.raises(ConfigError, match=r"there is no model 'minlm'\. Did you mean 'minilm'\? Allowed: albert, "):
        list(model_table.rows(["minlm"]))


def test_a_file_without_a_description(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "own.yaml").write_text("# Ours\nname: own\n")
    monkeypatch.setattr(model_table, "conf_dir", lambda: tmp_path)
    with pytest.raises(ConfigError, match=r"own\.yaml: it does not begin with a description\. Write one such as"):
        list(model_table.rows())


@pytest.mark.slow
def test_it_imports_nothing_heavy():
    heavy = "{'torch', 'transformers', 'lightning'}"
    code = f"import sys, peftlab.catalogue.model_table; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"

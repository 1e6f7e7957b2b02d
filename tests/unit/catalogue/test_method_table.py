from __future__ import annotations

import json
import re
import warnings

import pytest

from peftlab import cli
from peftlab.catalogue import method_table
from peftlab.composing.compose import conf_dir
from peftlab.errors import ConfigError

PAGE = conf_dir().parent / "docs" / "methods.md"


def documented() -> str:
    return re.search(r"<!-- peftlab methods --markdown -->\n(.*?)<!-- -->", PAGE.read_text(encoding="utf-8"), re.S)[1]


def test_the_documentation_names_every_method():
    found = re.findall(r"^\| `(\w+)` \|", documented(), re.MULTILINE)
    assert found == method_table.method_names()


OFTEN = ["full", "head", "bitfit", "houlsby", "lora", "prefix_tuning"]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(OFTEN, marks=pytest.mark.slow, id="some"),
        pytest.param(
            [name for name in method_table.method_names() if name not in (*OFTEN, "frod")],
            marks=pytest.mark.exhaustive,
            id="the others",
        ),
    ],
)
def test_the_documented_table_is_what_the_command_prints(names, capsys):
    """But for FRoD's row: its decompositions of BERT-base take longer than all other rows together."""
    head, dashes, *rows = documented().splitlines()
    rows = {name: row for row in rows for name in names if row.startswith(f"| `{name}` |")}
    names = [*rows]
    assert method_table.markdown(list(method_table.rows(names))).splitlines() == [head, dashes, *rows.values()]
    cli.main(["methods", names[0], "--markdown"])
    assert capsys.readouterr().out.splitlines() == [head, dashes, rows[names[0]]]


def test_every_file_says_what_family_and_which_paper():
    for name in method_table.method_names():
        about = method_table.about(name)
        assert re.fullmatch(r"[a-z ]+", about.family), name
        if name not in ("full", "head", "combined"):
            assert about.url, name
            assert about.authors or name == "supertuning", name


@pytest.mark.slow
def test_lora_on_bert_base():
    """Rank 16 on six linear layers of 12 blocks, and a head for nine labels."""
    (row,) = method_table.rows(["lora"])
    expected = 16 * 12 * (4 * (768 + 768) + 2 * (768 + 3072)) + 9 * 769
    assert row.trainable_parameters == expected
    assert row.megabytes == pytest.approx(4e-6 * expected)
    assert row.mergeable
    assert row.tasks == ["ner", "classification"]


@pytest.mark.slow
def test_a_model_that_writes_text(tmp_path, capsys):
    from transformers import LlamaConfig

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    LlamaConfig(vocab_size=20, **sizes).save_pretrained(tmp_path)
    cli.main(["methods", "ia3", "--model", str(tmp_path), "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert row["tasks"] == ["causal_lm", "ner", "classification"]
    assert row["trainable_parameters"] == 4 * 16 + 2 * 16 + 24  # no head
    (bitfit,) = method_table.rows(["bitfit"], str(tmp_path))
    assert bitfit.writers == ["GPT-2"]
    assert "needs a model with biases" in method_table.details(bitfit)["not with T5"]


def test_a_model_of_ones_own_as_json(tiny_model, capsys):
    cli.main(["methods", "bitfit", "--model", str(tiny_model), "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    biases = 32 + 2 * (4 * 32 + 32 + 64 + 32 + 32)
    assert row["name"] == "bitfit"
    assert row["trainable_parameters"] == biases + 9 * 33
    assert "Ben Zaken" in row["authors"]


def test_one_method_in_detail(tiny_model, capsys):
    cli.main(["methods", "mam", "--model", str(tiny_model)])
    out = capsys.readouterr().out
    assert "Towards a Unified View of Parameter-Efficient Transfer Learning" in out
    assert re.search(r"merges +no", out)


def test_a_method_that_the_model_cannot_have(tmp_path):
    from transformers import DistilBertConfig

    DistilBertConfig(dim=16, n_layers=1, n_heads=2, hidden_dim=16, vocab_size=20).save_pretrained(tmp_path)
    (row,) = method_table.rows(["prefix_tuning"], str(tmp_path))
    assert row.tasks == []
    assert "takes no earlier keys and values" in row.problem
    assert "takes no earlier keys and values" in method_table.details(row)["not on this model"]


@pytest.mark.parametrize(
    ("names", "model", "message"),
    [(["lorra"], None, "Did you mean 'lora'"), (["lora"], "minilmm", "Did you mean 'minilm'")],
)
def test_names_that_are_not_there(names, model, message):
    with pytest.raises(ConfigError, match=message):
        list(method_table.rows(names, model))


@pytest.mark.slow
def test_nothing_but_the_table_is_said(tiny_model, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the peft library has one about what RandLoRA saves
        cli.main(["methods", "randlora", "--model", str(tiny_model)])
    assert capsys.readouterr().err == ""

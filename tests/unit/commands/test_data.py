from __future__ import annotations

import json

import pytest

from peftlab import cli


@pytest.fixture
def peftlab_data(capsys):
    """Return the exit code of ``peftlab data``, and what it prints."""

    def execute(*arguments):
        try:
            code = cli.main(["data", *map(str, arguments)])
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    return execute


@pytest.mark.slow
def test_a_card_is_printed(peftlab_data, tiny_texts):
    code, out, _ = peftlab_data(tiny_texts, "data.labels=[move,hire,report,nothing,compare]")
    assert code == 0
    parts = [part.splitlines() for part in out.split("\n\n")]
    heads = [part[0].split()[0] for part in parts]
    assert heads == ["data", "split", "class", "words", "example", "warnings"]
    assert parts[1][1].split()[:2] == ["train", "48"]
    assert len(parts[4]) == 11
    assert all(line.startswith("- ") for line in parts[5][1:])


@pytest.mark.slow
def test_a_card_is_a_document(peftlab_data, tiny_texts):
    code, out, _ = peftlab_data(tiny_texts, "--json")
    assert code == 0
    document = json.loads(out)
    assert {name: split["rows"] for name, split in document["splits"].items()} == {
        "train": 48,
        "validation": 16,
        "test": 16,
    }


def test_a_second_name_is_refused(peftlab_data):
    code, _, err = peftlab_data("conll2003", "tweet_sentiment")
    assert code == 2
    assert "'tweet_sentiment' is no setting" in err

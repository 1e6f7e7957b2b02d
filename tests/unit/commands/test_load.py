"""The command line of ``peftlab load``: keys and foreign machines."""

from __future__ import annotations

import argparse

import pytest

from peftlab.commands import load
from peftlab.errors import UserError


def execute(*arguments: str) -> None:
    parser = argparse.ArgumentParser()
    load.add_arguments(parser)
    load.execute(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture
def texts(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("one\ntwo\n\n", encoding="utf-8")
    return file


def test_another_machine_needs_a_word(texts):
    with pytest.raises(UserError, match=r"--yes-it-is-mine"):
        execute("http://192.0.2.1:8000", "--file", texts)


def test_a_key_comes_from_a_file_or_the_environment(texts, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no such environment variable"):
        execute("http://127.0.0.1:9", "--file", texts, "--key-env", "NOT_THERE")
    with pytest.raises(UserError, match="cannot be read as a key"):
        execute("http://127.0.0.1:9", "--file", texts, "--key-file", tmp_path / "none")
    monkeypatch.setenv("KEY", "a\nb: c")
    with pytest.raises(UserError, match="characters that no key has") as error:
        execute("http://127.0.0.1:9", "--file", texts, "--key-env", "KEY")
    assert "b: c" not in str(error.value)


def test_lines_and_objects_are_read(texts, tmp_path):
    objects = tmp_path / "objects.jsonl"
    objects.write_text('{"text": "a"}\n', encoding="utf-8")
    assert load._inputs(str(texts)) == ["one", "two"]
    assert load._inputs(str(objects)) == [{"text": "a"}]

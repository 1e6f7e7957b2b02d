"""What of an error is shown: no character that a terminal acts upon, and no file as a whole."""

import logging

import pytest

from peftlab.errors import MOST_CHARACTERS, ConfigError, RunError, UserError, escaped, presentable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines\tand 東京 🙂 \N{WOMAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER}", None),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\rb\x00\x7f\x9b", "a\\rb\\x00\\x7f\\x9b"),
        ("abc\u202egpj.exe\u2066", "abc\\u202egpj.exe\\u2066"),
        ("half \ud83d", "half \\ud83d"),
        ("\\x1b", "\\x1b"),
    ],
)
def test_characters_that_change_how_the_rest_is_shown_are_escaped(text, shown):
    assert escaped(text) == (text if shown is None else shown)
    assert escaped(escaped(text)) == escaped(text)


@pytest.mark.parametrize("kind", [UserError, ConfigError, RunError])
def test_a_message_of_any_length_has_its_beginning_and_its_end(kind):
    message = str(kind(f"data.csv:1: the header '{'x' * 2_000_000}' is odd. Mend it"))
    assert len(message) < MOST_CHARACTERS
    assert message.startswith("data.csv:1: the header 'xxx")
    assert message.endswith("xxx' is odd. Mend it")
    assert "1,996,5" in message
    assert presentable(message) == message
    assert str(kind("short \x1b")) == "short \\x1b"


def test_lines_of_the_log_too(capsys):
    from peftlab.terminal.console import start_logging

    start_logging(stderr=True)
    logging.getLogger("peftlab").warning("the label %s", "\x1b]0;gone\x07")
    assert "\\x1b]0;gone\\x07" in capsys.readouterr().err

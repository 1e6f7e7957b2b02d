"""Templates: what one must have, and what is written."""

from __future__ import annotations

import pytest

from peftlab.errors import ConfigError
from peftlab.tasks.prompting.template import Template, read_templates


def test_a_filled_template_and_what_stands_before_the_answer():
    template = Template.read("{text} and {pair}: {{{answer}}} .", is_decoder=False)
    assert template.filled("A", "B", "yes") == "A and B: {yes} ."
    assert template.before_answer("A", "B") == "A and B: {"
    assert (template.lead, template.after, template.has_pair) == (": {", "} .", True)
    spaced = Template.read("{text} It was  {answer}", is_decoder=True)
    assert spaced.before_answer("A", None) == "A It was"  # the spaces belong to the word
    assert spaced.filled("{answer}", None, "good") == "{answer} It was  good"  # a text is no template


@pytest.mark.parametrize(
    ("source", "is_decoder", "message"),
    [
        ("{text}", False, r"has \{answer\} 0 times; it must have it once"),
        ("{answer} {text} {answer}", False, r"has \{answer\} 2 times"),
        ("{answer} {text} {texts}", False, r"there is no place \{texts\}. Allowed: \{text\}, \{pair\}, \{answer\}"),
        ("{text} {answer", False, "expected '}' before end of string. Write a brace that stands for itself twice"),
        ("{text} was {answer} .", True, r"'\.' follows the answer, and a decoder predicts it from what comes before"),
    ],
)
def test_an_odd_template_is_refused(source, is_decoder, message):
    with pytest.raises(ConfigError, match=message):
        Template.read(source, is_decoder)


def test_a_list_has_each_template_once():
    assert len(read_templates(["{text} {answer}", "{answer}: {text}"], is_decoder=False)) == 2
    with pytest.raises(ConfigError, match="is there twice"):
        read_templates(["{text} {answer}"] * 2, is_decoder=False)
    with pytest.raises(ConfigError, match="an empty list"):
        read_templates([], is_decoder=False)

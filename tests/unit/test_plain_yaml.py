from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from peftlab import plain_yaml

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
TEXTS = [
    *("${", "${}", "${a", "$${a}", "${data.name}", "${oc.env:HOME}", "???", "1e3", "1_000", "yes", "~", "null", "0x1F"),
    *("12:30", "2026-01-01", "- a", "a: b", "# no comment", "'", '"', "", " ", "\u2028", "\x85", "a\nb", "\t", "!!x"),
]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_a_text_stays_what_it_is_as_a_value_and_as_a_label(text):
    config = {"name": text, "data": {"labels": [text, f"{text}{text}x"]}}
    assert plain_yaml.load(plain_yaml.dump(config)) == config


@given(st.dictionaries(st.text(), PLAIN))
def test_what_is_read_back_is_what_was_written(config):
    assert plain_yaml.load(plain_yaml.dump(config)) == config


def test_files_are_those_that_omegaconf_writes():
    config = {"b": 1, "a": [1e-05, "1e-05", None, True], "c": {"é": "ü: ö", "d": []}}
    assert plain_yaml.dump(config) == OmegaConf.to_yaml(OmegaConf.create(config))


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "a: !!python/object/apply:pathlib.PosixPath [/]", "a: !!python/name:os.x"]
)
def test_keys_twice_and_objects_are_refused(text):
    with pytest.raises(yaml.YAMLError):
        plain_yaml.load(text)

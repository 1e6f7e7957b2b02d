from __future__ import annotations

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from peftlab.errors import ConfigError
from peftlab.reading import plain_yaml

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


@pytest.mark.slow
@settings(max_examples=40)
@given(st.dictionaries(st.text(), PLAIN))
def test_what_is_read_back_is_what_was_written(config):
    assert plain_yaml.load(plain_yaml.dump(config)) == config


def test_files_are_those_that_omegaconf_writes():
    config = {"b": 1, "a": [1e-05, "1e-05", None, True], "c": {"é": "ü: ö", "d": []}}
    assert plain_yaml.dump(config) == OmegaConf.to_yaml(OmegaConf.create(config))


def laughing(levels: int, one: str, several: str) -> str:
    """Return YAML in which each of the levels stands for ten of the one below."""
    lines = [f"a0: &a0 {one}"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} {several % ','.join([f'*a{level - 1}'] * 10)}")
    return "\n".join(lines)


REFUSED = {
    "a: 1\na: 2": "f.yaml:2: .*duplicate|twice",
    "1: a\n1: b": "f.yaml:2: .*twice",
    "a: !!python/object/apply:pathlib.PosixPath [/]": "f.yaml:1: .*the tag !!python/object/apply:pathlib.PosixPath",
    "a: 1\nb: !!python/object/apply:pathlib.Path [/]": "f.yaml:2: .*the tag !!python/object/apply:pathlib.Path ",
    "a: !!python/name:os.system": "the tag !!python/name:os.system",
    "a: !!python/tuple [1]": "the tag !!python/tuple",
    "%TAG ! tag:yaml.org,2002:python/\n---\na: !name:os.system x": "f.yaml:3: .*the tag !!python/name:os.system",
    "? !!python/name:os.system a\n: 1": "the tag !!python/name:os.system",
    "a: !!set {a}": "the tag !!set",
    "a: !!omap [a: 1]": "the tag !!omap",
    "a: !!binary aGk=": "the tag !!binary",
    "a: !!timestamp 2026-01-01": "the tag !!timestamp",
    "a: !own {b: 1}": "the tag !own",
    "a: &a [*a]": r"\*a stands within",
    "a: &a {b: {c: *a}}": r"\*a stands within",
    laughing(12, "[1,2,3]", "[%s]"): "aliases repeat more than 100,000",
    laughing(12, "{x: 1}", "{<<: [%s]}"): "aliases repeat more than 100,000",
    "a: &a [" + "1," * 2_000 + "]\nb: [" + "*a," * 60 + "]": "aliases repeat more than 100,000",
    "a: &a " + "x" * 100_000 + "\nb: [" + "*a," * 110 + "]": "aliases repeat more than 100,000",
    "a: " + "[" * 10_000: "more than 40 levels",
    "a: " + "{a: " * 10_000 + "1" + "}" * 10_000: "more than 40 levels",
    "\n".join(" " * n + "a:" for n in range(200)): "more than 40 levels",
    "a: " + "- " * 300 + "1": "f.yaml:1: ",
    f"? {'k' * 100_000}\n: 1": "a key of 100,000 characters",
    "? [a, b]\n: 1": "a key must be a name",
    "a: 1\nb: {c: 1,\n  null: 1}": "f.yaml:3: .*the key null is no name to YAML, but null; write 'null' in quotes",
    "~: 1": "f.yaml:1: .*write '~' in quotes",
    f"a: {'1' * 5_000}": "no int",
    f"a: 0x{'f' * 5_000}": "too large",
    "a: !!float b": "no float",
    "a: !!bool b": "no bool",
    "a: 1\n---\nb: 1": "f.yaml:2: ",
    "a: [": "f.yaml:1: ",
    "a: \0": "f.yaml: cannot be read",
}


@pytest.mark.parametrize(("text", "message"), REFUSED.items(), ids=lambda text: ascii(text[:30]))
def test_objects_and_what_is_larger_than_its_file_are_refused_by_line(text, message):
    with pytest.raises(ConfigError, match=message), plain_yaml.reading("f.yaml"):
        plain_yaml.load(text)


def test_aliases_merges_and_tags_of_plain_values_stay():
    text = "a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]\nd: !!str 12\ne: [1e-3, 0x1F, yes, ~, !!int 7]"
    assert plain_yaml.load(text) == {
        **{"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": [{"x": 1}, {"x": 1}]},
        **{"d": "12", "e": [0.001, 31, True, None, 7]},
    }


def test_a_long_list_is_none_of_aliases():
    assert len(plain_yaml.load("a: [" + "1, " * 3_000 + "]")["a"]) == 3_000


CHARACTERS = "ab1.-:,[]{}#'\"\\\n |>?@`%~&*!\t\u00e9\x85\u2028\ufeff\r=<+_\0\ud800"
WORDS = r"\n  §\n- §\n    §a: §: §- §[a, b]§{a: b}§'x'§|\n  §>\n  §---\n§...\n§ #c\n§1e-3§yes§''§? §<<: §&a §*a§!!str "
PIECES = st.sampled_from([*CHARACTERS, *WORDS.replace(r"\n", "\n").split("§")])


def outcome(read, text):
    """Return what `read` makes of a text: the value, where 1 is not True, or the line and the error."""
    try:
        return repr(read(text))
    except (yaml.YAMLError, ValueError) as error:
        return type(error), str(error)


@pytest.mark.slow
@given(st.lists(PIECES, max_size=14).map("".join) | st.dictionaries(st.text(), PLAIN).map(plain_yaml.dump))
@example("_\t")
@example("!")
@example("\n\ufeff0")
@example(">#")
@example("%YAML 1.1#\n---\na: b\n")
@example("[e? ]")
@example("a: 1\n" * 2)
@example(f"{'k' * 1_030}: 1")
def test_both_scanners_read_the_same(text):
    own = outcome(lambda text: yaml.load(text, Loader=plain_yaml._WithPyYaml), text)
    assert outcome(plain_yaml.load, text) == own


def test_a_configuration_is_read_with_libyaml(monkeypatch):
    monkeypatch.setattr(plain_yaml, "_WithPyYaml", None)
    assert plain_yaml.load("a: [1e-3, 'x']  # -> yes & no | *b") == {"a": [0.001, "x"]}


def test_without_libyaml_all_is_read_with_pyyaml(monkeypatch):
    monkeypatch.setattr(plain_yaml, "_WithLibyaml", None)
    assert plain_yaml.load("a: [1e-3, 'x']") == {"a": [0.001, "x"]}

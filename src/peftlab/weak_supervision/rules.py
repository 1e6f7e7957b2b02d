"""Labelling functions that need no Python: keywords, lists of names, regular expressions and finished runs, in YAML."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass

from peftlab.errors import ConfigError, UserError
from peftlab.reading import plain_yaml
from peftlab.reading.words import SPACELESS
from peftlab.validation import checked
from peftlab.weak_supervision.functions import LabellingFunction, Unlabelled

RUNS = "runs"
"""The key of finished runs, beside those of labels."""

AskRun = Callable[[str, str, float], LabellingFunction]
"""Makes a labelling function of its name, a finished run, and the probability below which the run abstains."""

_KINDS = ("any", "file", "regex")

_LIKE_A_NUMBER = re.compile(r"[-+.\d]|inf|nan", re.IGNORECASE)
"""How what YAML may take for a number begins."""

_LETTER = rf"[^\W{SPACELESS}]"
"""A letter or digit of the scripts that write words apart."""


def _text(value: Any) -> Any:
    """Refuse true and false, as YAML reads a bare yes, no, on or off, and what is found in every text."""
    if isinstance(value, bool):
        raise ValueError("is true or false to YAML: put the word in quotes")
    if isinstance(value, str) and not value.strip():
        raise ValueError("is empty: write a word or phrase, or remove it")
    return str(value) if isinstance(value, int | float) else value


Phrases = Annotated[list[Annotated[str, BeforeValidator(_text)]], Field(min_length=1)]


@checked_dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class _Rule:
    """What speaks for a label: each of `any`, `file` and `regex` is a labelling function of its own."""

    name: str | None = None
    """Of the function; by default the label and the kind, such as ``positive.any``."""
    any: Phrases | None = None
    """Words or phrases of which one occurs in the text, as whole words."""
    file: Path | None = None
    """A file with more of them, one a line."""
    regex: str | None = None
    """A regular expression that matches somewhere in the text."""
    unless: Phrases | None = None
    """Words or phrases that make the rule abstain if one of them occurs in the text."""
    case: bool = False
    """Whether upper and lower case differ."""


@checked_dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class _Run:
    """A finished run that votes where it is sure enough."""

    run: str
    threshold: float = Field(default=0.0, ge=0, le=1)


@dataclass(frozen=True)
class Pattern:
    """A labelling function that votes for its label where a pattern matches; of entities, each match is one."""

    name: str
    label: str
    pattern: re.Pattern[str]
    unless: re.Pattern[str] | None = None

    def votes(self, texts: Sequence[Unlabelled]) -> Iterator[Any]:
        """Yield its vote on each text; of a pair, a match in either of the two counts."""
        for text in texts:
            both = text.text if text.pair is None else f"{text.text}\n{text.pair}"
            if self.unless is not None and self.unless.search(both):
                yield None
            elif text.words:
                yield list(self._spans(text)) or None
            else:
                yield self.label if self.pattern.search(both) else None

    def _spans(self, text: Unlabelled) -> Iterator[tuple[int, int, str]]:
        """Yield the matches that begin where a word begins and end where one ends."""
        starts = [0, *accumulate(len(word) + 1 for word in text.words)]
        for match in self.pattern.finditer(text.text):
            first, last = bisect_left(starts, match.start()), bisect_left(starts, match.end() + 1)
            if first < last and (starts[first], starts[last] - 1) == match.span():
                yield first, last, self.label


def rules_in(file: Path, ask_run: AskRun) -> list[LabellingFunction]:
    """Return the labelling functions that a YAML file describes: by label a rule or a list of rules, and by name, under
    the key ``runs``, finished runs.

    Raises:
        UserError: the file cannot be read, or a rule is malformed; names the key.
    """
    with plain_yaml.reading(file):
        written = file.read_text(encoding="utf-8")
        content = plain_yaml.load(written)
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{file}: expected rules by label, such as 'positive: {{any: [great, thank you]}}'")
    _check_numbers(file, written)
    functions: list[LabellingFunction] = []
    for label, rules in content.items():
        if label == RUNS:
            functions += _runs(file, rules, ask_run)
            continue
        if isinstance(label, bool):
            raise ConfigError(f"{file}: a label is true or false to YAML: put yes, no, on and off in quotes")
        several = rules if isinstance(rules, list) else [rules]
        for number, rule in enumerate(several):
            key = f"{file}: {label}" + (f"[{number}]" if isinstance(rules, list) else "")
            functions += _functions(file, key, str(label), checked(_Rule, rule, key))
    return functions


def _check_numbers(file: Path, written: str) -> None:
    """Refuse labels and words that are numbers to YAML, and other ones than are written: 007 is 7, and 9:30 is 570."""
    document: Any = yaml.compose(written, yaml.SafeLoader)
    for label, rules in document.value:
        for node in chain(_scalars(label), _scalars(rules)) if label.value != RUNS else ():
            if node.style is not None or not _LIKE_A_NUMBER.match(node.value):  # in quotes, or a word
                continue
            read = plain_yaml.load(node.value)
            if isinstance(read, int | float) and str(read) != node.value:
                raise ConfigError(
                    f"{file}:{node.start_mark.line + 1}: YAML reads {node.value} as the number {read}: put it in quotes"
                )


def _scalars(node: Any) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        yield node
        return
    for part in node.value:
        for each in part if isinstance(part, tuple) else (part,):  # a key with its value
            yield from _scalars(each)


def _runs(file: Path, runs: Any, ask_run: AskRun) -> Iterator[LabellingFunction]:
    if not isinstance(runs, Mapping):
        raise ConfigError(f"{file}: {RUNS}: expected runs by name, such as 'runs: {{mine: {{run: 3f9c}}}}'")
    for name, value in runs.items():
        run = checked(_Run, value, f"{file}: {RUNS}.{name}")
        yield ask_run(str(name), run.run, run.threshold)


def _functions(file: Path, key: str, label: str, rule: _Rule) -> Iterator[LabellingFunction]:
    kinds = [kind for kind in _KINDS if getattr(rule, kind) is not None]
    if not kinds:
        raise ConfigError(f"{key}: says nothing: give it any, file or regex")
    unless = None if rule.unless is None else phrases(rule.unless, rule.case)
    for kind in kinds:
        name = f"{rule.name or label}.{kind}" if len(kinds) > 1 or rule.name is None else rule.name
        yield Pattern(name, label, _pattern(file, key, kind, rule), unless)


def _pattern(file: Path, key: str, kind: str, rule: _Rule) -> re.Pattern[str]:
    if kind == "any":
        assert rule.any is not None
        return phrases(rule.any, rule.case)
    if kind == "file":
        assert rule.file is not None
        listed = file.parent / rule.file
        try:
            lines = [line.strip() for line in listed.read_text(encoding="utf-8-sig").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{key}.file: {listed} cannot be read: {error}") from error
        if not any(lines):
            raise UserError(f"{key}.file: {listed} is empty. Write one word or phrase a line")
        return phrases([line for line in lines if line], rule.case)
    try:
        pattern = re.compile(rule.regex or "", 0 if rule.case else re.IGNORECASE)
    except re.error as error:
        raise ConfigError(f"{key}.regex: is no regular expression: {error}") from error
    if pattern.match(""):
        raise ConfigError(f"{key}.regex: matches the empty text, and so every text. Make it ask for a character")
    return pattern


def phrases(listed: Sequence[str], case: bool = False) -> re.Pattern[str]:
    """Return the pattern of words and phrases as whole words, the longest first, with any white space within.

    The words of a phrase may stand apart where it writes them together, as data sets for entities divide O'Brien's.
    Chinese and Japanese characters are words of their own, so that such a phrase is found anywhere in a sentence.
    """
    longest = sorted(dict.fromkeys(listed), key=lambda phrase: (-len(phrase), phrase))
    either = "|".join(_phrase(phrase.strip()) for phrase in longest if phrase.strip())
    return re.compile(either, 0 if case else re.IGNORECASE)


def _phrase(phrase: str) -> str:
    from peftlab.tasks.inputs.splitting import words_of

    spans = words_of(phrase)
    gaps = [r"\s+" if end < start else r"\s*" for (_, end), (start, _) in pairwise(spans)]
    words = [re.escape(phrase[start:end]) for start, end in spans]
    joined = "".join(chain.from_iterable(zip(words, [*gaps, ""], strict=True)))
    begins, ends = (re.match(_LETTER, edge) is not None for edge in (phrase[0], phrase[-1]))
    return (rf"(?<!{_LETTER})" if begins else "") + joined + (rf"(?!{_LETTER})" if ends else "")

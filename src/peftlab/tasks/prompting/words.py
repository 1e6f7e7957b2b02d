"""Label words: the tokens by which each label is scored, in the place where they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from peftlab.errors import ConfigError, did_you_mean
from peftlab.tasks.prompting.template import Template

MultiToken = Literal["mean_logprob", "first", "refuse"]
"""How a word of several tokens is scored: by the mean log probability of its tokens, by its first, or not at all."""

_BEFORE = "."
"""Stands for the text, where nothing literal comes between it and the answer."""


class Word(NamedTuple):
    """A word for a label, as it is tokenised in a template."""

    label: str
    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """A row that scores words: the tokens that follow the place of the answer in it, and the words it scores."""

    inserted: tuple[int, ...]
    """Tokens after the first place of the answer: the beginning of a word, or further masks."""
    words: tuple[int, ...]
    """The numbers of the words that it scores, each by one token more than are inserted; empty: a trained head reads
    its place."""


def words_of(labels: Sequence[str], configured: Mapping[str, str | list[str]] | None) -> dict[str, list[str]]:
    """Return the words of each label, by default its name.

    Raises:
        ConfigError: words are configured for what is no label, for some labels only, or for none of a label.
    """
    if configured is None:
        return {label: [label] for label in labels}
    if odd := [label for label in configured if label not in labels]:
        raise ConfigError(f"task.label_words: '{odd[0]}' is no label.{did_you_mean(odd[0], labels)}")
    if missing := [label for label in labels if not configured.get(label)]:
        raise ConfigError(f"task.label_words: the label '{missing[0]}' has no word. Write one for every label, or null")
    return {label: [own] if isinstance(own := configured[label], str) else list(own) for label in labels}


def tokenised(template: Template, words: Mapping[str, Sequence[str]], tokenizer: Any, how: MultiToken) -> list[Word]:
    """Return the tokens of all words in the context of `template`, with the space that stands before them there.

    Raises:
        ConfigError: a word has no token of its own there, has several though these are refused, or is the same to the
            model as that of another label.
    """
    made = [Word(label, text, _tokens(template, text, tokenizer)) for label, listed in words.items() for text in listed]
    if how == "refuse" and (longer := [word for word in made if len(word.tokens) > 1]):
        pieces = " + ".join(f"'{piece}'" for piece in tokenizer.convert_ids_to_tokens(longer[0].tokens))
        raise ConfigError(
            f"task.label_words: '{longer[0].text}' is {len(longer[0].tokens)} tokens, {pieces}. Choose words of one "
            "token, or set task.multi_token=mean_logprob"
        )
    if how == "first":
        made = [word._replace(tokens=word.tokens[:1]) for word in made]
    first: dict[tuple[int, ...], Word] = {}
    for word in made:
        other = first.setdefault(word.tokens, word)
        if other is not word:
            same = "begin with the same token" if how == "first" and other.text != word.text else "are the same"
            raise ConfigError(
                f"task.label_words: '{other.text}' of the label '{other.label}' and '{word.text}' of '{word.label}' "
                f"{same} to this model, so they cannot be told apart. Choose other words"
                f"{', or set task.multi_token=mean_logprob' if how == 'first' else ''}"
            )
    return made


def rows_for(words: Sequence[Word], mask: int | None) -> list[Row]:
    """Return the rows that score `words`.

    A decoder reads the beginning of a word before it predicts the last token: words with the same beginning share a
    row, and all words of one token the plain prompt. A masked model reads as many masks as a word has tokens.

    Args:
        words: tokenised.
        mask: the id of the mask of a masked model; None: the model is a decoder.
    """
    rows: dict[tuple[int, ...], list[int]] = {}
    for n, word in enumerate(words):
        inserted = word.tokens[:-1] if mask is None else (mask,) * (len(word.tokens) - 1)
        rows.setdefault(inserted, []).append(n)
    return [Row(inserted, tuple(members)) for inserted, members in rows.items()]


def _tokens(template: Template, word: str, tokenizer: Any) -> tuple[int, ...]:
    """Return the tokens of `word` between what comes before and after it in `template`.

    The spaces before the answer belong to the word: alone, they would be a token that no text has there.
    """
    lead = template.lead if template.lead.strip() or template.begins_with_answer else _BEFORE + template.lead
    fixed = len(lead.rstrip(" "))
    end = len(lead) + len(word)
    whole = tokenizer(lead + word + template.after, add_special_tokens=False, return_offsets_mapping=True)
    spans = list(zip(whole["input_ids"], whole["offset_mapping"], strict=True))
    inside = [(id, start, stop) for id, (start, stop) in spans if stop > fixed and start < end]
    place = f"task.label_words: '{word}' in the template '{template.source}'"
    if not word.strip() or not inside:
        raise ConfigError(f"{place} has no token. Write a word that the model knows")
    if any(start < fixed or stop > end for _, start, stop in inside):
        raise ConfigError(f"{place} shares a token with what stands beside it. Put a space before {{answer}}")
    tokens = tuple(id for id, _, _ in inside)
    if tokenizer.unk_token_id in tokens:
        raise ConfigError(f"{place} is unknown to this model's vocabulary. Write another word")
    return tokens

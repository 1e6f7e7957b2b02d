"""Conversations as tokens: a chat template renders them, and its own prefixes tell which tokens are learnt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from peftlab.errors import ConfigError, DataError
from peftlab.generation.conversations import BEGINNING, Conversation, Message

TrainOn = Literal["answers", "all"]
"""Whether the assistant's turns are learnt, or every token."""

MODEL = "model"
"""The template that comes with the model's tokenizer."""

_BUILT_IN = Path(__file__).parent / "templates"
_FIXED_DAY = (
    "{%- macro strftime_now(format) -%}{{- '2024-07-26' if '-' in format else '26 Jul 2024' -}}{%- endmacro -%}"
)
"""What a template reads off the clock: rendered today and tomorrow, a conversation has the same tokens."""

_FAILURES = (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a template may end with: it is a small program, which comes with a model from anywhere."""

_ANY = "\ue000"
"""The content of an answer that no template has in its own text."""


class Rendered(NamedTuple):
    """A conversation as tokens."""

    tokens: list[int]
    """Its token ids."""
    learnt: list[bool]
    """Whether each is predicted from those before it; the first never is."""
    prompt: int
    """The number of tokens before the last answer; all where there is none yet, or of a plain text."""


def read_template(value: str) -> str:
    """Return ``model``, or the Jinja text of a template, so that a run keeps the template itself.

    Args:
        value: ``model``, the name of a template of peftlab's, the path of a file, or the text.

    Raises:
        ConfigError: there is no such template.
    """
    if value == MODEL or "{{" in value or "{%" in value:
        return value
    path = _BUILT_IN / f"{value}.jinja"
    path = path if path.is_file() else Path(value)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        names = sorted(each.stem for each in _BUILT_IN.glob("*.jinja"))
        raise ConfigError(
            f"task.template = '{value}' is no template ({type(error).__name__}). Allowed: model, {', '.join(names)}, "
            "or the path of a Jinja file"
        ) from error
    if "messages" not in text:
        raise ConfigError(f"task.template = '{value}': this file renders no `messages`; it needs a Jinja chat template")
    return text


@dataclass(frozen=True)
class Template:
    """A chat template with the tokenizer of its model."""

    tokenizer: PreTrainedTokenizerBase
    source: str = MODEL
    """``model``, or the Jinja text."""

    def rendered(self, conversation: Conversation, train_on: TrainOn = "answers") -> Rendered:
        """Return a conversation as tokens; without a last answer, they end where the model has to write it.

        A turn of the assistant is what the template adds to the prompt that the model sees when it answers, through the
        special token that ends the turn; where there is none, the tokenizer's end token ends the conversation. This
        needs no marks in the template (``{% generation %}``), which most lack. What the template itself puts before the
        content of an answer, such as Qwen3's empty block of thoughts, belongs to the prompt. Where it does so in the
        last turn alone, earlier answers are learnt without. A plain text is not rendered: it is learnt from its second
        token to the end token, and one to be continued is a prompt as it stands.

        Raises:
            ConfigError: there is no template.
            DataError: the template refuses the conversation, or renders earlier turns otherwise when others follow, so
                that it does not say which tokens the model would have to write.
        """
        if conversation.is_text:
            tokens = self._ended(self._begun(self._ids(conversation.messages[0].content)))
            return Rendered(tokens, [False, *[True] * (len(tokens) - 1)], len(tokens) - 1)
        if conversation.messages[0].role == BEGINNING:
            tokens = self._begun(self._ids(conversation.messages[0].content)) or [self._end_token]
            return Rendered(tokens, [False] * len(tokens), len(tokens))
        segments = self._segments(conversation)
        answers = [content.strip() for role, content in conversation.messages if role == "assistant"]
        pieces = self._pieces(segments)
        pieces[0] = self._begun(pieces[0])
        learnt = [[False] * len(piece) for piece in pieces]
        for number in range(1, len(pieces), 2):
            after = segments[number].split(answers[number // 2], 1)[-1]  # a special token within ends nothing
            end = self._end_of_turn(pieces[number]) if self._end_of_turn(self._ids(after)) else None
            if end is None and number == len(pieces) - 1:
                pieces[number] = self._ended(pieces[number])
                end = len(pieces[number])
            learnt[number] = [place < (end or len(pieces[number])) for place in range(len(pieces[number]))]
        tokens, marks = list(chain.from_iterable(pieces)), list(chain.from_iterable(learnt))
        prompt = len(tokens) - (len(pieces[-1]) if conversation.answer is not None else 0)
        if train_on == "all":
            marks = [True] * len(tokens)
        elif any(marks):  # what follows the last learnt token has no part in any loss
            length = len(marks) - marks[::-1].index(True) if conversation.answer is not None else len(tokens)
            tokens, marks = tokens[:length], marks[:length]
        return Rendered(tokens, [False, *marks[1:]], prompt)

    @property
    def exists(self) -> bool:
        """Whether there is one; plain texts need none."""
        return self.source != MODEL or bool(self.tokenizer.chat_template)

    @cached_property
    def stops(self) -> list[int]:
        """The ids of the tokens that end a turn of the assistant: the tokenizer's end token, and the template's."""
        if not self.exists:
            return [self._end_token]
        probe = Conversation("", (Message("user", "a"), Message("assistant", "b")))
        rendered = self.rendered(probe)
        return sorted({rendered.tokens[-1], self._end_token})

    def put_into(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Make this, if it exists, the chat template of `tokenizer`, which then renders prompts to the same tokens by
        itself."""
        if not self.exists:
            return
        turns, source = [Message("user", "a")], self._source
        prompt = self._text(turns, "", True)
        bos = "" if self._begun(ids := self._ids(prompt)) == ids else "{{ bos_token }}"  # transformers does not add it
        day = _FIXED_DAY if "strftime_now" in source else ""
        asked = "add_generation_prompt and enable_thinking is not defined"  # whoever sets that decides by it
        if opening := self._opening(turns, prompt, ""):
            opening = f"{{% if {asked} %}}{{{{ {json.dumps(opening, ensure_ascii=False)} }}}}{{% endif %}}"
        tokenizer.chat_template = bos + day + source.removesuffix("\n") + opening

    def _segments(self, conversation: Conversation) -> list[str]:
        """Return the rendered text, cut where answers begin and end: prompts at even places, answers at odd ones."""
        messages, place = conversation.messages, conversation.place or conversation.id
        turns = [n for n, message in enumerate(messages) if message.role == "assistant"]
        segments, opening = list[str](), ""

        def add(text: str) -> None:
            done = "".join(segments)
            if not text.startswith(done):
                raise DataError(
                    f"{place}: {self._name} renders turns otherwise when others follow, so that it does not say which "
                    f"tokens the model has to write: {done[-40:]!r} is no longer there. Set task.template=chatml or "
                    "another template"
                )
            segments.append(text[len(done) :])

        for n in turns if conversation.answer is not None else [*turns, len(messages)]:
            asked = self._text(messages[:n], place, True)
            if opening and not asked.startswith("".join(segments)):  # it stands before the last answer alone
                segments[-2] = segments[-2].removesuffix(opening)
            add(asked)
            opening = self._opening(messages[:n], asked, place)
            if n == len(messages):
                segments[-1] += opening
                break
            answered = self._text(messages[: n + 1], place, False)
            opening = opening if answered.startswith(asked + opening) else ""
            segments[-1] += opening
            add(answered)
        return segments

    def _opening(self, messages: Sequence[Message], asked: str, place: str) -> str:
        """Return what the template puts between `asked`, the prompt of `messages`, and any answer to it. Spaces are not
        of it: they belong to the token after them."""
        answered = self._text([*messages, Message("assistant", _ANY)], place, False)
        before, found, _ = answered.partition(_ANY)
        return before[len(asked) :].rstrip(" ") if found and before.startswith(asked) else ""

    def _pieces(self, segments: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each segment: those of the whole text if no token spans two segments, so that a
        model meets the same tokens when it writes; else those of each by itself."""
        whole = self._ids("".join(segments))
        beginnings = [self._ids(text) for text in accumulate(segments)]
        if any(whole[: len(ids)] != ids for ids in beginnings):
            return [self._ids(segment) for segment in segments]
        return [whole[start:end] for start, end in pairwise([0, *map(len, beginnings)])]

    def _text(self, messages: Sequence[Message], place: str, answer_follows: bool) -> str:
        """Return turns as rendered, with the beginning of the assistant's turn where its answer follows."""
        if not self.exists:
            raise ConfigError(
                "task.template=model: the model's tokenizer has no chat template. Set task.template=plain (question "
                "and answer in words), task.template=chatml, or the path of a Jinja file"
            )
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    [message._asdict() for message in messages],
                    chat_template=_FIXED_DAY + self._source,
                    tokenize=False,
                    add_generation_prompt=answer_follows,
                )
            )
        except _FAILURES as error:
            raise DataError(f"{place}: {self._name} refuses this conversation: {error}") from error

    @property
    def _source(self) -> str:
        """The text of the template."""
        return str(self.tokenizer.get_chat_template()) if self.source == MODEL else self.source

    @property
    def _name(self) -> str:
        return "the model's chat template" if self.source == MODEL else "task.template"

    def _ids(self, text: str) -> list[int]:
        ids: Any = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return list(ids)

    def _begun(self, ids: list[int]) -> list[int]:
        """Return a beginning with the token that the tokenizer begins every text with, once."""
        return ids if self._first is None or ids[:1] == [self._first] else [self._first, *ids]

    def _ended(self, ids: list[int]) -> list[int]:
        """Return an end with the end token, once."""
        return ids if ids[-1:] == [self._end_token] else [*ids, self._end_token]

    def _end_of_turn(self, ids: Sequence[int]) -> int | None:
        """Return the place after the last special token of an answer; None: it has none."""
        return next((place for place in range(len(ids), 0, -1) if ids[place - 1] in self._special), None)

    @cached_property
    def _first(self) -> int | None:
        first: Any = self.tokenizer("a")["input_ids"]
        return first[0] if first[0] == self.tokenizer.bos_token_id else None

    @cached_property
    def _special(self) -> frozenset[int]:
        added = self.tokenizer.added_tokens_decoder
        return frozenset(self.tokenizer.all_special_ids) | {id for id, token in added.items() if token.special}

    @cached_property
    def _end_token(self) -> int:
        if self.tokenizer.eos_token_id is None:
            raise ConfigError("the model's tokenizer has no end token (eos_token), so that a model could not stop")
        return int(self.tokenizer.eos_token_id)

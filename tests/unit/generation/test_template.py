"""Conversations as tokens: what is learnt, and templates that cannot tell."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from peftlab.errors import ConfigError, DataError
from peftlab.generation.conversations import TEXT, Conversation, Message
from peftlab.generation.template import Template, read_template

THINKING = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ message.content }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}\n"
)
"""Like that of Qwen3: the last answer has an empty block of thoughts before it."""
REWRITING = THINKING.replace("{{ message.content }}", "{{ message.content }}{% if not loop.last %}!{% endif %}")
"""An answer is rendered otherwise once another turn follows."""


def conversation(*contents, roles=("user", "assistant"), system=None):
    messages = [Message(roles[n % 2], content) for n, content in enumerate(contents)]
    return Conversation("train:0", tuple(([Message("system", system)] if system else []) + messages), "data.jsonl", 7)


@pytest.fixture(scope="module")
def tokenizer(language_model):
    return AutoTokenizer.from_pretrained(language_model("llama"))


@pytest.fixture
def template(tokenizer):
    return Template(tokenizer)


def learnt(template, rendered):
    """Return the learnt tokens as text, one string for each stretch."""
    parts, current = [], []
    for id, is_learnt in zip(rendered.tokens, rendered.learnt, strict=True):
        if is_learnt:
            current.append(id)
        elif current:
            parts, current = [*parts, template.tokenizer.decode(current)], []
    return [*parts, template.tokenizer.decode(current)] if current else parts


def test_every_answer_is_learnt_with_its_end(template):
    rendered = template.rendered(conversation("hi", "what is it", "and then", "rome", system="be brief"))
    assert learnt(template, rendered) == ["what is it<|im_end|>", "rome<|im_end|>"]
    assert template.tokenizer.decode(rendered.tokens).endswith("rome<|im_end|>")  # nothing after it is learnt
    prompt = template.tokenizer.decode(rendered.tokens[: rendered.prompt])
    assert prompt.endswith("and then<|im_end|>\n<|im_start|>assistant\n")
    assert "be brief" in prompt


@pytest.mark.parametrize("answer", ["im", ">", "<|im_end|>", "<pad> is", " rome "])
def test_an_answer_that_is_part_of_its_end_or_holds_one_has_it(template, answer):
    assert learnt(template, template.rendered(conversation("hi", answer))) == [f"{answer}<|im_end|>"]


def test_a_prompt_is_what_the_answer_was_learnt_after(template):
    whole = template.rendered(conversation("hi", "rome", "more", "paris"))
    asked = template.rendered(conversation("hi", "rome", "more"))
    assert asked.tokens == whole.tokens[: whole.prompt]
    assert asked.prompt == len(asked.tokens)


def test_all_tokens_but_the_first(template):
    rendered = template.rendered(conversation("hi", "rome"), "all")
    assert not rendered.learnt[0]
    assert all(rendered.learnt[1:])
    assert template.tokenizer.decode(rendered.tokens).endswith("<|im_end|>\n")


def test_a_plain_text_has_no_template_and_an_end(template, tokenizer):
    text = Conversation("train:0", (Message(TEXT, "the river"),))
    tokens, marks, _ = template.rendered(text)
    assert tokens == [*tokenizer("the river", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    assert marks == [False, *[True] * (len(tokens) - 1)]


def test_a_template_without_an_end_of_turn_gets_the_end_token(tokenizer):
    bare = Template(tokenizer, "{% for m in messages %}{{ m.content }}\n{% endfor %}")
    rendered = bare.rendered(conversation("hi", "rome"))
    assert learnt(bare, rendered) == ["rome\n<|im_end|>"]
    assert rendered.tokens[-1] == tokenizer.eos_token_id
    assert Template(tokenizer, read_template("plain")).rendered(conversation("hi", "rome")).learnt[-1]
    within = bare.rendered(conversation("hi", "<unk> is rome", "and", "<pad> is paris"))
    assert learnt(bare, within) == ["<unk> is rome\n", "<pad> is paris\n<|im_end|>"]  # whole, and ended


def test_a_token_that_spans_the_border_is_divided(tokenizer):
    joined = Template(
        tokenizer, "{% for m in messages %}{{ m.content }}{% if not loop.first %}<|im_end|>{% endif %}{% endfor %}"
    )
    rendered = joined.rendered(conversation("the capi", "tal of"))
    assert learnt(joined, rendered) == ["tal of<|im_end|>"]
    assert rendered.tokens[: rendered.prompt] == tokenizer("the capi", add_special_tokens=False)["input_ids"]


def test_the_beginning_stands_once(tokenizer):
    begins = Template(tokenizer, read_template("chatml"))
    begins.__dict__["_first"] = tokenizer.convert_tokens_to_ids("<s>")
    ids = begins.rendered(conversation("hi", "rome")).tokens
    assert ids[0] == tokenizer.convert_tokens_to_ids("<s>")
    with_own = Template(tokenizer, "<s>" + read_template("chatml"))
    with_own.__dict__["_first"] = tokenizer.convert_tokens_to_ids("<s>")
    assert with_own.rendered(conversation("hi", "rome")).tokens == ids


def test_what_the_template_puts_before_an_answer_is_of_the_prompt(tokenizer):
    thinking = Template(tokenizer, THINKING)
    whole, asked = thinking.rendered(conversation("hi", "rome")), thinking.rendered(conversation("hi"))
    assert learnt(thinking, whole) == ["rome<|im_end|>"]
    assert whole.tokens[: whole.prompt] == asked.tokens
    assert tokenizer.decode(asked.tokens).endswith("assistant\n<think>\n\n</think>\n\n")
    longer = thinking.rendered(conversation("hi", "rome", "more", "paris"))
    assert learnt(thinking, longer) == ["rome<|im_end|>", "paris<|im_end|>"]
    assert tokenizer.decode(longer.tokens).count("<think>") == 1
    assert longer.tokens[: longer.prompt] == thinking.rendered(conversation("hi", "rome", "more")).tokens
    thought = Template(tokenizer, THINKING.replace("\n\n</think>\n\n{% endif %}", "{% else %}{% endif %}"))
    assert learnt(thought, thought.rendered(conversation("hi", "think"))) == ["think<|im_end|>"]


def test_a_template_that_rewrites_earlier_turns_is_refused(tokenizer):
    with pytest.raises(DataError, match=r"data\.jsonl:7: .*renders turns otherwise.*chatml"):
        Template(tokenizer, REWRITING).rendered(conversation("hi", "rome", "more", "paris"))


@pytest.mark.parametrize("fault", ["1 / 0", "messages[0].content + 1", "range(10**9)", "'a'.encode('none')"])
def test_a_template_that_fails_is_one_message(tokenizer, fault):
    with pytest.raises(DataError, match=r"data\.jsonl:7: task\.template refuses this conversation: "):
        Template(tokenizer, THINKING + "{{ " + fault + " }}").rendered(conversation("hi", "rome"))


def test_an_exported_template_renders_the_same_prompts(language_model):
    dated = "{{ strftime_now('%d %b %Y') }}" + THINKING
    named = {"default": dated, "tool_use": "{{ messages }}"}
    for source, own in ((dated, None), ("model", dated), ("model", named), (read_template("plain"), None)):
        tokenizer = AutoTokenizer.from_pretrained(language_model("llama"))
        tokenizer.chat_template = own
        template, asked = Template(tokenizer, source), conversation("hi")
        expected = template.rendered(asked).tokens
        template.put_into(tokenizer)
        turns = [message._asdict() for message in asked.messages]
        given = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)
        assert given["input_ids"] == expected


def test_what_a_template_refuses_names_the_line(tokenizer):
    refusing = Template(tokenizer, "{{ raise_exception('no system turns') }}{{ messages }}")
    with pytest.raises(DataError, match=r"data\.jsonl:7: task\.template refuses.*no system turns"):
        refusing.rendered(conversation("hi", "rome"))


def test_a_template_reads_no_clock(tokenizer):
    dated = Template(tokenizer, "{{ strftime_now('%d %b %Y') }}{% for m in messages %}{{ m.content }}{% endfor %}")
    assert tokenizer.decode(dated.rendered(conversation("hi", "rome")).tokens).startswith("26 Jul 2024")


def test_without_a_template(tokenizer, monkeypatch, tmp_path):
    monkeypatch.setattr(tokenizer, "chat_template", None)
    with pytest.raises(ConfigError, match=r"task\.template=plain"):
        Template(tokenizer).rendered(conversation("hi", "rome"))
    with pytest.raises(ConfigError, match=r"Allowed: model, chatml, plain, or the path"):
        read_template("chatm")
    (tmp_path / "own.jinja").write_text("hello", encoding="utf-8")
    with pytest.raises(ConfigError, match="renders no `messages`"):
        read_template(str(tmp_path / "own.jinja"))
    (tmp_path / "own.jinja").write_text("{{ messages }}", encoding="utf-8")
    assert read_template(read_template(str(tmp_path / "own.jinja"))) == "{{ messages }}"


def test_stops(template, tokenizer):
    assert template.stops == [tokenizer.eos_token_id]
    other = "{% for m in messages %}<s>{{ m.content }}<unk>{% endfor %}"
    assert set(Template(tokenizer, other).stops) == {tokenizer.eos_token_id, tokenizer.unk_token_id}

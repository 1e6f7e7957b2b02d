"""What a model writes does not depend on the rest of its batch, on the mode it is in, or on global random numbers."""

from __future__ import annotations

import pytest
import torch
from tests.tiny_models import DECODERS, ENCODER_DECODERS, POSITIONS
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    WhisperForConditionalGeneration,
)

from peftlab.errors import ConfigError
from peftlab.generation.options import Generation
from peftlab.generation.writing import Heard, _Draw, check_room, plain_settings, stream, write
from peftlab.methods.method import MethodContext
from peftlab.methods.prompts import PromptTuning
from peftlab.models.positions import reserve

TEXTS = ["what is the name of the river ?", "paris", "the capital of france is the river that flows through rome"]
WAYS = {
    "greedy": Generation(max_new_tokens=12),
    "penalised": Generation(max_new_tokens=12, repetition_penalty=1.5),
    "beams": Generation(max_new_tokens=8, num_beams=3),
    "penalised beams": Generation(max_new_tokens=8, num_beams=2, repetition_penalty=1.5),
    "sampled": Generation(max_new_tokens=12, do_sample=True, seed=3),
    "warped": Generation(max_new_tokens=12, do_sample=True, temperature=0.5, top_k=40, top_p=0.9),
}


OFTEN = {"llama", "gemma3", "t5"}
"""One whose layers see all that came before, one of which some see a window of it, and one that writes from a text."""


@pytest.fixture(
    scope="module",
    params=[
        kind if kind in OFTEN else pytest.param(kind, marks=pytest.mark.slow) for kind in [*DECODERS, *ENCODER_DECODERS]
    ],
)
def loaded(request, language_model):
    folder = language_model(request.param)
    of = AutoModelForCausalLM if request.param in DECODERS else AutoModelForSeq2SeqLM
    model = of.from_pretrained(folder)
    if request.param != "t5":
        with torch.no_grad():  # sharper: what a newly initialised model writes depends on little
            for parameter in model.parameters():
                parameter.mul_(10 if parameter.ndim > 1 else 1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return model, tokenizer, [tokenizer(text)["input_ids"] for text in TEXTS]


@pytest.mark.slow
def test_a_text_is_the_same_in_any_company(loaded):
    model, tokenizer, prompts = loaded
    before = torch.get_rng_state()
    for name, options in WAYS.items():
        together = write(model, prompts, options, tokenizer, TEXTS)
        assert together == [
            write(model, [prompt], options, tokenizer, [key])[0] for prompt, key in zip(prompts, TEXTS, strict=True)
        ], name
        assert all(len(one.tokens) + one.stopped <= options.max_new_tokens for one in together)
        assert all(one.stopped or len(one.tokens) == options.max_new_tokens for one in together)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.slow
def test_a_seed_and_a_key_draw_a_text(loaded):
    model, tokenizer, prompts = loaded
    drawn = [
        write(model, prompts[:1], Generation(max_new_tokens=12, do_sample=True, seed=seed), tokenizer, [key])[0]
        for seed in (0, 1)
        for key in ("a", "b")
    ]
    assert len({tuple(one.tokens) for one in drawn}) == 4


@pytest.mark.slow
def test_streamed_pieces_are_the_text(loaded):
    model, tokenizer, prompts = loaded
    for name in ("greedy", "sampled", "beams"):
        (whole,) = write(model, prompts[:1], WAYS[name], tokenizer, ["a"])
        pieces = list(stream(model, prompts[0], WAYS[name], tokenizer, "a"))
        assert "".join(pieces) == whole.text
        assert all(pieces)
        assert (len(pieces) > 1) == (name == "sampled") or name == "greedy"


@pytest.mark.slow
def test_a_plain_model_with_these_settings_writes_the_same(loaded, tmp_path):
    model, tokenizer, prompts = loaded
    for name, options in WAYS.items():
        (whole,) = write(model, prompts[:1], options, tokenizer, ["a"])
        plain_settings(model, options, tokenizer).save_pretrained(tmp_path)
        settings = GenerationConfig.from_pretrained(tmp_path)
        if options.do_sample:  # transformers takes the 50 most probable tokens where nothing is said
            assert (settings.do_sample, settings.top_k) == (True, options.top_k or 0), name
        else:
            ids = torch.tensor(prompts[:1])
            row = model.eval().generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)[0]
            row = row[1 if model.config.is_encoder_decoder else ids.shape[1] :]
            assert tokenizer.decode(row, skip_special_tokens=True) == whole.text, name


def test_the_modes_of_modules_come_back_and_dropout_takes_no_part(loaded):
    model, tokenizer, prompts = loaded
    expected = write(model.eval(), prompts, WAYS["greedy"], tokenizer)
    model.train()
    frozen = next(module for module in model.modules() if not list(module.children()))
    frozen.eval()
    own = model.generation_config
    assert write(model, prompts, WAYS["greedy"], tokenizer) == expected
    assert model.training
    assert not frozen.training
    assert model.generation_config is own
    model.eval()


def test_preferences_of_the_model_do_not_act_but_its_stop_tokens_do(loaded):
    model, tokenizer, prompts = loaded
    (plain,) = write(model, prompts[:1], WAYS["greedy"], tokenizer)
    own = model.generation_config
    before = own.to_dict()
    try:
        own.update(num_beams=4, no_repeat_ngram_size=1, min_length=100, do_sample=True, top_k=2, suppress_tokens=[5])
        own.forced_eos_token_id = tokenizer.eos_token_id  # BART's
        assert write(model, prompts[:1], WAYS["greedy"], tokenizer) == [plain]
        own.eos_token_id = [plain.tokens[-1], tokenizer.eos_token_id]
        (ended,) = write(model, prompts[:1], WAYS["greedy"], tokenizer)
        assert ended.stopped
        assert ended.tokens == plain.tokens[: plain.tokens.index(plain.tokens[-1])]
    finally:
        own.update(**before)


def test_repeated_tokens_are_penalised_but_padding_is_none(language_model):
    tokenizer = AutoTokenizer.from_pretrained(language_model("llama"))
    model = AutoModelForCausalLM.from_pretrained(language_model("llama"))
    tokenizer.pad_token = tokenizer.eos_token  # as most decoders have it
    options = Generation(max_new_tokens=6, repetition_penalty=1e6)
    prompts = [tokenizer(text)["input_ids"] for text in TEXTS]
    together = write(model, prompts, options, tokenizer)
    assert together == [write(model, [prompt], options, tokenizer)[0] for prompt in prompts]
    for prompt, one in zip(prompts, together, strict=True):
        assert len({*prompt, *one.tokens}) == len({*prompt}) + len(one.tokens)


@pytest.mark.slow
def test_a_long_prompt_loses_its_start(language_model):
    for kind in ("gpt2", "llama"):
        tokenizer = AutoTokenizer.from_pretrained(language_model(kind))
        model = AutoModelForCausalLM.from_pretrained(language_model(kind))
        prompt = tokenizer("the river that flows " * 40)["input_ids"]
        options = Generation(max_new_tokens=16)
        (one,) = write(model, [prompt], options, tokenizer)
        assert one.cut == len(prompt) - (POSITIONS - 16)
        assert one._replace(cut=0) == write(model, [prompt[one.cut :]], options, tokenizer)[0]


def test_texts_that_no_model_has_room_for_are_refused(language_model):
    for kind, of in (("gpt2", AutoModelForCausalLM), ("bart", AutoModelForSeq2SeqLM)):
        model = of.from_pretrained(language_model(kind))
        assert check_room(model, Generation(max_new_tokens=POSITIONS - 1)) == 1
        with pytest.raises(ConfigError, match=rf"has {POSITIONS} positions.* at most {POSITIONS - 1}"):
            check_room(model, Generation(max_new_tokens=POSITIONS))


def test_virtual_tokens_take_room_from_a_text_and_its_prompt_but_not_from_that_of_a_source(language_model):
    given = {"name": "x", "learning_rate": 1e-3, "num_virtual_tokens": 6}
    tokenizer = AutoTokenizer.from_pretrained(language_model("gpt2"))
    model = AutoModelForCausalLM.from_pretrained(language_model("gpt2"))
    model = PromptTuning(**given).apply(model, MethodContext((), "CAUSAL_LM", "here", "vocabulary"))
    reserve(model, 6)
    (one,) = write(model, [[5] * POSITIONS], Generation(max_new_tokens=16), tokenizer)
    assert one.cut == 6 + 16
    with pytest.raises(ConfigError, match=rf"6 are for virtual tokens and one .* at most {POSITIONS - 7}"):
        check_room(model, Generation(max_new_tokens=POSITIONS - 6))
    bart = AutoModelForSeq2SeqLM.from_pretrained(language_model("bart"))
    reserve(bart, 6)
    check_room(bart, Generation(max_new_tokens=POSITIONS - 1))


def test_characters_of_several_tokens_come_whole(language_model, monkeypatch):
    tokenizer = AutoTokenizer.from_pretrained(language_model("gpt2"))
    model = AutoModelForCausalLM.from_pretrained(language_model("gpt2"))
    dictated = [*tokenizer("naïve 東京 🎉")["input_ids"], tokenizer.eos_token_id]
    steps = iter(dictated)
    forward = model.forward

    def dictate(*args, **kwargs):
        outputs = forward(*args, **kwargs)
        outputs.logits[:] = 0
        outputs.logits[:, -1, next(steps)] = 1
        return outputs

    monkeypatch.setattr(model, "forward", dictate)
    pieces = list(stream(model, [5], Generation(), tokenizer))
    assert "".join(pieces) == "naïve 東京 🎉"
    assert "🎉" in pieces
    assert "\ufffd" not in "".join(pieces)


def test_an_abandoned_stream_stops_the_model_and_errors_arrive(language_model):
    tokenizer = AutoTokenizer.from_pretrained(language_model("gpt2"))
    model = AutoModelForCausalLM.from_pretrained(language_model("gpt2"))
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    pieces = stream(model, [5], Generation(max_new_tokens=200, do_sample=True), tokenizer)
    next(pieces)
    pieces.close()
    assert len(calls) < 200
    with pytest.raises(ConfigError, match="positions"):
        list(stream(model, [5], Generation(max_new_tokens=1000), tokenizer))


def test_what_a_text_begins_with_takes_its_positions_where_a_model_hears(language_model):
    folder = language_model("whisper")
    model, tokenizer = WhisperForConditionalGeneration.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    heard = Heard({"input_features": torch.zeros(1, 16, 3000)}, [5, 6, 7, 8])
    with pytest.raises(ConfigError, match=r"has 448 positions, of which 4 are for the start. Set it to at most 444"):
        write(model, heard, Generation(max_new_tokens=446), tokenizer)


class Sums(TorchDispatchMode):
    """Notes the devices of cumulative sums."""

    def __init__(self):
        super().__init__()
        self.devices = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.cumsum.default:
            self.devices.add(args[0].device.type)
        return func(*args, **(kwargs or {}))


def test_a_token_is_drawn_from_sums_in_a_fixed_order():
    """A GPU has none for cumulative sums, which torch therefore refuses there in a deterministic run."""
    with FakeTensorMode(), Sums() as sums:  # there is a device "cuda" then, whose tensors have no values
        ids, scores = torch.zeros(2, 3, device="cuda"), torch.zeros(2, 8, device="cuda")
        left = _Draw(Generation(do_sample=True), ["one", "other"])(ids, scores)
    assert left.device.type == "cuda"
    assert sums.devices == {"cpu"}

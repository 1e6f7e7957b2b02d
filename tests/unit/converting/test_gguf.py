"""The format gguf: a file that llama.cpp's own library writes becomes a Llama that transformers loads."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import dequantize, quantize
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.convert_slow_tokenizer import bytes_to_unicode

from peftlab.converting import weights
from peftlab.converting.find import convert
from peftlab.errors import SourceError
from peftlab.storage.digests import folder_sha256

HIDDEN, WIDE, LAYERS, HEADS, KEYS, SIZE = 64, 96, 2, 4, 2, 16
SPECIAL = ["<|end|>", "<|im_start|>", "<|im_end|>", "<user>"]
MERGES = ["t h", "th e", "Ġ the", "1 2", "Ġ Ġ"]
TOKENS = [*SPECIAL, *sorted(set(bytes_to_unicode().values()) - {"ÿ"}), *(merge.replace(" ", "") for merge in MERGES)]
TEMPLATE = "{% for message in messages %}<|im_start|>{{ message.content }}<|im_end|>{% endfor %}"
SHAPES = {"token_embd": (len(TOKENS), HIDDEN), "output_norm": (HIDDEN,)}
for layer in range(LAYERS):
    SHAPES |= {
        f"blk.{layer}.{name}": shape
        for name, shape in {
            "attn_norm": (HIDDEN,),
            "attn_q": (HEADS * SIZE, HIDDEN),
            "attn_k": (KEYS * SIZE, HIDDEN),
            "attn_v": (KEYS * SIZE, HIDDEN),
            "attn_output": (HIDDEN, HEADS * SIZE),
            "ffn_norm": (HIDDEN,),
            "ffn_gate": (WIDE, HIDDEN),
            "ffn_up": (WIDE, HIDDEN),
            "ffn_down": (HIDDEN, WIDE),
        }.items()
    }
TYPES = [getattr(GGMLQuantizationType, name) for name in ("Q4_1", "Q8_0", "Q4_0", "F16", "F32")]
Change = Callable[[dict[str, Any], dict[str, Any]], None]


def write(path: Path, change: Change = lambda settings, stored: None, shapes: dict = SHAPES) -> None:
    """Write a small model, its tensors in all the types that are read, after `change` to settings and tensors."""
    random = np.random.default_rng(0)
    stored: dict[str, Any] = {}
    for n, (name, shape) in enumerate(shapes.items()):
        values = random.normal(0, 0.5, shape).astype(np.float32)
        stored[f"{name}.weight"] = (values, TYPES[n % len(TYPES)] if len(shape) == 2 else GGMLQuantizationType.F32)
    types = [TokenType.CONTROL] * 3 + [TokenType.USER_DEFINED] + [TokenType.NORMAL] * (len(TOKENS) - 4)
    settings = {
        "architecture": "llama",
        "block_count": LAYERS,
        "context_length": 128,
        "embedding_length": HIDDEN,
        "feed_forward_length": WIDE,
        "head_count": HEADS,
        "head_count_kv": KEYS,
        "rope_freq_base": 1e5,
        "layer_norm_rms_eps": 1e-5,
        "rope_dimension_count": SIZE,
        "tokenizer_model": "gpt2",
        "tokenizer_pre": "smollm",
        "token_list": TOKENS,
        "token_types": types,
        "token_merges": MERGES,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unk_token_id": 0,
        "pad_token_id": 2,
        "add_bos_token": False,
        "chat_template": TEMPLATE,
    }
    change(settings, stored)
    writer = GGUFWriter(path, settings.pop("architecture"))
    writer.data_alignment = 64
    writer.add_custom_alignment(64)
    for name, value in settings.items():
        getattr(writer, f"add_{name}")(value)
    for name, (values, kind) in stored.items():
        writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> tuple[Path, Path]:
    """Return a file in the format, and the folder that it is converted to."""
    root = tmp_path_factory.mktemp("gguf")
    write(root / "small.gguf")
    convert("gguf", [root / "small.gguf"], root / "model")
    return root / "small.gguf", root / "model"


@pytest.mark.slow
def test_it_is_the_model_that_transformers_makes_of_the_file(model):
    file, folder = model
    loaded, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    theirs = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    state = loaded.state_dict()
    assert state.keys() == theirs.state_dict().keys()
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(state[name], tensor), name
    ids = torch.arange(20).unsqueeze(0) + 5
    torch.testing.assert_close(loaded(ids).logits, theirs(ids).logits)
    config = AutoConfig.from_pretrained(folder)
    assert (config.rms_norm_eps, config.rope_parameters["rope_theta"], config.tie_word_embeddings) == (1e-5, 1e5, True)
    assert GenerationConfig.from_pretrained(folder).eos_token_id == 2


def test_blocks_are_what_llama_cpp_takes_them_for(model):
    """Transformers takes its arithmetic from the same library, but permutes queries and keys."""
    loaded = AutoModelForCausalLM.from_pretrained(model[1]).state_dict()
    own = {"ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "attn_v": "self_attn.v_proj"}
    random = np.random.default_rng(0)
    for n, (name, shape) in enumerate(SHAPES.items()):
        values = random.normal(0, 0.5, shape).astype(np.float32)
        layer, _, kind = name.removeprefix("blk.").partition(".")
        if kind in own:
            expected = dequantize(quantize(values, TYPES[n % len(TYPES)]), TYPES[n % len(TYPES)])
            assert np.array_equal(loaded[f"model.layers.{layer}.{own[kind]}.weight"].numpy(), expected), name


def test_the_tokenizer(model):
    own = AutoTokenizer.from_pretrained(model[1])
    theirs = AutoTokenizer.from_pretrained(model[0].parent, gguf_file=model[0].name)
    for text in ["the capital", " the  the", "<|im_start|>a<|im_end|>", "<user>é 北京 😀", "\n\ta's", "\x00"]:
        ids = own(text)["input_ids"]
        assert ids == theirs(text)["input_ids"], text
        assert own.decode(ids) == text
    assert own.tokenize("  12") == ["ĠĠ", "1", "2"]  # digits one by one, which transformers overlooks in the file
    assert own.all_special_tokens == ["<|im_start|>", "<|im_end|>", "<|end|>"]
    assert (own.pad_token_id, own.eos_token_id, own.model_max_length) == (2, 2, 128)
    assert own.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False) == "<|im_start|>x<|im_end|>"


def test_the_bytes_depend_on_the_file_alone(model, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "ROWS", 7)
    convert("gguf", [model[0]], tmp_path / "again")
    assert folder_sha256(tmp_path / "again") == folder_sha256(model[1])


def test_an_untied_head_and_a_tokenizer_of_gpt2(tmp_path):
    def change(settings, stored):
        settings["tokenizer_pre"] = "gpt-2"
        del settings["chat_template"], settings["rope_dimension_count"], settings["head_count_kv"]

    keys = {name: (HIDDEN, HIDDEN) for name in SHAPES if name.endswith(("attn_k", "attn_v"))}
    write(tmp_path / "x.gguf", change, SHAPES | keys | {"output": SHAPES["token_embd"]})
    convert("gguf", [tmp_path / "x.gguf"], tmp_path / "model")
    loaded, report = AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report.values())
    assert not torch.equal(loaded.lm_head.weight, loaded.model.embed_tokens.weight)
    assert AutoTokenizer.from_pretrained(tmp_path / "model").tokenize("  12") == ["Ġ", "Ġ", "12"]
    assert not (tmp_path / "model" / "chat_template.jinja").exists()


def test_special_tokens_that_a_file_may_leave_out(tmp_path):
    def change(settings, stored):
        del settings["unk_token_id"], settings["pad_token_id"]

    write(tmp_path / "x.gguf", change)
    convert("gguf", [tmp_path / "x.gguf"], tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert (tokenizer.unk_token, tokenizer.pad_token_id, tokenizer.eos_token_id) == (None, 2, 2)
    assert tokenizer(["the", "the capital"], padding=True)["attention_mask"][0][-1] == 0
    assert AutoConfig.from_pretrained(tmp_path / "model").pad_token_id == 2


def set_(name: str, value: Any, settings: dict, stored: dict) -> None:
    settings[name] = value


def without(name: str, settings: dict, stored: dict) -> None:
    del (settings if name in settings else stored)[name]


def with_tensor(name: str, shape: tuple, kind: str, settings: dict, stored: dict) -> None:
    stored[name] = (np.ones(shape, np.float32), getattr(GGMLQuantizationType, kind))


ODD: dict[str, Change] = {
    "its architecture is 'qwen3', not 'llama'": functools.partial(set_, "architecture", "qwen3"),
    "it sets llama.rope.scaling.factor": functools.partial(set_, "rope_scaling_factor", 2.0),
    "its tokenizer is of the kind 'llama', 'smollm'": functools.partial(set_, "tokenizer_model", "llama"),
    "its tokenizer is of the kind 'gpt2', 'llama-bpe'": functools.partial(set_, "tokenizer_pre", "llama-bpe"),
    "its tokenizer is of the kind 'gpt2', 'smollm'; .* puts no token before": functools.partial(
        set_, "add_bos_token", True
    ),
    "'abc' is no merge of two tokens": functools.partial(set_, "token_merges", ["abc"]),
    "a token occurs twice": functools.partial(set_, "token_list", [*TOKENS[:-1], "a"]),
    "index out of range": functools.partial(set_, "pad_token_id", 9999),
    "it lacks 'tokenizer.ggml.eos_token_id'": functools.partial(without, "eos_token_id"),
    "it holds a value of an unexpected type": functools.partial(set_, "head_count", [HEADS] * LAYERS),
    "it lacks 'llama.block_count'": functools.partial(without, "block_count"),
    "it lacks 'blk.1.attn_k.weight'": functools.partial(without, "blk.1.attn_k.weight"),
    "it has the tensor rope_freqs.weight": functools.partial(with_tensor, "rope_freqs.weight", (8,), "F32"),
    r"output_norm.weight has the shape \(32,\)": functools.partial(with_tensor, "output_norm.weight", (32,), "F32"),
    "the tensor extra is of the type 6 of ggml": functools.partial(with_tensor, "extra", (4, 32), "Q5_0"),
}


@pytest.mark.parametrize("reason", ODD)
def test_another_model_is_refused(reason, tmp_path):
    write(tmp_path / "x.gguf", ODD[reason])
    with pytest.raises(SourceError, match=rf"^'x\.gguf' is not a model in the format gguf: .*{reason}.* Name a GGUF "):
        convert("gguf", [tmp_path / "x.gguf"], tmp_path / "model")


def test_damaged_files_are_refused(model, tmp_path):
    content = model[0].read_bytes()
    odd = {"empty": b"", "another format": b"GGML" + content[4:], "another version": content[:4] + b"\1" + content[5:]}
    odd |= {"many settings": content[:16] + struct.pack("<Q", 2**62) + content[24:]}
    odd |= {"a type": content.replace(b"general.architecture\x08", b"general.architecture\x0d")}
    odd |= {f"cut at {k}": content[:k] for k in range(1, len(content) - 64, 30011)}
    for name, each in odd.items():
        (tmp_path / "x.gguf").write_bytes(each)
        with pytest.raises(SourceError, match=r"^'x\.gguf' is not a model in the format gguf: "):
            convert("gguf", [tmp_path / "x.gguf"], tmp_path / name)
    with pytest.raises(SourceError, match=r"one \.gguf file, not from none"):
        convert("gguf", [], tmp_path / "none")

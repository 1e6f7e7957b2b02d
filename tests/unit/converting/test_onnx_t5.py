"""The format onnx_t5: two quantised ONNX files become a T5 that transformers loads."""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, T5Config, T5ForConditionalGeneration

from peftlab.converting import weights
from peftlab.converting.find import convert
from peftlab.errors import SourceError
from peftlab.storage.digests import folder_sha256

SIZES = {"vocab_size": 300, "d_model": 16, "d_kv": 6, "d_ff": 24, "num_layers": 2, "num_decoder_layers": 1}
FILES = ["encoder.onnx", "decoder.onnx", "tokenizer.json"]
EMBEDDING = ("shared.weight", "encoder.embed_tokens.weight", "relative_attention_bias.weight")


def number(value: int) -> bytes:
    value &= 2**64 - 1
    digits = []
    while True:
        digits.append(value & 127 | (128 if value > 127 else 0))
        value >>= 7
        if not value:
            return bytes(digits)


def field(n: int, content: bytes | str | int) -> bytes:
    """Return a field of Protocol Buffers: an integer, or bytes with their length before them."""
    if isinstance(content, int):
        return number(n << 3) + number(content)
    content = content.encode() if isinstance(content, str) else content
    return number(n << 3 | 2) + number(len(content)) + content


def tensor(name: str, values: np.ndarray, kind: int, raw: bool = True) -> bytes:
    """Return a weight in one of the ways that the format has for it."""
    shape = b"".join(field(1, size) for size in values.shape)
    if raw:
        content = field(9, values.tobytes())
    elif kind == 1:
        content = field(4, values.astype("<f4").tobytes())
    else:
        content = field(5, b"".join(number(int(value)) for value in values.flat))
    return shape + field(2, kind) + content + field(8, name)


def quantised(name: str, values: np.ndarray, kind: int, raw: bool) -> tuple[list[bytes], np.ndarray]:
    """Return the three weights of `values` in 8 bits, and what they mean."""
    low, high = min(values.min(), 0), max(values.max(), 0)
    scale = np.float32((high - low) / 255)
    zero = round(-low / scale) - (128 if kind == 3 else 0)
    dtype = np.int8 if kind == 3 else np.uint8
    limits = np.iinfo(dtype)
    stored = np.clip(np.round(values / scale) + zero, limits.min, limits.max).astype(dtype)
    meant = np.array([np.float32(int(each) - zero) * scale for each in stored.flat], np.float32)
    zero_point = tensor(f"{name}_zero_point", np.array(zero, dtype), kind, raw)
    parts = [tensor(f"{name}_scale", np.array(scale, "<f4"), 1, raw), zero_point]
    return [*parts, tensor(f"{name}_quantized", stored, kind)], meant.reshape(stored.shape)


def graph(state: Mapping[str, np.ndarray], side: str) -> tuple[bytes, dict[str, np.ndarray]]:
    """Return the file of the encoder or the decoder, and the weights that it means by their names in transformers."""
    nodes, stored, meant = [], [tensor("Constant_7", np.array([1, 2], "<i8"), 7)], {}
    further = ["shared.weight", "lm_head.weight"] if side == "decoder" else []
    own = [name for name in state if name.startswith(f"{side}.") and name != "decoder.embed_tokens.weight"] + further
    for n, name in enumerate(own):
        theirs = f"enc.{name.removeprefix('encoder.')}" if side == "encoder" else f"m.{name}"
        if name.endswith(("layer_norm.weight", "_norm.weight")):
            stored.append(tensor(theirs, state[name], 1))
            meant[name] = state[name]
        elif name.endswith(EMBEDDING):
            parts, meant[name] = quantised(theirs, state[name], 2, raw=bool(n % 2))
            stored += parts
        else:
            matrix = f"onnx::MatMul_{n}"
            parts, values = quantised(matrix, state[name].T, 3, raw=bool(n % 2))
            stored += parts
            meant[name] = values.T
            layer = re.sub(r"\.(?!\d)", "/", theirs.removesuffix(".weight"))
            inputs = ("x_quantized", f"{matrix}_quantized", "x_zero_point", f"{matrix}_zero_point")
            node = b"".join(field(1, each) for each in inputs)
            nodes.append(node + field(3, f"/{layer}/MatMul_quant") + field(4, "MatMulInteger"))
    nodes.append(field(1, "a") + field(1, "b") + field(3, "/attention/MatMul") + field(4, "MatMul"))
    content = b"".join(field(1, node) for node in nodes) + b"".join(field(5, each) for each in stored)
    version = number(1 << 3 | 5) + struct.pack("<f", 1.0)  # a field of fixed size, and others that are skipped
    return field(1, 8) + field(2, "onnx.quantize") + version + field(7, content) + field(14, "end"), meant


@pytest.fixture(scope="module")
def model(tmp_path_factory, language_model) -> tuple[Path, dict[str, np.ndarray]]:
    """Return a folder with the three files, and the weights that they mean."""
    root = tmp_path_factory.mktemp("onnx")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = T5Config(**SIZES, num_heads=3, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
        state = {name: value.numpy() for name, value in T5ForConditionalGeneration(config).state_dict().items()}
    state["lm_head.weight"] = state["lm_head.weight"][::-1].copy()
    meant = {}
    for side in ("encoder", "decoder"):
        content, weights_of_side = graph(state, side)
        (root / f"{side}.onnx").write_bytes(content)
        meant |= weights_of_side
    tokenizer = json.loads((language_model("t5") / "tokenizer.json").read_text())
    tokenizer["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    (root / "tokenizer.json").write_text(json.dumps(tokenizer))
    return root, meant


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("onnx_t5") / "model"
    convert("onnx_t5", [model[0] / name for name in FILES], made)
    return made


def test_transformers_loads_what_it_writes(model, folder):
    loaded, report = AutoModelForSeq2SeqLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    state = loaded.state_dict()
    assert {*state} - {*model[1]} == {"decoder.embed_tokens.weight"}
    for name, values in model[1].items():
        assert np.array_equal(state[name].numpy(), values), name
    assert not torch.equal(loaded.lm_head.weight, loaded.shared.weight)
    config = loaded.config
    assert {name: getattr(config, name) for name in SIZES} == SIZES
    assert (config.num_heads, config.dense_act_fn, config.scale_decoder_outputs) == (3, "gelu_new", False)
    assert loaded.generation_config.decoder_start_token_id == config.pad_token_id == 0


def test_the_tokenizer_cuts_and_pads_nothing(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("the capital of france is paris")["input_ids"]
    assert len(ids) > 4
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the capital of france is paris"


def test_the_bytes_depend_on_the_files_alone(model, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "ROWS", 7)
    convert("onnx_t5", [model[0] / name for name in reversed(FILES)], tmp_path / "again")
    assert folder_sha256(tmp_path / "again") == folder_sha256(folder)


def test_other_files_are_refused(model, tmp_path):
    paths = [Path(shutil.copy(model[0] / name, tmp_path / name)) for name in FILES]
    with pytest.raises(
        SourceError, match=r"converted from encoder\.onnx, decoder\.onnx, tokenizer\.json, not from enc"
    ):
        convert("onnx_t5", paths[:1], tmp_path / "few")
    content = paths[1].read_bytes()
    odd = {
        "it is empty": b"",
        "it holds no graph": field(1, 8),
        "a field has the type 3": b"\x0b" + content,
        "it ends in a": content[:-3000],
        "more than 64 bits": field(1, 8) + b"\x38" + b"\xff" * 11,
        "lm_tail.weight is no weight of a T5": content.replace(b"/m/lm_head", b"/m/lm_tail"),
        "it lacks 'onnx::MatMul_": re.sub(rb"(onnx::MatMul_\d+_)scale", rb"\1scald", content),
    }
    odd |= {f"cut {k}": content[:k] for k in range(1, len(content), 4001)}
    for n, (reason, each) in enumerate(odd.items()):
        paths[1].write_bytes(each)
        with pytest.raises(SourceError, match=r"^'decoder\.onnx' is not a model in the format onnx_t5: ") as error:
            convert("onnx_t5", paths, tmp_path / str(n))
        assert reason.startswith("cut") or reason in str(error.value)


def test_another_tokenizer_is_refused(model, tmp_path):
    paths = [Path(shutil.copy(model[0] / name, tmp_path / name)) for name in FILES]
    unexpected = "it holds a value of an unexpected type"
    odd = {"[]": unexpected, '{"added_tokens": [1]}': unexpected, "{}": "it lacks 'added_tokens'", "{": "Expecting"}
    for n, (content, reason) in enumerate(odd.items()):
        paths[2].write_text(content)
        with pytest.raises(SourceError, match=rf"^'tokenizer\.json' is not .* onnx_t5: {reason}.* Name the tokenizer"):
            convert("onnx_t5", paths, tmp_path / str(n))


def test_halves_of_different_models_are_refused(model, tmp_path):
    paths = [Path(shutil.copy(model[0] / name, tmp_path / name)) for name in FILES]
    content = bytearray(paths[0].read_bytes())
    content[content.index(b"enc.embed_tokens.weight_quantized") - 10] ^= 1
    paths[0].write_bytes(content)
    with pytest.raises(SourceError, match="encoder and decoder differ in the embeddings of tokens"):
        convert("onnx_t5", paths, tmp_path / "model")

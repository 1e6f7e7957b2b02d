"""A Whisper in the binary format of CTranslate2 (version 6), in fp32 or fp16: a WhisperForConditionalGeneration.

Layout, little-endian: the version, the name and the revision of the specification, a list of variables (name, shape,
type, bytes), a list of aliases. Queries, keys and values of a self-attention are one matrix; keys and values of an
attention to the encoder are another. Whisper's keys have no bias, which the file stores as zeros.

The ``config.json`` beside it lists the tokens that are never written, and ``tokenizer.json`` names all tokens.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Mapping, Sequence
from functools import partial
from mmap import mmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from peftlab.converting.files import mapped, write_json
from peftlab.converting.weights import Weight, write
from peftlab.errors import SourceError

_FILES = ("model.bin", "config.json", "tokenizer.json")
_REMEDY = "Name the model.bin of a Whisper that CTranslate2 has written in float16 or float32"
_VERSION, _SPECIFICATION = 6, ("WhisperSpec", 3)
_DTYPES = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}
"""NumPy's types by their numbers in the file."""

_OUTSIDE_THE_LAYERS = {
    "encoder/conv1": "encoder.conv1",
    "encoder/conv2": "encoder.conv2",
    "encoder/position_encodings": "encoder.embed_positions",
    "encoder/layer_norm": "encoder.layer_norm",
    "decoder/embeddings": "decoder.embed_tokens",
    "decoder/position_encodings": "decoder.embed_positions",
    "decoder/layer_norm": "decoder.layer_norm",
}
_IN_A_LAYER = {
    "self_attention/layer_norm": ["self_attn_layer_norm"],
    "self_attention/linear_0": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "self_attention/linear_1": ["self_attn.out_proj"],
    "attention/layer_norm": ["encoder_attn_layer_norm"],
    "attention/linear_0": ["encoder_attn.q_proj"],
    "attention/linear_1": ["encoder_attn.k_proj", "encoder_attn.v_proj"],
    "attention/linear_2": ["encoder_attn.out_proj"],
    "ffn/layer_norm": ["final_layer_norm"],
    "ffn/linear_0": ["fc1"],
    "ffn/linear_1": ["fc2"],
}
"""The names of their modules in CTranslate2, and in transformers those that share its rows."""
_KINDS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias", "encodings": "weight"}
_SETTINGS = frozenset({"activation", "alibi", "alignment_heads", "alignment_layer", "num_heads", "pre_norm"}) | {
    "scale_embeddings",
    "start_from_zero_embedding",
}
"""Variables that are no weights."""


class _Variable(NamedTuple):
    """A tensor in the file."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int


def convert(inputs: Sequence[Path], folder: Path) -> None:
    """Write the model of `_FILES` to `folder`; see `peftlab.converting.find.convert`.

    Raises:
        SourceError: `inputs` are others, or the file has no such model.
    """
    paths = {path.name: path for path in inputs}
    if sorted(paths) != sorted(_FILES):
        names = ", ".join(path.name for path in inputs)
        raise SourceError(f"The format ct2 is converted from {', '.join(_FILES)}, not from {names}")
    with mapped(paths["config.json"], "ct2", "Name the config.json beside the model.bin") as text:
        settings = json.loads(text[:])
        silent = {"suppress_tokens": settings["suppress_ids"], "begin_suppress_tokens": settings["suppress_ids_begin"]}
        heads = settings["alignment_heads"]
    with mapped(paths["tokenizer.json"], "ct2", "Name the tokenizer.json of the model") as text:
        tokens = {token["content"]: token["id"] for token in json.loads(text[:])["added_tokens"]}
        end, start = tokens["<|endoftext|>"], tokens["<|startoftranscript|>"]
        generation = _generation(tokens)
    with mapped(paths["model.bin"], "ct2", _REMEDY) as data:
        variables = _read(data)
        config = _config(data, variables)
        write(_weights(data, variables), folder / "model.safetensors")
    ends = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "decoder_start_token_id": start}
    write_json(folder / "config.json", config | ends)
    write_json(folder / "generation_config.json", generation | ends | silent | {"alignment_heads": heads})
    write_json(folder / "preprocessor_config.json", _extractor(config))
    write_json(folder / "tokenizer_config.json", _tokenizer(config))
    shutil.copyfile(paths["tokenizer.json"], folder / "tokenizer.json")


def _read(data: mmap) -> dict[str, _Variable]:
    """Return where the variables are."""
    at = 0

    def number(kind: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from(f"<{kind}", data, at)
        at += struct.calcsize(kind)
        return int(value)

    def name() -> str:
        nonlocal at
        length = number("H")
        text = data[at : at + length - 1].decode("ascii")  # a zero ends it
        at += length
        return text

    version, specification = number("I"), (name(), number("I"))
    if (version, specification) != (_VERSION, _SPECIFICATION):
        raise ValueError(f"it begins with version {version} of {specification[0]!r}, revision {specification[1]}")
    variables = {}
    for _ in range(number("I")):
        called = name()
        shape = tuple(number("I") for _ in range(number("B")))
        dtype, size = np.dtype(_DTYPES[number("B")]), number("I")
        if size != dtype.itemsize * int(np.prod(shape)) or at + size > len(data):
            raise ValueError(f"{called} has {size} bytes, which are not {shape} of {dtype}, or not all there")
        variables[called] = _Variable(shape, dtype, at)
        at += size
    return variables


def _weights(data: mmap, variables: Mapping[str, _Variable]) -> dict[str, Weight]:
    weights = {}
    for called, variable in variables.items():
        module, _, kind = called.rpartition("/")
        if kind in _SETTINGS:
            continue
        if variable.dtype.kind != "f":
            raise ValueError(f"{called} is of the type {variable.dtype}, which is not converted")
        side, names = _modules(module)
        rows = variable.shape[0] // len(names)
        for n, theirs in enumerate(names):
            if not (theirs.endswith("k_proj") and kind == "bias"):
                shape = (rows, *variable.shape[1:])
                part = partial(_rows, data, variable, n * rows)
                weights[f"model.{side}{theirs}.{_KINDS[kind]}"] = Weight(shape, part)
    return weights


def _modules(module: str) -> tuple[str, list[str]]:
    """Return the names in transformers of those whose rows `module` has, and what stands before them."""
    if module in _OUTSIDE_THE_LAYERS:
        return "", [_OUTSIDE_THE_LAYERS[module]]
    if (layer := re.fullmatch(r"(encoder|decoder)/layer_(\d+)/(.+)", module)) is None:
        raise ValueError(f"it has a module {module}, which Whisper has not")
    return f"{layer[1]}.layers.{layer[2]}.", _IN_A_LAYER[layer[3]]


def _rows(data: mmap, variable: _Variable, before: int, first: int, last: int) -> np.ndarray:
    width = int(np.prod(variable.shape[1:]))
    offset = variable.offset + (before + first) * width * variable.dtype.itemsize
    values = np.frombuffer(data, variable.dtype, (last - first) * width, offset)
    return values.reshape(last - first, *variable.shape[1:]).astype(np.float32)


def _value(data: mmap, variable: _Variable) -> int:
    return int(np.frombuffer(data, variable.dtype, 1, variable.offset)[0])


def _config(data: mmap, variables: Mapping[str, _Variable]) -> dict[str, Any]:
    def layers(side: str) -> int:
        return len({name.split("/")[1] for name in variables if name.startswith(f"{side}/layer_") and "ffn" in name})

    vocabulary, width = variables["decoder/embeddings/weight"].shape
    config: dict[str, Any] = {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "is_encoder_decoder": True,
        "activation_function": "gelu",
        "d_model": width,
        "vocab_size": vocabulary,
        "num_mel_bins": variables["encoder/conv1/weight"].shape[1],
        "max_source_positions": variables["encoder/position_encodings/encodings"].shape[0],
        "max_target_positions": variables["decoder/position_encodings/encodings"].shape[0],
        "scale_embedding": bool(_value(data, variables["decoder/scale_embeddings"])),
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
    }
    for side in ("encoder", "decoder"):
        config[f"{side}_layers"] = layers(side)
        config[f"{side}_attention_heads"] = _value(data, variables[f"{side}/num_heads"])
        config[f"{side}_ffn_dim"] = variables[f"{side}/layer_0/ffn/linear_0/weight"].shape[0]
    return config | {"num_hidden_layers": config["encoder_layers"]}


def _generation(tokens: Mapping[str, int]) -> dict[str, Any]:
    """Return the ids by which a text begins, as transformers' own generation for Whisper looks them up."""
    languages = {name: n for name, n in tokens.items() if re.fullmatch(r"<\|[a-z]{2,3}\|>", name)}
    return {
        "is_multilingual": bool(languages),
        "lang_to_id": languages,
        "task_to_id": {name: tokens[f"<|{name}|>"] for name in ("transcribe", "translate")},
        "no_timestamps_token_id": tokens["<|notimestamps|>"],
        "prev_sot_token_id": tokens["<|startofprev|>"],
        "max_length": 448,
        "return_timestamps": False,
    }


def _extractor(config: Mapping[str, Any]) -> dict[str, Any]:
    rate, hop = 16000, 160
    frames = 2 * config["max_source_positions"]  # the second convolution has a stride of 2
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "processor_class": "WhisperProcessor",
        "feature_size": config["num_mel_bins"],
        "sampling_rate": rate,
        "hop_length": hop,
        "n_fft": 400,
        "chunk_length": frames * hop // rate,
        "n_samples": frames * hop,
        "nb_max_frames": frames,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": False,
    }


def _tokenizer(config: Mapping[str, Any]) -> dict[str, Any]:
    end = "<|endoftext|>"
    return {
        "tokenizer_class": "WhisperTokenizer",
        "processor_class": "WhisperProcessor",
        "model_max_length": config["max_target_positions"],
        "clean_up_tokenization_spaces": False,
        **{f"{name}_token": end for name in ("bos", "eos", "pad", "unk")},
    }

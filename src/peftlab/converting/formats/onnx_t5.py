"""An encoder-decoder of the T5 v1.1 family as two ONNX files, quantised dynamically to 8 bits by ONNX Runtime: a T5.

The export keeps the names of the layers in its operations, but not those of their weights: a matrix is the second
input of the multiplication that is named for its layer, transposed. A value is ``(stored - zero point) * scale``, one
fp32 product of an exact difference. Encoder and decoder hold the embeddings of the tokens twice.

The ``tokenizer.json`` is a third input; it is taken without its truncation and padding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from peftlab.converting.files import mapped, write_json
from peftlab.converting.onnx_file import Graph, read
from peftlab.converting.weights import Weight, write
from peftlab.errors import SourceError

_FILES = ("encoder.onnx", "decoder.onnx", "tokenizer.json")
_SHARED, _ENCODERS = "shared.weight", "encoder.embed_tokens.weight"
_BIAS = "{}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
"""The names of embeddings in transformers."""

_REMEDY = "Name the encoder and the decoder of one T5 v1.1, as ONNX Runtime quantises it dynamically"

_SPECIAL = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
"""The special tokens of all T5; the decoder starts with the padding."""


def convert(inputs: Sequence[Path], folder: Path) -> None:
    """Write the model of `_FILES` to `folder`; see `peftlab.converting.find.convert`.

    Raises:
        SourceError: `inputs` are others, or the files are no such model.
    """
    paths = {path.name: path for path in inputs}
    if sorted(paths) != sorted(_FILES):
        names = ", ".join(path.name for path in inputs)
        raise SourceError(f"The format onnx_t5 is converted from {', '.join(_FILES)}, not from {names}")
    with mapped(paths["encoder.onnx"], "onnx_t5", _REMEDY) as data:
        encoder = _weights(read(data))
    with mapped(paths["decoder.onnx"], "onnx_t5", _REMEDY) as data:
        both = encoder | _weights(read(data))
        config = _config(both)
        weights = _checked(both, config)
    with mapped(paths["tokenizer.json"], "onnx_t5", "Name the tokenizer.json of the model") as text:
        tokenizer = json.loads(text[:]) | {"truncation": None, "padding": None}
        ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
        pad, eos = ids[_SPECIAL["pad_token"]], ids[_SPECIAL["eos_token"]]
    ends = {"pad_token_id": pad, "eos_token_id": eos, "decoder_start_token_id": pad}
    write(weights, folder / "model.safetensors")
    write_json(folder / "config.json", config | ends)
    write_json(folder / "generation_config.json", ends)
    write_json(folder / "tokenizer.json", tokenizer)
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",  # takes tokenizer.json as it is; T5's builds it anew
            "model_input_names": ["input_ids", "attention_mask"],
            "clean_up_tokenization_spaces": False,
            **_SPECIAL,
        },
    )


def _weights(graph: Graph) -> dict[str, Weight]:
    """Return the weights of an encoder or a decoder by their names in transformers."""
    weights = {}
    layers = {}
    for node in graph.nodes:
        if node.kind == "MatMulInteger":  # a matrix of weights, and not of attention
            layers[node.inputs[1].removesuffix("_quantized")] = node.name.removesuffix("/MatMul_quant")
    for stored, values in graph.weights.items():
        name = stored.removesuffix("_quantized")
        if name == stored and values.ndim == 1:
            weights[_name(name)] = Weight(values.shape, partial(_rows, values, 0, np.float32(1)))
        elif name != stored:
            zero, scale = int(graph.weights[f"{name}_zero_point"][()]), np.float32(graph.weights[f"{name}_scale"][()])
            matrix = values.T if name in layers else values
            theirs = f"{_name(layers[name])}.weight" if name in layers else _name(name)
            weights[theirs] = Weight(matrix.shape, partial(_rows, matrix, zero, scale))
    return weights


def _name(name: str) -> str:
    """Return the name in transformers of a layer, ``/m/decoder/...``, or a weight, ``m.decoder...``."""
    name = name.removeprefix("/").replace("/", ".").removeprefix("m.")
    return f"encoder.{name.removeprefix('enc.')}" if name.startswith("enc.") else name


def _rows(stored: np.ndarray, zero: int, scale: np.float32, first: int, last: int) -> np.ndarray:
    rows = stored[first:last]
    return rows if rows.dtype == np.float32 else (rows.astype(np.int16) - np.int16(zero)).astype(np.float32) * scale


def _config(weights: Mapping[str, Weight]) -> dict[str, Any]:
    vocabulary, hidden = weights[_SHARED].shape
    buckets, heads = weights[_BIAS.format("encoder")].shape
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "vocab_size": vocabulary,
        "d_model": hidden,
        "d_kv": weights["encoder.block.0.layer.0.SelfAttention.q.weight"].shape[0] // heads,
        "d_ff": weights["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"].shape[0],
        "num_heads": heads,
        "num_layers": _blocks(weights, "encoder"),
        "num_decoder_layers": _blocks(weights, "decoder"),
        "relative_attention_num_buckets": buckets,
        "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6,
        "dropout_rate": 0.1,
        "feed_forward_proj": "gated-gelu",
        "is_encoder_decoder": True,
        "tie_word_embeddings": False,
    }


def _blocks(weights: Mapping[str, Weight], side: str) -> int:
    return len({name.split(".")[2] for name in weights if name.startswith(f"{side}.block.")})


def _checked(weights: Mapping[str, Weight], config: Mapping[str, Any]) -> dict[str, Weight]:
    """Return the weights of a T5, without the encoder's copy of the embeddings.

    Raises:
        KeyError, ValueError: one is missing, too many, or has another shape; or the copy differs.
    """
    hidden, inner, wide = config["d_model"], config["num_heads"] * config["d_kv"], config["d_ff"]
    attention = {"q": (inner, hidden), "k": (inner, hidden), "v": (inner, hidden), "o": (hidden, inner)}
    forward = {"wi_0": (wide, hidden), "wi_1": (wide, hidden), "wo": (hidden, wide)}
    shapes: dict[str, tuple[int, ...]] = {
        _SHARED: (config["vocab_size"], hidden),
        "lm_head.weight": (config["vocab_size"], hidden),
    }
    sides = {
        "encoder": (["SelfAttention"], config["num_layers"]),
        "decoder": (["SelfAttention", "EncDecAttention"], config["num_decoder_layers"]),
    }
    for side, (attentions, blocks) in sides.items():
        shapes[_BIAS.format(side)] = (config["relative_attention_num_buckets"], config["num_heads"])
        shapes[f"{side}.final_layer_norm.weight"] = (hidden,)
        for block in range(blocks):
            for n, kind in enumerate([*attentions, "DenseReluDense"]):
                layer = f"{side}.block.{block}.layer.{n}"
                shapes[f"{layer}.layer_norm.weight"] = (hidden,)
                matrices = forward if kind == "DenseReluDense" else attention
                shapes |= {f"{layer}.{kind}.{matrix}.weight": shape for matrix, shape in matrices.items()}
    if odd := sorted(weights.keys() - shapes.keys() - {_ENCODERS}):
        raise ValueError(f"{odd[0]} is no weight of a T5 v1.1")
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            raise ValueError(f"{name} has the shape {weights[name].shape}, not {shape}")
    blocks_of = (weights[name].blocks() for name in (_SHARED, _ENCODERS))
    if any(not np.array_equal(one, other) for one, other in zip(*blocks_of, strict=True)):
        raise ValueError("encoder and decoder differ in the embeddings of tokens")
    return {name: weights[name] for name in shapes}

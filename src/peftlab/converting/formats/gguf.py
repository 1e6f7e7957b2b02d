"""A GGUF file of llama.cpp with a model in Llama's architecture, its matrices quantised: a Llama in fp32.

The tokenizer is made from the vocabulary and the merges in the file. Matrices are converted a block of rows at a time:
beside the mapped file, memory stays below 150 MB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from peftlab.converting.blocks import from_blocks
from peftlab.converting.byte_pairs import DIVISIONS, tokenizer_json
from peftlab.converting.files import mapped, write_json
from peftlab.converting.gguf_file import Tensor, read
from peftlab.converting.weights import Weight, write
from peftlab.errors import SourceError

_CONTROL, _USER_DEFINED = 3, 4
"""Types of tokens that are looked for in a text as they are; those of control are special."""

_SPECIAL = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
"""The special tokens in transformers and in the file."""
_NEEDED = ("bos", "eos")
"""Those that every file has to name."""


def convert(inputs: Sequence[Path], folder: Path) -> None:
    """Write the model of a ``.gguf`` file to `folder`; see `peftlab.converting.find.convert`.

    Raises:
        SourceError: `inputs` are others, or the file has no such model.
    """
    if len(inputs) != 1:
        names = ", ".join(path.name for path in inputs)
        raise SourceError(f"The format gguf is converted from one .gguf file, not from {names or 'none'}")
    remedy = "Name a GGUF file of a Llama with a tokenizer of byte pairs, in Q4_0, Q4_1, Q8_0, F16 or F32"
    with mapped(inputs[0], "gguf", remedy) as data:
        settings, tensors = (contents := read(data)).settings, contents.tensors
        config = _config(settings, tied="output.weight" not in tensors)
        weights = _weights(tensors, config)
        special = _special(settings)
        vocabulary = settings["tokenizer.ggml.tokens"]
        tokens = {own: vocabulary[n] for own, n in special.items()}
        tokenizer = _tokenizer(settings)
        template = settings.get("tokenizer.chat_template")
    write(weights, folder / "model.safetensors")
    ends = {f"{name}_token_id": special[name] for name in (*_NEEDED, "pad")}
    write_json(folder / "config.json", config | ends)
    write_json(folder / "generation_config.json", ends)
    write_json(folder / "tokenizer.json", tokenizer)
    write_json(folder / "tokenizer_config.json", _tokenizer_config(config, tokens))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8", newline="\n")


def _config(settings: Mapping[str, Any], tied: bool) -> dict[str, Any]:
    architecture = settings["general.architecture"]
    if architecture != "llama":
        raise ValueError(f"its architecture is {architecture!r}, not 'llama'")
    if odd := sorted(key for key in settings if key.startswith(("llama.rope.scaling", "llama.expert"))):
        raise ValueError(f"it sets {odd[0]}, which is not converted")
    heads = settings["llama.attention.head_count"]
    hidden = settings["llama.embedding_length"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": settings["llama.feed_forward_length"],
        "num_hidden_layers": settings["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": settings.get("llama.attention.head_count_kv", heads),
        "head_dim": settings.get("llama.rope.dimension_count", hidden // heads),
        "max_position_embeddings": settings["llama.context_length"],
        "rms_norm_eps": _decimal(settings["llama.attention.layer_norm_rms_epsilon"]),
        "rope_theta": _decimal(settings.get("llama.rope.freq_base", 10000.0)),
        "vocab_size": len(settings["tokenizer.ggml.tokens"]),
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
    }


def _decimal(value: float) -> float:
    """Return the decimal that was meant by an fp32."""
    return float(f"{value:.6g}")


def _weights(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Weight]:
    hidden, wide, size = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    in_a_layer = {
        "attn_norm": ("input_layernorm", (hidden,)),
        "attn_q": ("self_attn.q_proj", (queries, hidden)),
        "attn_k": ("self_attn.k_proj", (keys, hidden)),
        "attn_v": ("self_attn.v_proj", (keys, hidden)),
        "attn_output": ("self_attn.o_proj", (hidden, queries)),
        "ffn_norm": ("post_attention_layernorm", (hidden,)),
        "ffn_gate": ("mlp.gate_proj", (wide, hidden)),
        "ffn_up": ("mlp.up_proj", (wide, hidden)),
        "ffn_down": ("mlp.down_proj", (hidden, wide)),
    }
    names: dict[str, tuple[str, tuple[int, ...]]] = {
        "token_embd": ("model.embed_tokens", (config["vocab_size"], hidden)),
        "output_norm": ("model.norm", (hidden,)),
    }
    if not config["tie_word_embeddings"]:
        names["output"] = ("lm_head", (config["vocab_size"], hidden))
    for n in range(config["num_hidden_layers"]):
        names |= {
            f"blk.{n}.{own}": (f"model.layers.{n}.{theirs}", shape) for own, (theirs, shape) in in_a_layer.items()
        }
    if odd := sorted(tensors.keys() - {f"{own}.weight" for own in names}):
        raise ValueError(f"it has the tensor {odd[0]}, which is not converted")
    weights = {}
    for own, (theirs, shape) in names.items():
        tensor = tensors[f"{own}.weight"]
        if tensor.shape != shape:
            raise ValueError(f"the tensor {own}.weight has the shape {tensor.shape}, not {shape}")
        order = _order(shape[0], size) if own.endswith(("attn_q", "attn_k")) else np.arange(shape[0])
        weights[f"{theirs}.weight"] = Weight(shape, partial(_rows, tensor.stored, order))
    return weights


def _order(rows: int, size: int) -> np.ndarray:
    """Return which row of a file's queries or keys each row of transformers' is.

    Rotary embeddings turn pairs of features: in the file the two of a pair are neighbours, in transformers half a head
    of `size` lies between them.
    """
    return np.arange(rows).reshape(-1, size // 2, 2).swapaxes(1, 2).reshape(-1)


def _rows(stored: np.ndarray, order: np.ndarray, first: int, last: int) -> np.ndarray:
    rows = stored[order[first:last]]
    return from_blocks(rows) if rows.dtype.names else rows.astype(np.float32)


def _special(settings: Mapping[str, Any]) -> dict[str, int]:
    """Return the ids of the special tokens; without padding of its own, a model pads with the end of a text."""
    keys = {own: f"tokenizer.ggml.{name}_token_id" for own, name in _SPECIAL.items()}
    ids = {own: settings[key] for own, key in keys.items() if key in settings or own in _NEEDED}
    return {"pad": ids["eos"], **ids}


def _tokenizer(settings: Mapping[str, Any]) -> dict[str, Any]:
    kind, division = settings["tokenizer.ggml.model"], settings.get("tokenizer.ggml.pre", "")
    if kind != "gpt2" or division not in DIVISIONS or settings.get("tokenizer.ggml.add_bos_token"):
        raise ValueError(
            f"its tokenizer is of the kind {kind!r}, {division!r}; one of the kind 'gpt2' that divides texts like "
            f"{' or '.join(map(repr, DIVISIONS))}, and puts no token before them, is converted"
        )
    types = enumerate(settings["tokenizer.ggml.token_type"])
    added = {n: kind == _CONTROL for n, kind in types if kind in (_CONTROL, _USER_DEFINED)}
    return tokenizer_json(settings["tokenizer.ggml.tokens"], settings["tokenizer.ggml.merges"], added, division)


def _tokenizer_config(config: Mapping[str, Any], special: Mapping[str, str]) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",  # takes tokenizer.json as it is; others build parts of it anew
        "model_max_length": config["max_position_embeddings"],
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **{f"{name}_token": token for name, token in special.items()},
    }

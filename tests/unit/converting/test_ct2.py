"""The format ct2: a Whisper of CTranslate2 becomes one that transformers loads."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.sound_models import make_sound_model
from transformers import AutoFeatureExtractor, WhisperForConditionalGeneration

from peftlab.converting.find import convert
from peftlab.errors import SourceError
from peftlab.storage.digests import folder_sha256


def layers(model, side: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a side by CTranslate2's names."""
    named = {}
    for n, layer in enumerate(getattr(model, side).layers):

        def linear(name: str, *parts) -> None:
            zeros = [torch.zeros(part.out_features) if part.bias is None else part.bias for part in parts]
            named[f"{side}/layer_{n}/{name}/weight"] = torch.cat([part.weight for part in parts])  # noqa: B023
            named[f"{side}/layer_{n}/{name}/bias"] = torch.cat(zeros)  # noqa: B023

        def norm(name: str, part) -> None:
            named[f"{side}/layer_{n}/{name}/gamma"] = part.weight  # noqa: B023
            named[f"{side}/layer_{n}/{name}/beta"] = part.bias  # noqa: B023

        own = layer.self_attn
        norm("self_attention/layer_norm", layer.self_attn_layer_norm)
        linear("self_attention/linear_0", own.q_proj, own.k_proj, own.v_proj)
        linear("self_attention/linear_1", own.out_proj)
        if side == "decoder":
            other = layer.encoder_attn
            norm("attention/layer_norm", layer.encoder_attn_layer_norm)
            linear("attention/linear_0", other.q_proj)
            linear("attention/linear_1", other.k_proj, other.v_proj)
            linear("attention/linear_2", other.out_proj)
        norm("ffn/layer_norm", layer.final_layer_norm)
        linear("ffn/linear_0", layer.fc1)
        linear("ffn/linear_1", layer.fc2)
    last = getattr(model, side).layer_norm
    positions = getattr(model, side).embed_positions.weight
    named |= {f"{side}/layer_norm/gamma": last.weight, f"{side}/layer_norm/beta": last.bias}
    return named | {f"{side}/position_encodings/encodings": positions}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, list[Path]]:
    """Return the folder of a tiny Whisper, and the files of the same in the format, in 16 bits."""
    folder, inputs = tmp_path_factory.mktemp("whisper"), tmp_path_factory.mktemp("ct2")
    model = WhisperForConditionalGeneration.from_pretrained(make_sound_model("whisper", folder)).half().float()
    inner = model.model
    tensors = layers(inner, "encoder") | layers(inner, "decoder")
    for name in ("conv1", "conv2"):
        conv = getattr(inner.encoder, name)
        tensors |= {f"encoder/{name}/weight": conv.weight, f"encoder/{name}/bias": conv.bias}
    tensors["decoder/embeddings/weight"] = inner.decoder.embed_tokens.weight
    values = {name: (4, tensor.detach().numpy().astype("<f2")) for name, tensor in sorted(tensors.items())}
    for side in ("encoder", "decoder"):
        values |= {f"{side}/num_heads": (2, np.array(4, "<i2")), f"{side}/activation": (1, np.array(3, "i1"))}
    values["decoder/scale_embeddings"] = (1, np.array(0, "i1"))
    parts = [struct.pack("<IH12sII", 6, 12, b"WhisperSpec\0", 3, len(values))]
    for name, (kind, value) in values.items():
        header = struct.pack(f"<H{len(name) + 1}sB", len(name) + 1, name.encode(), value.ndim)
        parts += [header, struct.pack(f"<{value.ndim}I", *value.shape), struct.pack("<BI", kind, value.nbytes)]
        parts.append(value.tobytes())
    parts.append(struct.pack("<I", 0))
    (inputs / "model.bin").write_bytes(b"".join(parts))
    silent = {"suppress_ids": [1, 2], "suppress_ids_begin": [3], "alignment_heads": [[0, 1]]}
    (inputs / "config.json").write_text(json.dumps(silent))
    (inputs / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    model.save_pretrained(folder)
    return folder, sorted(inputs.iterdir())


@pytest.mark.slow
def test_it_computes_the_same(made, tmp_path):
    folder, inputs = made
    convert("ct2", inputs, tmp_path / "one")
    convert("ct2", inputs, tmp_path / "other")
    assert folder_sha256(tmp_path / "one") == folder_sha256(tmp_path / "other")
    loaded, report = WhisperForConditionalGeneration.from_pretrained(tmp_path / "one", output_loading_info=True)
    assert not report["missing_keys"] | report["unexpected_keys"]
    theirs = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    features = {"input_features": torch.randn(1, 16, 3000), "decoder_input_ids": torch.tensor([[257, 5, 6]])}
    with torch.no_grad():
        assert torch.equal(loaded.eval()(**features).logits, theirs(**features).logits)
    settings = loaded.generation_config
    assert (settings.suppress_tokens, settings.begin_suppress_tokens) == ([1, 2], [3])
    assert settings.lang_to_id == {"<|en|>": 258, "<|zh|>": 259}
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "one")
    assert (extractor.feature_size, extractor.n_samples, extractor.sampling_rate) == (16, 480000, 16000)


def test_other_files_are_refused(made, tmp_path):
    _, inputs = made
    with pytest.raises(SourceError, match=r"model\.bin, config\.json, tokenizer\.json, not from"):
        convert("ct2", inputs[:2], tmp_path / "few")
    model = next(path for path in inputs if path.name == "model.bin").read_bytes()
    for n, (content, message) in enumerate(
        (
            (b"", "it is empty"),
            (b"\5" + model[1:], "version 5"),
            (model[: len(model) // 2], "not all there|requires a buffer"),
            (model.replace(b"encoder/conv2/bias", b"encoder/conv9/bias"), "conv9, which Whisper has not"),
        )
    ):
        folder = tmp_path / str(n)
        folder.mkdir()
        for path in inputs:
            (folder / path.name).write_bytes(content if path.name == "model.bin" else path.read_bytes())
        with pytest.raises(SourceError, match=message):
            convert("ct2", sorted(folder.iterdir()), folder / "made")

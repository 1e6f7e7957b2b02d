"""Models for sounds of a few thousand weights, randomly initialised, and recordings of tones."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
CONVOLUTIONS = {"conv_dim": (32, 32), "conv_stride": (20, 16), "conv_kernel": (20, 16), "num_feat_extract_layers": 2}
POSITIONAL = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 16}

RATE = 16000
PITCHES = {"low": 220.0, "high": 880.0}
"""The tone of each label, in Hz."""


def make_sound_model(kind: str, folder: Path) -> Path:
    """Make a model of `kind`, one of `MAKERS`, in `folder`: 2 layers, hidden size 32."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for part in MAKERS[kind]():
            part.save_pretrained(folder)
    return folder


def tone(pitch: float, seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Return a tone with a little noise, shape (samples,)."""
    times = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(len(times))
    return (0.3 * np.sin(2 * np.pi * pitch * times) + 0.003 * noise).astype(np.float32)


def write_tones(folder: Path, label: str = "label", of: Callable[[str], str] = str, speakers: int = 6) -> Path:
    """Write recordings of tones by some speakers, whose pitch differs a little, and a table for each split.

    Args:
        folder: the folder to make.
        label: the column of the label.
        of: what the table says of a tone, by its name.
        speakers: a third of them are in each split.
    """
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    splits: dict[str, list[dict[str, Any]]] = {"train": [], "validation": [], "test": []}
    for speaker in range(speakers):
        for n, (name, pitch) in enumerate(PITCHES.items()):
            file = f"{name}_{speaker}.wav"
            sound = tone(pitch * (1 + speaker / 50), 0.3 + speaker / 50, seed=10 * speaker + n)
            soundfile.write(folder / file, sound, RATE, subtype="PCM_16")
            rows = splits[[*splits][speaker * 3 // speakers]]
            rows.append({"path": file, label: of(name), "speaker": f"speaker{speaker}"})
    for split, rows in splits.items():
        with (folder / f"{split}.csv").open("w", newline="") as table:
            writer = csv.DictWriter(table, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder


def _whisper() -> Sequence[Any]:
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    tokenizer = _whisper_tokenizer()
    end, start = tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    halves = {f"{half}_{what}": n for half in ("encoder", "decoder") for what, n in (("layers", 2), ("ffn_dim", 64))}
    halves |= {f"{half}_attention_heads": 4 for half in ("encoder", "decoder")}
    ends = {f"{name}_token_id": end for name in ("pad", "bos", "eos")} | {"decoder_start_token_id": start}
    config = WhisperConfig(
        vocab_size=len(tokenizer), d_model=32, num_mel_bins=16, num_hidden_layers=2, classifier_proj_size=16,
        suppress_tokens=None, begin_suppress_tokens=None, **halves, **ends,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    codes = {name: tokenizer.convert_tokens_to_ids(name) for name in ("<|en|>", "<|zh|>", "<|notimestamps|>")}
    model.generation_config = GenerationConfig(
        **ends,
        is_multilingual=True,
        lang_to_id={name: codes[name] for name in ("<|en|>", "<|zh|>")},
        task_to_id={name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("transcribe", "translate")},
        no_timestamps_token_id=codes["<|notimestamps|>"],
    )
    return model, WhisperFeatureExtractor(feature_size=16), tokenizer


def _whisper_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = ["endoftext", "startoftranscript", "en", "zh", "transcribe", "translate", "startofprev", "notimestamps"]
    tokenizer = Tokenizer(models.BPE(vocab={byte: n for n, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([f"<|{name}|>" for name in names])
    ends = {f"{name}_token": "<|endoftext|>" for name in ("bos", "eos", "unk", "pad")}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **ends)


def _wav2vec2(norm: str) -> Sequence[Any]:
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    config = Wav2Vec2Config(
        **SIZES, **CONVOLUTIONS, **POSITIONAL, feat_extract_norm=norm, do_stable_layer_norm=norm == "layer"
    )
    return Wav2Vec2Model(config), Wav2Vec2FeatureExtractor(return_attention_mask=norm == "layer")


def _hubert() -> Sequence[Any]:
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    return HubertModel(HubertConfig(**SIZES, **CONVOLUTIONS, **POSITIONAL)), Wav2Vec2FeatureExtractor(
        return_attention_mask=False
    )


def _ast() -> Sequence[Any]:
    from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

    sizes = {"max_length": 64, "num_mel_bins": 16}
    return ASTModel(ASTConfig(**SIZES, **sizes, patch_size=8, frequency_stride=8, time_stride=8)), ASTFeatureExtractor(
        **sizes
    )


MAKERS: dict[str, Callable[[], Sequence[Any]]] = {
    "whisper": _whisper,
    "wav2vec2_group": lambda: _wav2vec2("group"),
    "wav2vec2_layer": lambda: _wav2vec2("layer"),
    "hubert": _hubert,
    "ast": _ast,
}
"""By kind, what makes the model and its processors."""

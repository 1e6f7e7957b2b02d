from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.sound_models import RATE, tone
from transformers import (
    ASTFeatureExtractor,
    SpeechT5FeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
)

from peftlab.audio.features import end_positions, features_of
from peftlab.errors import ConfigError

CLIPS = [tone(220, 0.9), tone(880, 0.35, seed=1), tone(330, 0.5, seed=2)]


def test_frames_are_the_first_of_thirty_seconds():
    extractor = WhisperFeatureExtractor()
    expected = extractor(CLIPS, sampling_rate=RATE, return_tensors="np")["input_features"]
    whole = features_of(extractor, 0.9, "model").of(CLIPS)["input_features"]
    assert np.array_equal(whole.numpy(), expected)
    clipped = features_of(extractor, 0.9, "clip").of(CLIPS)["input_features"].numpy()
    assert clipped.shape == (3, 80, 90)
    assert np.abs(clipped - expected[..., :90]).max() < 1e-5
    padded = [np.pad(clip, (0, 14400 - len(clip))) for clip in CLIPS]
    mirrored = extractor(padded, sampling_rate=RATE, padding="longest", return_tensors="np")["input_features"]
    assert np.abs(mirrored[..., :90] - expected[..., :90]).max() > 1e-2  # the trap: a window beyond the end


def test_a_recording_does_not_depend_on_its_batch():
    for extractor, pad in (
        (WhisperFeatureExtractor(), "clip"),
        (Wav2Vec2FeatureExtractor(return_attention_mask=False), "clip"),
        (Wav2Vec2FeatureExtractor(return_attention_mask=True), "clip"),
        (ASTFeatureExtractor(max_length=100, num_mel_bins=16), "model"),
    ):
        features = features_of(extractor, 0.9, pad)
        together, alone = features.of(CLIPS), features.of(CLIPS[1:2])
        for name, values in alone.items():
            width = values.shape[-1] if values.ndim == 2 else None
            assert torch.allclose(together[name][1:2, ..., :width], values, atol=1e-5)


def test_what_is_shorter_than_a_window_still_has_a_frame():
    click = CLIPS[0][:1]
    masked = features_of(Wav2Vec2FeatureExtractor(return_attention_mask=True), 0.9, "clip").of([click, CLIPS[1]])
    assert masked["attention_mask"].sum(-1).tolist() == [400, len(CLIPS[1])]
    features = features_of(ASTFeatureExtractor(max_length=100, num_mel_bins=16), 0.9, "model").of([click])
    assert features["input_values"].shape == (1, 100, 16)


def test_samples_are_those_of_the_extractor():
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    expected = extractor(CLIPS, sampling_rate=RATE, padding=True, return_tensors="np")
    made = features_of(extractor, 0.9, "clip").of(CLIPS)
    assert np.abs(made["input_values"].numpy() - expected["input_values"]).max() < 1e-5
    assert np.array_equal(made["attention_mask"].numpy(), expected["attention_mask"])
    unmasked = features_of(Wav2Vec2FeatureExtractor(return_attention_mask=False), 1.0, "clip").of(CLIPS)
    assert unmasked.keys() == {"input_values"}
    assert unmasked["input_values"].shape == (3, RATE)


def test_an_encoder_ends_with_the_longest_recording():
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "classifier_proj_size": 8}
    model = WhisperForAudioClassification(WhisperConfig(**sizes, **heads, vocab_size=60, pad_token_id=0)).eval()
    table = model.encoder.embed_positions.weight.clone()
    end_positions(model, 0.9, "model")
    assert len(model.encoder.embed_positions.weight) == 1500
    end_positions(model, 0.9, "clip")
    assert torch.equal(model.encoder.embed_positions.weight, table[:45])
    assert not model.encoder.embed_positions.weight.requires_grad
    features = features_of(WhisperFeatureExtractor(), 0.9, "clip")
    assert model(**features.of(CLIPS)).logits.shape == (3, 2)
    assert model.config.max_source_positions == 45


def test_what_does_not_fit_is_refused():
    whisper, samples = WhisperFeatureExtractor(), Wav2Vec2FeatureExtractor()
    spectrogram = ASTFeatureExtractor(max_length=100)
    for extractor, seconds, pad, message in (
        (whisper, 31, "clip", "at most 30 seconds"),
        (samples, 5, "model", r"task\.pad=clip"),
        (spectrogram, 2, "model", "at most 1 seconds"),
        (spectrogram, 1, "clip", r"task\.pad=model"),
        (SpeechT5FeatureExtractor(), 1, "clip", "SpeechT5FeatureExtractor are not made"),
    ):
        with pytest.raises(ConfigError, match=message):
            features_of(extractor, seconds, pad)

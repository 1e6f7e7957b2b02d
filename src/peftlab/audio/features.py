"""What models take of samples: spectrograms of a fixed or a chosen length, or the samples themselves.

All numbers come from transformers' own feature extractors. What is decided here is the length of what they make, so
that a model's outputs for a recording do not depend on the others in its batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from peftlab.errors import ConfigError

Pad = Literal["clip", "model"]
"""To which length shorter recordings are padded with silence: the longest that is kept, or that of the pretraining."""


@dataclass(frozen=True)
class Features(ABC):
    """How one kind of model takes recordings."""

    extractor: Any
    """The feature extractor of transformers."""
    samples: int
    """Samples of the longest recording, which all are padded to unless there is a mask."""

    has_frames: ClassVar[bool] = True
    """Whether the features are a spectrogram, whose frames and bands can be masked."""
    padding: ClassVar[dict[str, int]] = {}
    """See `Batch.padding`."""

    @property
    def rate(self) -> int:
        """Samples a second."""
        rate: int = self.extractor.sampling_rate
        return rate

    @abstractmethod
    def of(self, clips: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Return the inputs of the model for samples in fp32, none longer than `samples`."""

    def frames(self, samples: int) -> int:
        """Return how many frames of the features `samples` samples fill."""
        hop: int = getattr(self.extractor, "hop_length", 160)
        return max(1, -(-samples // hop))

    def settings(self) -> dict[str, Any]:
        """Return what must be set in the configuration of the model: nothing but seeded numbers may act in training."""
        return {}

    def fit(self, model: Any) -> None:
        """Shape a loaded model to these features."""


class LogMel(Features):
    """The log-mel spectrogram of Whisper, of as many frames as the longest recording has.

    Whisper's encoder takes 30 seconds only, so that a word costs as much as a paragraph. Here its sinusoidal position
    embeddings end with the longest recording. The frames are the first of those of 30 seconds: the silence that follows
    is in the samples, not in the spectrogram, whose padding would be another sound.
    """

    @property
    def positions(self) -> int:
        """The positions of the encoder, two frames each."""
        return self.frames(self.samples) // 2

    def of(self, clips: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Return ``input_features``, shape (clips, bands, frames)."""
        hop, window = self.extractor.hop_length, self.extractor.n_fft
        # without the samples after the last frame, it would hear its own past mirrored
        most = min(self.extractor.n_samples, self.samples + -(-window // hop) * hop)
        features = self.extractor(list(clips), sampling_rate=self.rate, max_length=most, return_tensors="np")
        return {"input_features": torch.from_numpy(features["input_features"][..., : self.samples // hop])}

    def fit(self, model: Any) -> None:
        """End the position embeddings of the encoder with the longest recording."""
        encoder = getattr(model, "encoder", None) or model.get_encoder()
        table = encoder.embed_positions.weight
        if len(table) > self.positions:
            encoder.embed_positions = nn.Embedding.from_pretrained(table[: self.positions].detach().clone())
            model.config.max_source_positions = encoder.config.max_source_positions = self.positions


class Waveform(Features):
    """Normalised samples, as wav2vec 2.0 and HuBERT take them.

    Models that were pretrained with masks get one, and batches are as wide as their longest recording. Those that were
    not normalise over time, padding included: their recordings all have the same length.
    """

    has_frames: ClassVar[bool] = False

    @property
    def is_masked(self) -> bool:
        """Whether padding is masked."""
        return bool(self.extractor.return_attention_mask)

    @property
    def padding(self) -> dict[str, int]:  # type: ignore[override]
        """Padding is silence, with a mask of 0."""
        return {"input_values": 0, "attention_mask": 0} if self.is_masked else {}

    def of(self, clips: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Return ``input_values``, shape (clips, samples), with ``attention_mask`` where there is one."""
        # one by one: else what is normalised depends on the padding of the batch
        values = [self.extractor(clip, sampling_rate=self.rate)["input_values"][0] for clip in clips]
        width = max(map(len, values)) if self.is_masked else self.samples
        rows = np.zeros((len(clips), width), np.float32)
        mask = np.zeros((len(clips), width), np.int64)
        for n, value in enumerate(values):
            rows[n, : len(value)], mask[n, : len(value)] = value, 1
        inputs = {"input_values": torch.from_numpy(rows)}
        return inputs | {"attention_mask": torch.from_numpy(mask)} if self.is_masked else inputs

    def settings(self) -> dict[str, Any]:
        """Turn off masks and dropped layers that the library draws from numbers of its own."""
        return {"apply_spec_augment": False, "layerdrop": 0.0}


class Patches(Features):
    """The filter banks of the Audio Spectrogram Transformer (Gong et al. 2021), of a fixed number of frames."""

    def of(self, clips: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Return ``input_values``, shape (clips, frames, bands)."""
        made = self.extractor(list(clips), sampling_rate=self.rate, return_tensors="np")
        return {"input_values": torch.from_numpy(made["input_values"])}


def features_of(extractor: Any, max_seconds: float, pad: Pad) -> Features:
    """Return how the model of a feature extractor takes recordings of up to `max_seconds`.

    Raises:
        ConfigError: it is of another kind, or takes shorter recordings only.
    """
    kind = type(extractor).__name__
    seconds = getattr(extractor, "chunk_length", None)
    if seconds is None and hasattr(extractor, "max_length"):
        seconds = extractor.max_length / 100
    if seconds is not None and max_seconds > seconds:
        raise ConfigError(
            f"task.max_seconds={max_seconds:g}: the model takes {seconds:g} seconds. Set it to at most that"
        )
    most = round(max_seconds * extractor.sampling_rate)
    if kind == "WhisperFeatureExtractor":
        position = 2 * extractor.hop_length
        return LogMel(extractor, extractor.n_samples if pad == "model" else -(-most // position) * position)
    if kind == "Wav2Vec2FeatureExtractor" and pad == "clip":
        return Waveform(extractor, most)
    if kind == "ASTFeatureExtractor" and pad == "model":
        return Patches(extractor, most)
    if kind == "Wav2Vec2FeatureExtractor":
        raise ConfigError("task.pad=model: models of samples have no length of their own. Set task.pad=clip")
    if kind == "ASTFeatureExtractor":
        raise ConfigError(
            f"task.pad=clip: the positions of an audio spectrogram transformer are patches of {seconds:g} seconds, and "
            "cannot end earlier. Set task.pad=model"
        )
    raise ConfigError(
        f"recordings for a {kind} are not made here. Choose a Whisper, a wav2vec 2.0, HuBERT or WavLM, or an audio "
        "spectrogram transformer"
    )

"""What models take of samples: spectrograms of a fixed or a chosen length, or the samples themselves.

All numbers come from transformers' own feature extractors. What is decided here is the length of what they make, so
that a model's outputs for a recording do not depend on the others in its batch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from peftlab.errors import ConfigError

Pad = Literal["clip", "model"]
"""To which length shorter recordings are padded with silence: the longest that is kept, or that of the pretraining."""

_WHISPER_POSITIONS = 1500
"""What Whisper's encoder takes: 30 seconds in so many positions, of two frames each."""


_WINDOW = 0.025
"""Seconds that a frame is computed from, in spectrograms as in the convolutions of wav2vec 2.0."""


@dataclass(frozen=True)
class Features(ABC):
    """How one kind of model takes recordings."""

    extractor: Any
    """The feature extractor of transformers."""
    samples: int
    """Samples of the longest recording, which all are padded to unless there is a mask."""

    @property
    def rate(self) -> int:
        """Samples a second."""
        rate: int = self.extractor.sampling_rate
        return rate

    def of(self, clips: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Return the inputs of the model for samples in fp32, none longer than `samples`.

        Silence follows those that are shorter than a window of the model, and would have no frame.
        """
        shortest = math.ceil(self.rate * _WINDOW)
        return self._of([np.pad(clip, (0, max(0, shortest - len(clip)))) for clip in clips])

    @abstractmethod
    def _of(self, clips: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Return the same for samples of a window or more."""

    def spectrograms(self, inputs: dict[str, Tensor]) -> np.ndarray | None:
        """Return a view of `inputs` as spectrograms, shape (clips, bands, frames); None: they are none."""
        return None

    def frames(self, samples: int) -> int:
        """Return how many frames of a hundredth of a second `samples` samples fill."""
        return max(1, -(-100 * samples // self.rate))


class LogMel(Features):
    """The log-mel spectrogram of Whisper, of as many frames as the longest recording has.

    Whisper's encoder takes 30 seconds only, so that a word costs as much as a paragraph. Here its position embeddings
    end with the longest recording. The frames are the first of those of 30 seconds: the silence that follows is in the
    samples, not in the spectrogram, whose padding would be another sound.
    """

    def _of(self, clips: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Return ``input_features``, shape (clips, bands, frames)."""
        hop, window = self.extractor.hop_length, self.extractor.n_fft
        # without the samples after the last frame, it would hear its own past mirrored
        most = min(_WHISPER_POSITIONS * 2 * hop, self.samples + -(-window // hop) * hop)
        features = self.extractor(list(clips), sampling_rate=self.rate, max_length=most, return_tensors="np")
        frames = np.ascontiguousarray(features["input_features"][..., : self.samples // hop])
        return {"input_features": torch.from_numpy(frames)}

    def spectrograms(self, inputs: dict[str, Tensor]) -> np.ndarray:
        """Return the features themselves."""
        return inputs["input_features"].numpy()


class Waveform(Features):
    """Normalised samples, as wav2vec 2.0 and HuBERT take them.

    Models that were pretrained with masks get one, and batches are as wide as their longest recording. Those that were
    not normalise over time, padding included: their recordings all have the same length.
    """

    def _of(self, clips: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Return ``input_values``, shape (clips, samples), with ``attention_mask`` where there is one."""
        # one by one: else what is normalised depends on the padding of the batch
        values = [self.extractor(clip, sampling_rate=self.rate)["input_values"][0] for clip in clips]
        is_masked = bool(self.extractor.return_attention_mask)
        rows = np.zeros((len(clips), max(map(len, values)) if is_masked else self.samples), np.float32)
        mask = np.zeros(rows.shape, np.int64)
        for n, value in enumerate(values):
            rows[n, : len(value)], mask[n, : len(value)] = value, 1
        inputs = {"input_values": torch.from_numpy(rows)}
        return inputs | {"attention_mask": torch.from_numpy(mask)} if is_masked else inputs


class Patches(Features):
    """The filter banks of the Audio Spectrogram Transformer (Gong et al. 2021), of a fixed number of frames."""

    def _of(self, clips: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Return ``input_values``, shape (clips, frames, bands)."""
        made = self.extractor(list(clips), sampling_rate=self.rate, return_tensors="np")
        return {"input_values": torch.from_numpy(made["input_values"])}

    def spectrograms(self, inputs: dict[str, Tensor]) -> np.ndarray:
        """Return the features with bands first."""
        return inputs["input_values"].numpy().transpose(0, 2, 1)


def features_of(extractor: Any, max_seconds: float, pad: Pad) -> Features:
    """Return how the model of a feature extractor takes recordings of up to `max_seconds`.

    Raises:
        ConfigError: it is of another kind, or takes shorter recordings only, or only those of one length.
    """
    kind = type(extractor).__name__
    most = round(max_seconds * extractor.sampling_rate)
    if kind == "WhisperFeatureExtractor":
        _check_length(max_seconds, 30)
        return LogMel(extractor, positions_of(max_seconds, pad) * 2 * extractor.hop_length)
    if kind == "Wav2Vec2FeatureExtractor":
        if pad == "model":
            raise ConfigError("task.pad=model: models of samples have no length of their own. Set task.pad=clip")
        return Waveform(extractor, most)
    if kind == "ASTFeatureExtractor":
        seconds = extractor.max_length / 100
        _check_length(max_seconds, seconds)
        if pad == "clip":
            raise ConfigError(
                f"task.pad=clip: the positions of an audio spectrogram transformer are patches of {seconds:g} seconds, "
                "and cannot end earlier. Set task.pad=model"
            )
        return Patches(extractor, most)
    raise ConfigError(
        f"recordings for a {kind} are not made here. Choose a Whisper, a wav2vec 2.0, HuBERT or WavLM, or an audio "
        "spectrogram transformer"
    )


def positions_of(max_seconds: float, pad: Pad) -> int:
    """Return how many positions of Whisper's encoder recordings of up to `max_seconds` need."""
    return _WHISPER_POSITIONS if pad == "model" else math.ceil(round(max_seconds * 1e4) / 200)


def end_positions(model: Any, max_seconds: float, pad: Pad) -> None:
    """End the position embeddings of the encoder of a Whisper with the longest recording; other models stay."""
    if model.config.model_type != "whisper":
        return
    encoder = getattr(model, "encoder", None) or model.get_encoder()
    table, positions = encoder.embed_positions.weight, positions_of(max_seconds, pad)
    if len(table) > positions:
        kept = table[:positions].detach().clone()
        encoder.embed_positions = nn.Embedding.from_pretrained(kept)  # type: ignore[no-untyped-call]
        encoder.max_source_positions = model.config.max_source_positions = positions


def _check_length(max_seconds: float, most: float) -> None:
    if max_seconds > most:
        raise ConfigError(f"task.max_seconds={max_seconds:g}: the model takes at most {most:g} seconds")

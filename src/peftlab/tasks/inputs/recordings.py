"""What tasks on recordings share: how these are read, what the model takes of them, and how training changes them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from peftlab.audio.changes import Changes
from peftlab.audio.features import Features, Pad, end_positions, features_of
from peftlab.audio.reading import FULL_SCALE, SUFFIXES, Recorded, read
from peftlab.errors import ConfigError, DataError
from peftlab.tasks.inputs.media_files import MediaFile, MediaTask, read_all
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Encoded, Random, spec

log = logging.getLogger("peftlab")

_NAMED = 5
"""Silent recordings that a warning names."""


@dataclass(frozen=True, slots=True)
class Recording(MediaFile):
    """A recording by the name of its file, or a part of one."""

    start: float | None = None
    """Where it begins in the file, in seconds; None: at the beginning."""
    end: float | None = None
    """Where it ends; None: at the end of the file."""


@spec
class RecordingTask(MediaTask):
    """A task on recordings, which are decoded once and kept in 16 bits at the rate of the model.

    Each batch changes and transforms its own, so that no spectrogram is kept.
    """

    max_seconds: float = Field(default=10.0, gt=0.1, le=3600)
    """The longest recording in seconds; a longer one loses its end. All are padded with silence to it, unless the model
    was pretrained with masks: time and memory grow with it."""
    pad: Pad = "clip"
    """``clip``: recordings are padded to `max_seconds`, where Whisper's positions then end. ``model``: to the length of
    the pretraining, 30 seconds of Whisper's."""
    changes: Changes = field(default_factory=Changes)
    """How training recordings are changed."""
    encoded_by: ClassVar[frozenset[str]] = frozenset({"max_seconds", "pad"})
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES

    @property
    def draws_inputs(self) -> bool:  # type: ignore[override]
        """Whether training recordings are changed anew in every epoch."""
        return self.changes.any

    @override
    def bind(self, processor: Processor) -> None:
        """Choose what the model takes.

        Raises:
            ConfigError: recordings are not made for its kind; or changes are of spectrograms, which it takes none of.
        """
        self._features = features_of(processor.transform, self.max_seconds, self.pad)
        if self.changes.masks and type(self._features).spectrograms is Features.spectrograms:
            raise ConfigError(
                "task.changes: the model takes samples, which have no frames and bands to mask. Leave out frame_masks "
                "and band_masks; speed, time_shift and noise_db act on samples"
            )

    @override
    def shape(self, model: Any) -> None:
        """End the positions of Whisper's encoder with the longest recording."""
        end_positions(model, self.max_seconds, self.pad)

    @override
    def head_settings(self) -> dict[str, Any]:
        """Return those of the head, and turn off masks and dropped layers that the library draws by itself."""
        return super().head_settings() | {
            **{"apply_spec_augment": False, "layerdrop": 0.0},
            **{"encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0},
        }

    @override
    def from_input(self, fields: Mapping[str, Any], id: str) -> Any:
        """Return the recording at ``path`` or in ``content``, from ``start`` to ``end`` seconds, if they are given."""
        times = {name: fields.get(name) for name in ("start", "end")}
        for name, time in times.items():
            if time is not None and (
                isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time < 1e9
            ):
                raise DataError(f"expected `{name}`, a number of seconds from the beginning of the file")
        return replace(super().from_input(fields, id), **times)

    def encoded_sound(self, examples: Sequence[Any], processor: Processor) -> Encoded:
        """Return the samples of recordings.

        Returns:
            arrays ``samples``, shape (samples,), int16: the recordings one after another; ``examples``, shape
            (recordings + 1,): where each begins; ``cut`` and ``silent``, shape (recordings,): the milliseconds that
            each loses, and whether it has no sound. Lengths are in hundredths of a second. The counts are those of
            recordings by the rate of their files, and of cut and silent ones.

        Raises:
            UnreadableFilesError: files cannot be read; the message names them.
        """
        features = features_of(processor.transform, self.max_seconds, self.pad)

        def recorded(example: Any, content: bytes) -> Recorded:
            return read(content, features.rate, self.max_seconds, example.start, example.end)

        made = read_all(examples, recorded)
        silent = [example.place for example, one in zip(examples, made, strict=True) if one.is_silent]
        if silent:
            more = f" and {len(silent) - _NAMED} more" if len(silent) > _NAMED else ""
            log.warning("recordings without a sound: %s%s", ", ".join(silent[:_NAMED]), more)
        sizes = [len(one.samples) for one in made]
        cut = np.asarray([round(1000 * one.lost) for one in made], dtype=np.int64)
        counts = Counter(f"recordings at {one.rate} Hz" for one in made)
        counts |= Counter({"cut recordings": int((cut > 0).sum()), "silent recordings": len(silent)})
        return Encoded(
            {
                "samples": np.concatenate([one.samples for one in made] or [np.zeros(0, np.int16)]),
                "examples": np.cumsum([0, *sizes], dtype=np.int64),
                "cut": cut,
                "silent": np.asarray([one.is_silent for one in made], dtype=np.int64),
            },
            np.asarray([features.frames(size) for size in sizes], dtype=np.int64),
            0,
            {name: counts[name] for name in sorted({*counts, "cut recordings", "silent recordings"})},
        )

    def heard(self, encoded: Encoded, indices: Sequence[int], random: Random | None) -> dict[str, Tensor]:
        """Return what the model takes of the recordings at `indices`, changed by their own generators in training."""
        starts, features = encoded.arrays["examples"], self._features
        clips = [encoded.arrays["samples"][starts[i] : starts[i + 1]].astype(np.float32) / FULL_SCALE for i in indices]
        if random is None or not self.changes.any:
            return features.of(clips)
        generators = [random(i) for i in indices]
        clips = [
            self.changes.changed(clip, features.rate, generator)[: features.samples]
            for clip, generator in zip(clips, generators, strict=True)
        ]
        inputs = features.of(clips)
        if self.changes.masks and (spectrograms := features.spectrograms(inputs)) is not None:
            for one, clip, generator in zip(spectrograms, clips, generators, strict=True):
                self.changes.mask(one, min(features.frames(len(clip)), one.shape[1]), generator)
        return inputs

    @override
    def all_lost(self, encoded: Encoded) -> dict[str, int]:
        """Return the numbers of cut and silent recordings, and of the seconds that are cut."""
        return {
            "cut recordings": encoded.counts["cut recordings"],
            "cut seconds": round(encoded.arrays["cut"].sum() / 1000),
            "silent recordings": encoded.counts["silent recordings"],
        }

    def lost(self, encoded: Encoded, index: int) -> dict[str, Any]:
        """Return ``cut_seconds`` and ``silent``, where they apply."""
        cut = int(encoded.arrays["cut"][index]) / 1000
        silent = bool(encoded.arrays["silent"][index])
        return ({"cut_seconds": cut} if cut else {}) | ({"silent": True} if silent else {})

    def encoded_text(self, example: Recording) -> Any:
        """Return the digest of the file, and the times of the part."""
        return [example.sha256, example.start, example.end]

    @override
    def text_key(self, example: Recording) -> str:
        """Return the digest of the file, and the times of a part: equal ones are duplicates."""
        part = "" if example.start is None and example.end is None else f"{example.start}-{example.end}"
        return f"{example.sha256}{part}"

    @override
    def title(self, example: Recording) -> str:
        """Return what the file is called, and the times of a part."""
        if example.start is None and example.end is None:
            return example.name
        return f"{example.name} {example.start or 0:g}-{'' if example.end is None else f'{example.end:g}'} s"

    @override
    def prepare_export(self, model: Any, processor: Processor) -> None:
        """Have the feature extractor make recordings of the length that the model takes."""
        super().prepare_export(model, processor)
        extractor = processor.transform
        if self.pad == "clip" and hasattr(extractor, "chunk_length"):
            samples = features_of(extractor, self.max_seconds, self.pad).samples
            seconds = samples / extractor.sampling_rate
            extractor.chunk_length = int(seconds) if seconds.is_integer() else seconds
            extractor.n_samples, extractor.nb_max_frames = samples, samples // extractor.hop_length

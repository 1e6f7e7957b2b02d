"""Changes to recordings in training, drawn anew for each example in every epoch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import ConfigDict, Field, PositiveInt
from pydantic.dataclasses import dataclass

from peftlab.audio.reading import resampled
from peftlab.errors import ConfigError

Range = tuple[float, float]
Masks = tuple[PositiveInt, PositiveInt]


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Changes:
    """How training recordings are changed; by default not at all."""

    time_shift: float = Field(default=0.0, ge=0)
    """The sound begins up to so many seconds earlier or later: samples at one end go, silence comes at the other."""
    speed: Range | None = None
    """The range of the factor on the speed, such as [0.9, 1.1], which changes the pitch too (Ko et al. 2015). Whole
    percents are drawn."""
    noise_db: Range | None = None
    """The range of the signal-to-noise ratio at which white noise is added, in decibels, such as [5, 30]."""
    frame_masks: Masks | None = None
    """The number of masks over frames of the spectrogram, and the most frames of one, such as [2, 40]: m and T of
    SpecAugment (Park et al. 2019)."""
    band_masks: Masks | None = None
    """The number of masks over its frequency bands, and the most bands of one, such as [2, 15]: m and F of the same."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: one is empty, or a speed is too low or high to be one.
        """
        for name, low, high in (("speed", 0.5, 2.0), ("noise_db", -20.0, 100.0)):
            limits = getattr(self, name)
            if limits is not None and not low <= limits[0] <= limits[1] <= high:
                raise ConfigError(
                    f"task.changes.{name}={list(limits)}: expected [from, to], within {low:g} and {high:g}"
                )

    @property
    def percents(self) -> tuple[int, int]:
        """The least and the greatest speed that is drawn: whole percents, as rates are converted by short fractions."""
        slowest, fastest = self.speed or (1.0, 1.0)
        return round(100 * slowest), round(100 * fastest)

    @property
    def any(self) -> bool:
        """Whether anything is changed."""
        return bool(self.time_shift or self.speed or self.noise_db) or self.masks

    @property
    def masks(self) -> bool:
        """Whether spectrograms are masked."""
        return self.frame_masks is not None or self.band_masks is not None

    def changed(self, samples: np.ndarray, rate: int, random: np.random.Generator) -> np.ndarray:
        """Return `samples`, fp32, as they are heard this time; they may be longer than before."""
        if self.speed is not None:
            slowest, fastest = self.percents
            samples = resampled(samples, int(random.integers(slowest, fastest + 1)), 100)
        if self.time_shift:
            samples = _shifted(samples, round(rate * random.uniform(-self.time_shift, self.time_shift)))
        if self.noise_db is not None:
            ratio = 10 ** (random.uniform(*self.noise_db) / 10)
            noise = random.standard_normal(len(samples), np.float32)
            samples = samples + noise * np.float32(np.sqrt(np.square(samples, dtype=np.float64).mean() / ratio))
        return samples

    def mask(self, features: np.ndarray, frames: int, random: np.random.Generator) -> None:
        """Set some rows and columns of a spectrogram, shape (bands, frames), to its mean.

        The first `frames` frames are those of the recording; what follows is padding, which needs no mask.
        """
        mean = features[:, :frames].mean()
        for first, last in _spans(random, self.band_masks, len(features)):
            features[first:last] = mean
        for first, last in _spans(random, self.frame_masks, frames):
            features[:, first:last] = mean


def _spans(random: np.random.Generator, masks: Masks | None, size: int) -> Iterator[tuple[int, int]]:
    """Yield spans among `size` places: section 2 of Park et al. (2019); none has all of them."""
    number, most = masks or (0, 0)
    for _ in range(number):
        length = int(random.integers(0, min(most, size - 1) + 1))
        first = int(random.integers(0, size - length + 1))
        yield first, first + length


def _shifted(samples: np.ndarray, by: int) -> np.ndarray:
    by = int(np.clip(by, -len(samples), len(samples)))
    silence = np.zeros(abs(by), samples.dtype)
    return np.concatenate([silence, samples[: len(samples) - by]] if by > 0 else [samples[-by:], silence])

"""Recordings: from the bytes of a file to samples of one channel at the rate of a model."""

from __future__ import annotations

import io
import math
from typing import Any, NamedTuple

import numpy as np

from peftlab.errors import ConfigError, DataError

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au")
"""How the names of files of recordings end."""

FULL_SCALE = 2**15
"""The largest sample of 16 bits, plus one: samples are kept in 16 bits, as most recordings have them."""
RATES = (100, 768_000)
"""The lowest and the highest rate of a file, in Hz: the filter that converts another needs memory in proportion."""

_MARGIN = 0.1
"""Seconds that are read beyond the end, so that cutting a recording before it is resampled changes nothing of it."""


_STREAMED = 2**28
"""Bytes from which on a header is taken to say nothing: programs that write to a pipe do not know the size."""
_SLACK = 1024
"""Bytes at the end that may be missing: some programs count their header twice, or tags that are gone."""

_LOUDEST = 2.0
"""Above it, samples are on another scale than from -1 to 1, which lossy formats go a little beyond."""

_BLOCK = 2**16
"""Samples of each channel that are decoded at once, of which a file may claim hundreds."""


class Recorded(NamedTuple):
    """A recording, or a part of one, as it was read."""

    samples: np.ndarray
    """Of one channel, the mean of all, at the rate asked for; 16-bit integers, shape (samples,)."""
    rate: int
    """The rate of the file, in Hz."""
    lost: float
    """Seconds at the end that were cut."""

    @property
    def is_silent(self) -> bool:
        """Whether every sample is 0."""
        return not self.samples.any()


def read(content: bytes, rate: int, most: float, start: float | None = None, end: float | None = None) -> Recorded:
    """Read a recording in any format of libsndfile, such as WAV, FLAC, Ogg and MP3, and resample it to `rate`.

    Only what is kept is decoded, so that a small file of many hours costs no memory. Rates are converted by a polyphase
    filter (`scipy.signal.resample_poly`).

    Args:
        content: the bytes of the file.
        rate: the rate of the samples to return, in Hz.
        most: the longest part that is kept, in seconds; the end of a longer one is cut.
        start: where the part begins, in seconds; None: at the beginning.
        end: where it ends; None: at the end of the file.

    Raises:
        DataError: it is no recording or not the whole of one, has a rate beyond `RATES`, no samples or some that are no
            numbers or on another scale, or the part lies outside of it; the message does not name the file.
        ConfigError: the extra ``media`` is missing.
    """
    soundfile = _soundfile()
    slack = 0 if content[:4] == b"OggS" else _SLACK  # a page of Ogg that lacks a byte is lost whole
    if len(content) + slack < (announced := _announced(content)) < _STREAMED:
        raise DataError(
            f"is no whole recording: {announced:,} bytes are announced in it, and it has {len(content):,}. Fetch it "
            "again, or save it anew"
        )
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            own, frames = int(file.samplerate), int(file.frames)
            if not RATES[0] <= own <= RATES[1]:
                raise DataError(f"the recording has {own:,} samples a second; expected {RATES[0]} to {RATES[1]:,}")
            first, last = _part(frames, own, start, end)
            kept = min(last, first + math.ceil((most + _MARGIN) * own))
            file.seek(first)
            blocks = file.blocks(_BLOCK, frames=kept - first, dtype="float32", always_2d=True)
            samples = np.concatenate([block.mean(axis=1) for block in blocks] or [np.zeros(0, np.float32)])
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise DataError(f"is no recording that can be read ({error})") from error
    if not len(samples):
        raise DataError("the recording has no samples")
    if not np.isfinite(samples).all():
        raise DataError("the recording has samples that are no numbers")
    if (peak := float(np.abs(samples).max())) > _LOUDEST:
        raise DataError(
            f"the recording has samples up to {peak:,.6g}, and floating-point ones are from -1 to 1: what is beyond "
            "would be cut off. Divide them by their scale, such as 32,768 of 16 bits, or save them as integers"
        )
    at_rate = resampled(samples, own, rate)[: round(most * rate)]
    lost = max(0.0, (last - first) / own - most)
    return Recorded(np.clip(np.round(at_rate * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16), own, lost)


def resampled(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Return `samples`, shape (samples,), of one rate at another; both count samples of the same time."""
    if rate == to:
        return samples
    from scipy.signal import resample_poly

    common = math.gcd(rate, to)
    converted: np.ndarray = resample_poly(samples, to // common, rate // common)
    return converted.astype(samples.dtype)


def _announced(content: bytes) -> int:
    """Return the bytes that the header of a WAV, AIFF, AU or MP3 file, or the last page of an Ogg one, says that it
    has; 0: it says nothing.

    libsndfile takes the part that is there for the whole, and of an MP3 repeats what it has last decoded.
    """
    kind, first, second = content[:4], content[4:8], content[8:12]
    if kind == b"OggS":
        return _end_of_pages(content)
    if kind in (b"RIFF", b"FORM"):
        return 8 + int.from_bytes(first, "little" if kind == b"RIFF" else "big")
    if kind == b".snd":
        return int.from_bytes(first, "big") + int.from_bytes(second, "big")
    tag = 10 + sum((byte & 127) << shift for byte, shift in zip(content[6:10], (21, 14, 7, 0), strict=False))
    frame = tag if content[:3] == b"ID3" else 0
    head = content[frame : frame + 64]
    at = max(head.find(b"Xing"), head.find(b"Info"))
    if not 0 <= at <= len(head) - 16 or head[:1] != b"\xff" or not head[at + 7] & 2:
        return 0
    size = at + (12 if head[at + 7] & 1 else 8)
    return frame + int.from_bytes(head[size : size + 4], "big")


def _end_of_pages(content: bytes) -> int:
    """Return where the last page of an Ogg file ends, RFC 3533, section 6; what follows it is no page."""
    at = 0
    while content.startswith(b"OggS", at):
        table = at + 27  # the lengths of its segments, whose number is in the byte before
        segments = content[table - 1] if table <= len(content) else 1  # of a header that is cut: beyond the file
        at = table + segments + sum(content[table : table + segments])
    return at


def _part(frames: int, rate: int, start: float | None, end: float | None) -> tuple[int, int]:
    first = 0 if start is None else round(start * rate)
    last = frames if end is None else round(end * rate)
    if not 0 <= first < last <= frames + rate // 100:  # ends are often rounded up to hundredths
        raise DataError(
            f"the part from {start or 0:g} s to {'the end' if end is None else f'{end:g} s'} lies outside of the "
            f"recording, which has {frames / rate:.2f} s"
            if frames
            else "the recording has no samples"
        )
    return first, min(last, frames)


def _soundfile() -> Any:
    try:
        import soundfile  # type: ignore[import-untyped]
    except (ImportError, OSError) as error:  # the wheel brings libsndfile; elsewhere it may be missing
        raise ConfigError(f"recordings are read by soundfile ({error}): pip install 'peftlab[media]'") from error
    return soundfile

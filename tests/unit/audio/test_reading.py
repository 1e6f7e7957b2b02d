from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly
from tests.sound_models import RATE, tone

from peftlab.audio import reading
from peftlab.audio.reading import FULL_SCALE, read
from peftlab.errors import ConfigError, DataError


def file_of(samples: np.ndarray, rate: int = RATE, kind: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def test_sixteen_bits_come_back_as_they_are():
    samples = np.random.default_rng(0).integers(-FULL_SCALE, FULL_SCALE, 4000).astype(np.int16)
    for kind in ("WAV", "FLAC"):
        recorded = read(file_of(samples, kind=kind, subtype="PCM_16"), RATE, 10)
        assert np.array_equal(recorded.samples, samples)
        assert (recorded.rate, recorded.lost, recorded.is_silent) == (RATE, 0.0, False)


@pytest.mark.parametrize(("kind", "most"), [("OGG", 0.06), ("MP3", 0.06)])
def test_lossy_formats_are_near(kind, most):
    samples = tone(440, 0.5)
    heard = read(file_of(samples, kind=kind), RATE, 10).samples.astype(float) / FULL_SCALE
    assert abs(len(heard) - len(samples)) < RATE * 0.1
    assert np.corrcoef(heard[1000:6000], samples[1000:6000])[0, 1] > 0.9 or kind == "MP3"  # which shifts it a little
    assert abs(np.sqrt(np.mean(heard**2)) - np.sqrt(np.mean(samples**2))) < most


def test_channels_are_averaged_and_rates_converted():
    left, right = tone(440, 0.3, 44100), tone(660, 0.3, 44100, seed=1)
    recorded = read(file_of(np.stack([left, right], 1), 44100, subtype="FLOAT"), RATE, 10)
    expected = resample_poly((left + right) / 2, 160, 441)
    assert recorded.rate == 44100
    assert np.abs(recorded.samples / FULL_SCALE - expected).max() < 1 / FULL_SCALE


def test_a_part_and_a_cut_are_those_of_the_whole():
    samples = tone(300, 2.0, 8000)
    whole = read(file_of(samples, 8000, subtype="PCM_16"), RATE, 10).samples
    part = read(file_of(samples, 8000, subtype="PCM_16"), RATE, 10, 0.5, 1.5).samples
    assert len(part) == RATE
    assert np.abs(part[200:-200].astype(int) - whole[RATE // 2 + 200 : RATE * 3 // 2 - 200]).max() <= 1
    cut = read(file_of(samples, 8000, subtype="PCM_16"), RATE, 0.75)
    assert cut.lost == pytest.approx(1.25)
    assert np.array_equal(cut.samples, whole[: RATE * 3 // 4])


def test_hours_are_not_decoded_to_be_cut(monkeypatch):
    asked = []

    class File(soundfile.SoundFile):
        def read(self, frames=-1, *options):
            asked.append(frames)
            return super().read(frames, *options)

    monkeypatch.setattr(soundfile, "SoundFile", File)
    read(file_of(np.zeros(60 * 8000, np.int16), 8000, "FLAC"), RATE, 1.0)
    assert asked == [8800]


def test_what_cannot_be_read_says_why():
    good = file_of(tone(300, 0.2))
    at_the_end = b"\xff" + bytes(57) + b"Info\0\0"  # of the first frame, without what should follow
    for content in (b"RIFF", good[:600], b"x" * 1000, b"\xff" + b"Info" * 3, at_the_end):
        with pytest.raises(DataError, match=r"no (whole )?recording"):
            read(content, RATE, 1)
    with pytest.raises(DataError, match="no samples"):
        read(file_of(np.zeros(0)), RATE, 1)
    with pytest.raises(DataError, match="no numbers"):
        read(file_of(np.array([0.1, np.nan]), subtype="FLOAT"), RATE, 1)
    with pytest.raises(DataError, match=r"samples up to 9,830\.4, and floating-point ones are from -1 to 1"):
        read(file_of(np.array([0.0, 0.3]) * FULL_SCALE, subtype="FLOAT"), RATE, 1)
    assert read(file_of(np.array([0.0, 1.5]), subtype="FLOAT"), RATE, 1).samples[1] == FULL_SCALE - 1
    for start, end in ((0.1, 0.1), (0.3, None), (-1.0, None), (None, 0.5)):
        with pytest.raises(DataError, match=r"lies outside.*0\.20 s"):
            read(good, RATE, 1, start, end)
    assert read(file_of(np.zeros(100)), RATE, 1).is_silent


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "AU", "MP3", "FLAC", "OGG"])
def test_what_was_cut_off_in_transfer_is_not_taken_for_the_whole(kind):
    """libsndfile reads half a WAV as a shorter one, and half an MP3 at its full length, with repeats."""
    whole = file_of(np.random.default_rng(0).uniform(-0.1, 0.1, 2 * RATE), kind=kind)
    assert abs(len(read(whole, RATE, 3).samples) - 2 * RATE) < RATE / 10
    with pytest.raises(DataError, match="no recording that can be read" if kind == "FLAC" else "no whole recording"):
        read(whole[: len(whole) // 2], RATE, 3)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_page_of_ogg_is_there_or_the_file_is_cut(subtype):
    """libsndfile leaves out a page that lacks a byte, which is a second of speech."""
    whole = file_of(np.random.default_rng(0).uniform(-0.1, 0.1, 2 * RATE), kind="OGG", subtype=subtype)
    last = whole.rindex(b"OggS")
    for end in (last + 4, last + 26, last + 27, last + 60, len(whole) - 1):
        with pytest.raises(DataError, match="no whole recording"):
            read(whole[:end], RATE, 3)
    assert np.array_equal(read(whole + b"TAG" + bytes(125), RATE, 3).samples, read(whole, RATE, 3).samples)


def test_a_file_that_was_written_to_a_pipe_knows_no_size():
    whole = bytearray(file_of(tone(300, 0.2)))
    for size in (0, 0x7FFFF024, 0xFFFFFFFF):
        whole[4:8] = size.to_bytes(4, "little")
        assert len(read(bytes(whole), RATE, 1).samples) == RATE // 5


@pytest.mark.slow
def test_a_small_file_cannot_ask_for_much_memory(monkeypatch):
    """A header may claim any rate, whose filter would have 20 taps for each, and hundreds of channels of silence."""
    for rate in (16_000_057, 2_000_000_011, 50):
        with pytest.raises(DataError, match=f"has {rate:,} samples a second; expected 100 to 768,000"):
            read(file_of(tone(300, 0.2), rate), RATE, 1)
    content = file_of(np.zeros((30000, 200), np.float32), kind="OGG")
    monkeypatch.setattr(reading, "_BLOCK", 1000)
    tracemalloc.start()
    assert len(read(content, RATE, 10).samples) == 30000
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4 * 30000 * 200 / 2


def test_without_the_extra_it_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    with pytest.raises(ConfigError, match=r"peftlab\[media\]"):
        reading.read(b"", RATE, 1)

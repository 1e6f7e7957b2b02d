"""Files to pixels: orientation, alpha, palettes, 16 bits, CMYK, animations; and what is no picture."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from peftlab.errors import DataError
from peftlab.images import pictures
from peftlab.images.pictures import decoded


def stored(image, kind="PNG", **options):
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


RED_BLUE = Image.fromarray(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8))


def test_exif_turns_it():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    found = decoded(stored(RED_BLUE, exif=exif))
    assert found.values.tolist() == [[[255, 0, 0]], [[0, 0, 255]]]
    assert found.oddities == {"turned"}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_shows_the_background(mode):
    if mode == "P":
        image = Image.new("P", (2, 1))
        image.putpalette([9, 9, 9, 200, 0, 0])
        image.putdata([0, 1])
        content, opaque = stored(image, transparency=0), [200, 0, 0]
    else:
        image = Image.new(mode, (2, 1))
        image.putdata([(0,) * (len(mode) - 1) + (0,), (200,) * (len(mode) - 1) + (255,)])
        content, opaque = stored(image), [200, 200, 200]
    assert decoded(content).values.tolist() == [[[255, 255, 255], opaque]]
    found = decoded(content, "#0000ff")
    assert found.values.tolist() == [[[0, 0, 255], opaque]]
    assert found.oddities == {"on_background"}


def test_sixteen_bits_are_not_cut_off():
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    found = decoded(stored(Image.fromarray(values)))
    assert found.values[0, :, 0].tolist() == [0, 1, 128, 255]
    assert (found.values == found.values[..., :1]).all()
    assert found.oddities == {"sixteen_bits"}


@pytest.mark.parametrize(
    ("mode", "kind"), [("L", "PNG"), ("1", "PNG"), ("CMYK", "JPEG"), ("P", "GIF"), ("RGB", "WEBP")]
)
def test_other_modes_become_rgb(mode, kind):
    found = decoded(stored(Image.new("RGB", (5, 4), "white").convert(mode), kind))
    assert found.values.shape == (4, 5, 3)
    assert found.values.dtype == np.uint8
    assert (found.values >= 250).all()
    assert not found.oddities


def test_of_an_animation_the_first_frame():
    frames = [Image.new("RGB", (3, 3), colour) for colour in ("red", "blue")]
    found = decoded(stored(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert found.values[0, 0].tolist() == [255, 0, 0]
    assert found.oddities == {"animated"}


def test_what_is_no_picture_says_so(monkeypatch):
    whole = stored(Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)), "JPEG")
    for content, reason in (
        (b"text", "is no picture that can be read"),
        (whole[: len(whole) // 2], "is no whole picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is no picture that can be read"),
        (stored(Image.new("F", (2, 2)), "TIFF"), "floating-point"),
    ):
        with pytest.raises(DataError, match=reason):
            decoded(content)
    monkeypatch.setattr(pictures, "MOST_PIXELS", 1599)
    with pytest.raises(DataError, match=r"40 x 40 pixels, 1,600; at most 1,599 are decoded"):
        decoded(whole)


def test_the_frames_of_a_long_animation_are_not_counted(monkeypatch):
    from PIL.GifImagePlugin import GifImageFile

    frames = [Image.new("L", (2, 2), n) for n in range(20)]
    content = stored(frames[0], "GIF", save_all=True, append_images=frames[1:])
    sought = []
    seek = GifImageFile._seek
    monkeypatch.setattr(
        GifImageFile, "_seek", lambda self, *args, **options: sought.append(args) or seek(self, *args, **options)
    )
    assert decoded(content).oddities == {"animated"}
    assert len(sought) < 6

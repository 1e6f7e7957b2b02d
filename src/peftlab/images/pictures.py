"""The pixels of a picture file: upright, opaque, in three channels of 8 bits."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from peftlab.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL import Image

MOST_PIXELS = 2**26
"""Pixels of the largest picture that is decoded, 67 million: a small file may claim any number of them."""

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""The formats that are read; others may start programs, as PostScript does."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
"""How the names of such files end."""


class Pixels(NamedTuple):
    """A decoded picture."""

    values: np.ndarray
    """Shape (height, width, 3), uint8."""
    oddities: frozenset[str]
    """What was done besides decoding: ``turned``, ``on_background``, ``animated``, ``sixteen_bits``."""


def decoded(content: bytes, background: str = "white") -> Pixels:
    """Return the pixels of a picture.

    It is turned as its EXIF orientation says. What is transparent shows the `background`. Of an animation, the first
    frame is taken. Grey values of 16 bits are divided by 257; greyscale, palettes and CMYK become RGB.

    Args:
        content: the bytes of the file.
        background: a colour, by a name of CSS or as ``#rrggbb``.

    Raises:
        DataError: it is no picture in one of the `FORMATS`, is incomplete, or has more than `MOST_PIXELS` pixels.
        ConfigError: Pillow is not installed.
    """
    image = _pillow()
    try:
        with image.open(BytesIO(content), formats=FORMATS) as picture:
            if (size := picture.width * picture.height) > MOST_PIXELS:
                raise DataError(
                    f"the picture has {picture.width:,} x {picture.height:,} pixels, {size:,}; at most {MOST_PIXELS:,} "
                    "are decoded. Make it smaller"
                )
            oddities = {"animated"} if getattr(picture, "is_animated", False) else set()
            picture.seek(0)
            return Pixels(_rgb(picture, background, oddities), frozenset(oddities))
    except DataError:
        raise
    except image.UnidentifiedImageError as error:
        raise DataError(f"is no picture that can be read; the formats are {', '.join(FORMATS)}") from error
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        raise DataError(f"is no whole picture ({error})") from error


def check_colour(name: str) -> None:
    """Raise ValueError for a `name` that is no colour."""
    from PIL import ImageColor

    ImageColor.getrgb(name)


def _rgb(picture: Image.Image, background: str, oddities: set[str]) -> np.ndarray:
    from PIL import Image, ImageOps

    if picture.getexif().get(0x0112, 1) != 1:
        picture = ImageOps.exif_transpose(picture)
        oddities.add("turned")
    if picture.mode.startswith("I"):  # Pillow's own conversion cuts all values off at 255
        values = np.asarray(picture, dtype=np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise DataError("its values are not within 0 to 65,535, so their range is unknown; save it with 8 bits")
        oddities.add("sixteen_bits")
        return np.repeat(((values + 128) // 257).astype(np.uint8)[..., None], 3, axis=-1)
    if picture.mode == "F":
        raise DataError("its values are floating-point numbers, whose range is unknown; save it with 8 bits")
    if picture.has_transparency_data:
        oddities.add("on_background")
        opaque = Image.new("RGBA", picture.size, background)
        picture = Image.alpha_composite(opaque, picture.convert("RGBA"))
    return np.array(picture.convert("RGB"))


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ConfigError("Pillow, which reads pictures, is not installed: pip install 'peftlab[media]'") from error
    Image.init()  # registers the formats beyond the most usual ones
    return Image

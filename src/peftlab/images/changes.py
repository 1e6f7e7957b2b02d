"""Seeded changes of training pictures: crop, flip, colours, and a part that is erased."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.images.recipe import Recipe, resize

_TRIES = 10
"""Draws of a rectangle's size before the centre of the picture is taken."""

_LUMA = np.asarray([0.299, 0.587, 0.114])
"""The share of each channel in the brightness of a pixel (ITU-R BT.601)."""


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Changes:
    """How training pictures are changed, in this order; each number is drawn anew in every epoch."""

    crop: float | None = Field(default=None, gt=0, le=1)
    """The least share of a picture's area that is kept: a rectangle of a drawn share and aspect ratio, 3:4 to 4:3, is
    resized to the input (Szegedy et al. 2015). None: the centre, as in evaluations."""
    flip: Literal["horizontal", "both"] | None = None
    """Whether half of the pictures are mirrored left to right; ``both``: and half of them top to bottom."""
    jitter: float = Field(default=0.0, ge=0, lt=1)
    """Brightness, contrast and saturation are multiplied by factors between ``1 - jitter`` and ``1 + jitter``."""
    erase: float = Field(default=0.0, ge=0, le=1)
    """The share of pictures of which a rectangle, 2 to 33 % of the area, becomes the mean colour of the model's
    normalisation (Zhong et al. 2020)."""

    @property
    def any(self) -> bool:
        """Whether pictures are changed."""
        return self.crop is not None or self.flip is not None or self.jitter > 0 or self.erase > 0

    def applied(self, pixels: np.ndarray, recipe: Recipe, random: np.random.Generator) -> np.ndarray:
        """Return a changed picture of the size of the model's input.

        Args:
            pixels: the resized picture, shape (height, width, 3), uint8.
            recipe: that of the model.
            random: the generator of this picture in this epoch.
        """
        box = None if self.crop is None else _rectangle(pixels.shape, (self.crop, 1.0), (3 / 4, 4 / 3), random)
        if box is None:
            pixels = recipe.centred(pixels)
        else:
            left, top, right, lower = box
            pixels = resize(pixels[top:lower, left:right], (recipe.height, recipe.width), recipe.resample)
        if self.flip is not None and random.random() < 0.5:
            pixels = pixels[:, ::-1]
        if self.flip == "both" and random.random() < 0.5:
            pixels = pixels[::-1]
        if self.jitter:
            pixels = _jittered(pixels, *random.uniform(1 - self.jitter, 1 + self.jitter, 3))
        if self.erase and random.random() < self.erase:
            box = _rectangle(pixels.shape, (0.02, 0.33), (0.3, 3.3), random)
            if box is not None:
                left, top, right, lower = box
                pixels = pixels.copy()
                pixels[top:lower, left:right] = np.clip(np.rint(np.divide(recipe.mean, recipe.scale)), 0, 255)
        return pixels


def _rectangle(
    shape: tuple[int, ...], shares: tuple[float, float], ratios: tuple[float, float], random: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """Return left, top, right and lower edge of a rectangle of a drawn area and aspect ratio; None: none has fitted."""
    height, width = shape[:2]
    for _ in range(_TRIES):
        area = height * width * random.uniform(*shares)
        ratio = math.exp(random.uniform(math.log(ratios[0]), math.log(ratios[1])))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            left, top = int(random.integers(width - wide + 1)), int(random.integers(height - high + 1))
            return left, top, left + wide, top + high
    return None


def _jittered(pixels: np.ndarray, brightness: float, contrast: float, saturation: float) -> np.ndarray:
    values = pixels * brightness
    values = contrast * values + (1 - contrast) * (values @ _LUMA).mean()
    values = saturation * values + (1 - saturation) * (values @ _LUMA)[..., None]
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
